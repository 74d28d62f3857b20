"""The command: its subcommands, and what all of them have in common."""

import sys
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from autopilot.cli.actions import cancel, rerun, retry
from autopilot.cli.dashboard import dashboard
from autopilot.cli.doctor import doctor
from autopilot.cli.exits import exit_on_failure
from autopilot.cli.init import init
from autopilot.cli.logs import logs
from autopilot.cli.manifest import manifest
from autopilot.cli.new import new
from autopilot.cli.run import run
from autopilot.cli.runs import runs, show
from autopilot.cli.serve import dev, serve
from autopilot.errors import SettingsInvalid
from autopilot.settings import load_settings
from autopilot.version import VERSION


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        with exit_on_failure():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Durable workflows for Google Cloud Functions.",
)


def _print_version(asked: bool) -> None:  # noqa: FBT001 - Typer calls it
    if asked:
        typer.echo(VERSION)
        raise typer.Exit


@app.callback()
def prepare(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Durable workflows for Google Cloud Functions."""
    # Options have environment variables, which .env may set. A command that needs the settings reports what is wrong.
    with suppress(SettingsInvalid):
        load_settings()
    # Text from runs is printed whatever the terminal's encoding can represent.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


for command in (init, new, dev, run, serve, runs, show, logs, retry, rerun, cancel, manifest, dashboard, doctor):
    app.command()(command)
