"""``autopilot retry``, ``rerun`` and ``cancel``: act on runs."""

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.text import Text

from autopilot.api.schemas import RunAccepted, RunSummary
from autopilot.cli.exits import CommandFailed, ConfirmationNeeded, ExitCode
from autopilot.cli.options import (
    RUN_HELP,
    SOURCE,
    JsonOption,
    RunArgument,
    SinceOption,
    SourceOption,
    UrlOption,
    WorkflowOption,
    options_for,
    run_filter,
    with_runs,
)
from autopilot.cli.output import print_json, safe_text, status_text
from autopilot.cli.retry_views import retry_command
from autopilot.cli.run_source import RunSource, collect_runs, locate_run
from autopilot.cli.run_views import has_failed, print_accepted, print_runs
from autopilot.core.store import RunFilter
from autopilot.errors import AutopilotError
from autopilot.models import RunStatus, WorkflowRun
from autopilot.text import visible

_WAIT_SECONDS = 300.0
"""How long to wait for the end of a run behind an API, which then continues without the command."""

_WAIT_FOR_EACH_SECONDS = 5.0
"""The same for each of many runs."""

_UNCONFIRMED = "not retried: a step may already have taken effect"
_NOTHING = "Nothing to retry: no failed run matches."

Action = Callable[[RunSource, WorkflowRun], Awaitable[RunAccepted]]


def retry(
    *,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help=RUN_HELP)] = None,
    workflow: WorkflowOption = None,
    failed: Annotated[bool, typer.Option("--failed", help="Retry every failed run, the oldest first.")] = False,
    since: SinceOption = None,
    again_interrupted: Annotated[
        list[str] | None,
        typer.Option(metavar="STEP", help="Run this step again although it may already have taken effect; repeatable."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --failed: only list the runs that would be retried.")
    ] = False,
    url: UrlOption = None,
    source: SourceOption = SOURCE,
    as_json: JsonOption = False,
) -> None:
    """Retry a failed or cancelled run; or every failed run.

    The steps that failed it run again, and those that ran after the failure. All others keep their results.
    """
    if (run is None) == (not failed):
        raise CommandFailed(ExitCode.WRONG_USE, "name a RUN, or use --failed (with --since 2h, --workflow)")
    if run is None:
        if again_interrupted:
            raise CommandFailed(ExitCode.WRONG_USE, "--again-interrupted is used with one RUN, not with --failed")
        wanted = run_filter(workflow, RunStatus.FAILED, since=since)
        return with_runs(url, source, lambda runs: _retry_all(runs, wanted, url, dry_run=dry_run, as_json=as_json))
    if since is not None or dry_run:
        raise CommandFailed(ExitCode.WRONG_USE, "--since and --dry-run are used with --failed")

    async def resume(runs: RunSource, found: WorkflowRun) -> RunAccepted:
        try:
            return await runs.retry(
                found.workflow_id, found.id, wait=_WAIT_SECONDS, again_interrupted=again_interrupted or ()
            )
        except ConfirmationNeeded as needed:
            command = retry_command(found.id, needed.steps, options_for(url))
            steps = ", ".join(map(visible, needed.steps))
            reason = (
                f"these steps may already have taken effect: {steps}. Check whether they did, then type\n  {command}"
            )
            raise CommandFailed(needed.code, f"run {found.id} was not retried, because {reason}") from None

    return _act_on(run, workflow, resume, doing="Retrying", url=url, source=source, as_json=as_json)


def rerun(
    *,
    run: RunArgument,
    workflow: WorkflowOption = None,
    url: UrlOption = None,
    source: SourceOption = SOURCE,
    as_json: JsonOption = False,
) -> None:
    """Start a new run with the payload of an earlier one."""

    async def repeat(runs: RunSource, found: WorkflowRun) -> RunAccepted:
        return await runs.rerun(found.workflow_id, found.id, wait=_WAIT_SECONDS)

    _act_on(run, workflow, repeat, doing="Repeating", url=url, source=source, as_json=as_json)


def cancel(
    *,
    run: RunArgument,
    workflow: WorkflowOption = None,
    url: UrlOption = None,
    source: SourceOption = SOURCE,
    as_json: JsonOption = False,
) -> None:
    """Cancel a run; it ends at its next step."""

    async def end(runs: RunSource, found: WorkflowRun) -> RunAccepted:
        return await runs.cancel(found.workflow_id, found.id)

    _act_on(run, workflow, end, doing="Cancelling", url=url, source=source, as_json=as_json)


def _act_on(
    run_id: str, workflow: str | None, action: Action, *, doing: str, url: str | None, source: Path, as_json: bool
) -> None:
    """Find the run, perform ``action`` on it, and print the outcome."""

    async def find_and_act(runs: RunSource) -> RunAccepted:
        run = (await locate_run(runs, run_id, workflow)).run
        with Console(stderr=True).status(f"{doing} a run of {run.workflow_id}"):
            return await action(runs, run)

    accepted = with_runs(url, source, find_and_act)
    if as_json:
        print_json(accepted)
    else:
        print_accepted(Console(), accepted, options=options_for(url))
    if has_failed(accepted.status):
        raise typer.Exit(ExitCode.RUN_FAILED)


class RetryOutcome(BaseModel):
    """The outcome of one of many retries."""

    model_config = ConfigDict(frozen=True)

    workflow_id: str
    run_id: str
    status: RunStatus | None = Field(default=None, description="None: in progress, or not retried.")
    error: str | None = Field(default=None, description="Why it was not retried.")
    interrupted: tuple[str, ...] = Field(
        default=(), description="The steps that may already have taken effect, for which it was not retried."
    )


async def _retry_all(runs: RunSource, wanted: RunFilter, url: str | None, *, dry_run: bool, as_json: bool) -> None:
    found = (await collect_runs(runs, wanted)).runs
    found.reverse()  # the oldest first
    console = Console(stderr=as_json, highlight=False)
    if dry_run:
        if as_json:
            print_json(found)
        elif found:
            print_runs(console, found, more=False)
        console.print(f"{len(found)} would be retried." if found else _NOTHING)
        return
    outcomes = []
    for number, run in enumerate(found, 1):
        with Console(stderr=True).status(f"Retrying {number} of {len(found)}: {run.workflow_id}"):
            outcome = await _retried(runs, run)
        outcomes.append(outcome)
        if not as_json:
            line = safe_text(f"{outcome.run_id}  {outcome.workflow_id}  ")
            console.print(line.append_text(_outcome_text(outcome)), soft_wrap=True)
    if as_json:
        print_json(outcomes)
    console.print(_summary(outcomes) if found else _NOTHING)
    if unconfirmed := [outcome for outcome in outcomes if outcome.interrupted]:
        console.print(
            "\nSteps of these runs may already have taken effect. Check whether they did, then type", soft_wrap=True
        )
        for outcome in unconfirmed:
            command = retry_command(outcome.run_id, outcome.interrupted, options_for(url))
            console.print(Text(f"  {command}"), soft_wrap=True)
    if any(outcome.error is not None or has_failed(outcome.status) for outcome in outcomes):
        raise typer.Exit(ExitCode.RUN_FAILED)


async def _retried(runs: RunSource, run: RunSummary) -> RetryOutcome:
    outcome = RetryOutcome(workflow_id=run.workflow_id, run_id=run.id)
    try:
        accepted = await runs.retry(run.workflow_id, run.id, wait=_WAIT_FOR_EACH_SECONDS)
    except ConfirmationNeeded as needed:
        return outcome.model_copy(update={"error": _UNCONFIRMED, "interrupted": needed.steps})
    except CommandFailed as failure:
        if failure.code is ExitCode.REFUSED:  # so would be all the others
            raise
        return outcome.model_copy(update={"error": str(failure)})
    except AutopilotError as error:
        return outcome.model_copy(update={"error": str(error)})
    return outcome.model_copy(update={"status": accepted.status})


def _outcome_text(outcome: RetryOutcome) -> Text:
    if outcome.error is not None:
        return safe_text(outcome.error)
    return Text("… in progress") if outcome.status is None else status_text(outcome.status)


def _summary(outcomes: list[RetryOutcome]) -> str:
    """The number of retries with each outcome, as in ``3 retried: 2 success, 1 failed. 1 not retried.``."""
    retried = [outcome.status for outcome in outcomes if outcome.error is None]
    counts = Counter("in progress" if status is None else status.value for status in retried)
    parts = [f"{len(retried)} retried: {', '.join(f'{count} {status}' for status, count in counts.most_common())}."]
    if left := len(outcomes) - len(retried):
        parts = [*(parts if retried else []), f"{left} not retried."]
    return " ".join(parts)
