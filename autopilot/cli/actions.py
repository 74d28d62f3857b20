"""What is done with one run, and what came of it."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import typer
from rich.console import Console

from autopilot.api.schemas import RunAccepted
from autopilot.cli.exits import ExitCode
from autopilot.cli.options import with_source
from autopilot.cli.output import print_json
from autopilot.cli.run_source import RunSource, locate_run
from autopilot.cli.run_views import has_failed, print_accepted
from autopilot.models import WorkflowRun

WAIT_SECONDS = 300.0
"""How long the end of a run is waited for; behind an API it goes on without us."""

Action = Callable[[RunSource, WorkflowRun], Awaitable[RunAccepted]]


def act_on(
    action: Action, run_id: str, workflow: str | None, *, url: str | None, source: Path, doing: str, as_json: bool
) -> RunAccepted:
    """Find the run and have ``action`` done with it; print what came of it.

    Args:
        doing: what the person is told meanwhile.
    """

    async def find_and_act(runs: RunSource) -> RunAccepted:
        run = (await locate_run(runs, run_id, workflow)).run
        with Console(stderr=True).status(f"{doing} a run of {run.workflow_id}"):
            return await action(runs, run)

    accepted = with_source(url, source, find_and_act)
    if as_json:
        print_json(accepted)
    else:
        print_accepted(Console(), accepted, options=f" --url {url}" if url else "")
    return accepted


def end_as(accepted: RunAccepted) -> None:
    """End the command with the code that the run's end asks for."""
    if has_failed(accepted.status):
        raise typer.Exit(ExitCode.RUN_FAILED)
