"""``autopilot retry``: failed runs go on at the step that failed."""

from collections import Counter
from datetime import UTC, datetime
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.text import Text

from autopilot.api.schemas import RunAccepted, RunSummary
from autopilot.cli.actions import WAIT_SECONDS, act_on, end_as
from autopilot.cli.exits import CommandFailed, ExitCode, fail
from autopilot.cli.options import (
    SOURCE,
    JsonOption,
    SinceOption,
    SourceOption,
    UrlOption,
    WorkflowOption,
    with_source,
)
from autopilot.cli.output import print_json
from autopilot.cli.rendering import bounded, status_text
from autopilot.cli.run_source import RunSource, collect_runs
from autopilot.cli.run_views import has_failed, print_runs
from autopilot.core.store import RunFilter
from autopilot.models import RunStatus, WorkflowRun

_NOTHING = "Nothing to retry: no such run has failed."
_WAIT_FOR_EACH = 5.0
"""How long the end of one of many runs is waited for, behind an API."""


def retry(
    *,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="The run's id, or how it begins.")] = None,
    workflow: WorkflowOption = None,
    failed: Annotated[bool, typer.Option("--failed", help="Every failed run, instead of one.")] = False,
    since: SinceOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be retried.")] = False,
    url: UrlOption = None,
    source: SourceOption = SOURCE,
    as_json: JsonOption = False,
) -> None:
    """Have a failed run go on at its first unrecorded step, as a new attempt; or every failed run."""
    if (run is None) == (not failed):
        fail(ExitCode.WRONG_USE, "say which: RUN, or --failed (with --since 2h, and --workflow)")
    if run is not None and (since is not None or dry_run):
        fail(ExitCode.WRONG_USE, "--since and --dry-run go with --failed")
    if run is not None:
        accepted = act_on(_retry_one, run, workflow, url=url, source=source, doing="Retrying", as_json=as_json)
        return end_as(accepted)
    wanted = RunFilter(
        workflow_id=workflow,
        status=RunStatus.FAILED,
        since=None if since is None else datetime.now(UTC) - since,
    )
    return with_source(url, source, lambda runs: _retry_all(runs, wanted, dry_run=dry_run, as_json=as_json))


async def _retry_one(runs: RunSource, run: WorkflowRun) -> RunAccepted:
    return await runs.retry(run.workflow_id, run.id, wait=WAIT_SECONDS)


class RetryOutcome(BaseModel):
    """What came of one of many runs."""

    model_config = ConfigDict(frozen=True)

    workflow_id: str
    run_id: str
    status: RunStatus | None = Field(default=None, description="None: it goes on, or could not be retried.")
    error: str | None = Field(default=None, description="Why it could not be retried.")


async def _retry_all(runs: RunSource, wanted: RunFilter, *, dry_run: bool, as_json: bool) -> None:
    found = (await collect_runs(runs, wanted)).runs
    found.reverse()  # in the order in which they were asked for
    console = Console(stderr=as_json, highlight=False)
    if dry_run:
        _tell(console, found, as_json=as_json)
        return
    outcomes = []
    for number, run in enumerate(found, 1):
        with Console(stderr=True).status(f"Retrying {number} of {len(found)}: {run.workflow_id}"):
            outcome = await _outcome(runs, run)
        outcomes.append(outcome)
        if not as_json:
            console.print(_line(outcome), soft_wrap=True)
    if as_json:
        print_json(outcomes)
    console.print(f"{len(found)} retried: {_tally(outcomes)}." if found else _NOTHING)
    if any(outcome.error is not None or has_failed(outcome.status) for outcome in outcomes):
        raise typer.Exit(ExitCode.RUN_FAILED)


def _tell(console: Console, found: list[RunSummary], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    elif found:
        print_runs(console, found, more=False)
    console.print(f"{len(found)} would be retried." if found else _NOTHING)


async def _outcome(runs: RunSource, run: RunSummary) -> RetryOutcome:
    outcome = RetryOutcome(workflow_id=run.workflow_id, run_id=run.id)
    try:
        accepted = await runs.retry(run.workflow_id, run.id, wait=_WAIT_FOR_EACH)
    except CommandFailed as failure:
        if failure.code in {ExitCode.REFUSED, ExitCode.INTERRUPTED}:  # the next one would be refused too
            raise
        return outcome.model_copy(update={"error": str(failure)})
    return outcome.model_copy(update={"status": accepted.status})


def _line(outcome: RetryOutcome) -> Text:
    line = bounded(f"{outcome.run_id}  {outcome.workflow_id}  ")
    if outcome.error is not None:
        return line.append(bounded(outcome.error))
    return line.append("… goes on" if outcome.status is None else status_text(outcome.status))


def _tally(outcomes: list[RetryOutcome]) -> str:
    """How many of them ended how: ``2 success, 1 failed``."""
    counts = Counter(
        "refused" if outcome.error is not None else "not over yet" if outcome.status is None else outcome.status.value
        for outcome in outcomes
    )
    return ", ".join(f"{count} {word}" for word, count in counts.most_common())
