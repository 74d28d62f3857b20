"""The command's tree: one module per subcommand."""

import sys
from contextlib import suppress
from typing import Annotated

import typer

from autopilot.cli.cancel import cancel
from autopilot.cli.dashboard import dashboard
from autopilot.cli.dev import dev
from autopilot.cli.doctor import doctor
from autopilot.cli.init import init
from autopilot.cli.logs import logs
from autopilot.cli.manifest import manifest
from autopilot.cli.new import new
from autopilot.cli.output import print_line
from autopilot.cli.rerun import rerun
from autopilot.cli.retry import retry
from autopilot.cli.run import run
from autopilot.cli.runs import runs
from autopilot.cli.serve import serve
from autopilot.cli.show import show
from autopilot.errors import SettingsInvalid
from autopilot.settings import load_settings
from autopilot.version import VERSION

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Durable workflows for Google Cloud Functions.",
)


def _print_version(asked: bool) -> None:  # noqa: FBT001 - Typer calls it
    if asked:
        print_line(VERSION)
        raise typer.Exit


@app.callback()
def prepare(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Durable workflows for Google Cloud Functions."""
    # Options can come from variables, and those from .env; what is wrong in it is told by whoever needs the settings.
    with suppress(SettingsInvalid):
        load_settings()
    # What a workflow found in the world is printed, whatever the terminal can show.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


for command in (init, new, dev, run, serve, runs, show, logs, retry, rerun, cancel, manifest, dashboard, doctor):
    app.command()(command)
