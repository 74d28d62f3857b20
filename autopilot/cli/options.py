"""Options that several commands share, and what they stand for."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from autopilot.cli.addresses import checked_url, is_googles
from autopilot.cli.api_runs import ApiRuns
from autopilot.cli.exits import CommandFailed, ExitCode, told
from autopilot.cli.google_account import CallerHeaders, identity_token
from autopilot.cli.local_runs import LocalRuns
from autopilot.cli.run_source import RunSource
from autopilot.errors import SettingsInvalid
from autopilot.settings import Settings, load_settings
from autopilot.text import duration_from

T = TypeVar("T")

SOURCE = Path("main.py")

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or how it begins.")]
WorkflowOption = Annotated[
    str | None, typer.Option("--workflow", "-w", help="The run's workflow, where the id does not tell.")
]
UrlOption = Annotated[
    str | None,
    typer.Option("--url", envvar="AUTOPILOT_URL", help="A deployed API. Without it, the history of this machine."),
]
SourceOption = Annotated[Path, typer.Option(help="The module that names the functions.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


def _duration(text: str) -> timedelta:
    try:
        return duration_from(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


SinceOption = Annotated[
    timedelta | None,
    typer.Option(parser=_duration, metavar="DURATION", help="How far back, as in 30m, 2h, 7d or 1h30m."),
]


def with_source(url: str | None, main: Path, work: Callable[[RunSource], Awaitable[T]]) -> T:
    """Do ``work`` with the runs that the options name; what goes wrong ends the command."""

    async def open_and_work() -> T:
        async with _opened(url, main) as source:
            return await work(source)

    with told():
        return asyncio.run(open_and_work())


def settings_or_fail() -> Settings:
    """The settings; a wrong one ends the command.

    Raises:
        CommandFailed
    """
    try:
        return load_settings()
    except SettingsInvalid as error:
        raise CommandFailed(ExitCode.WRONG_USE, str(error)) from None


def caller_headers(url: str) -> CallerHeaders:
    """What a caller of a deployed API is known by.

    Raises:
        CommandFailed: a setting is wrong.
    """
    key = settings_or_fail().api_key
    needs_token = is_googles(url)
    return CallerHeaders(
        key=None if key is None else key.get_secret_value(), fetch_token=identity_token if needs_token else None
    )


@asynccontextmanager
async def _opened(url: str | None, main: Path) -> AsyncIterator[RunSource]:
    source: RunSource = (
        ApiRuns(checked_url(url), headers=caller_headers(url)) if url else LocalRuns(settings_or_fail(), main)
    )
    try:
        yield source
    finally:
        await source.close()
