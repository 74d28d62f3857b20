"""Options that several commands share, and the run source that they select."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from autopilot.cli.api_runs import ApiRuns
from autopilot.cli.credentials import api_credentials, checked_url
from autopilot.cli.exits import CommandFailed, ExitCode
from autopilot.cli.local_runs import LocalRuns
from autopilot.cli.run_source import RunSource
from autopilot.core.store import RunFilter
from autopilot.models import RunStatus
from autopilot.settings import load_settings
from autopilot.text import duration_from

T = TypeVar("T")

SOURCE = Path("main.py")

RUN_HELP = "The run's id, or its first characters."
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP)]
WorkflowOption = Annotated[str | None, typer.Option("--workflow", "-w", help="Only runs of this workflow.")]
UrlOption = Annotated[
    str | None,
    typer.Option("--url", envvar="AUTOPILOT_URL", help="URL of a deployed API. Default: the runs on this machine."),
]
SourceOption = Annotated[Path, typer.Option(help="The bundle's main.py.")]
PortOption = Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


def _duration(text: str) -> timedelta:
    try:
        return duration_from(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


SinceOption = Annotated[
    timedelta | None,
    typer.Option(parser=_duration, metavar="DURATION", help="Started at most this long ago: 30m, 2h, 7d, 1h30m."),
]
UntilOption = Annotated[
    timedelta | None,
    typer.Option(parser=_duration, metavar="DURATION", help="Started at least this long ago."),
]


def run_filter(
    workflow: str | None,
    status: RunStatus | None,
    *,
    since: timedelta | None = None,
    until: timedelta | None = None,
) -> RunFilter:
    """The filter that options select; ``since`` and ``until`` are counted back from now.

    Raises:
        CommandFailed: ``until`` is not later than ``since``.
    """
    if since is not None and until is not None and until >= since:
        raise CommandFailed(ExitCode.WRONG_USE, "--until: it must be a shorter time ago than --since")
    now = datetime.now(UTC)
    return RunFilter(
        workflow_id=workflow,
        status=status,
        since=None if since is None else now - since,
        until=None if until is None else now - until,
    )


def options_for(url: str | None) -> str:
    """The options with which a suggested command works on the same runs."""
    return f" --url {url}" if url else ""


def with_runs(url: str | None, source: Path, work: Callable[[RunSource], Awaitable[T]]) -> T:
    """Call ``work`` with the runs of the API at ``url``, or else of this machine; return its result."""

    async def open_and_work() -> T:
        runs: RunSource = (
            ApiRuns(checked_url(url), credentials=api_credentials(url)) if url else LocalRuns(load_settings(), source)
        )
        try:
            return await work(runs)
        finally:
            await runs.close()

    return asyncio.run(open_and_work())
