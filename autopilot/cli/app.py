"""The command's tree: one module per subcommand."""

import sys

import typer

from autopilot.cli.cancel import cancel
from autopilot.cli.dashboard import dashboard
from autopilot.cli.dev import dev
from autopilot.cli.doctor import doctor
from autopilot.cli.init import init
from autopilot.cli.logs import logs
from autopilot.cli.new import new
from autopilot.cli.rerun import rerun
from autopilot.cli.retry import retry
from autopilot.cli.run import run
from autopilot.cli.runs import runs
from autopilot.cli.serve import serve
from autopilot.cli.show import show

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Durable workflows for Google Cloud Functions.",
)


@app.callback()
def prepare() -> None:
    """Durable workflows for Google Cloud Functions."""
    # What a workflow found in the world is printed, whatever the terminal can show.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


for command in (init, new, dev, run, serve, runs, show, logs, retry, rerun, cancel, dashboard, doctor):
    app.command()(command)
