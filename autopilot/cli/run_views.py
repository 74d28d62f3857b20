"""Runs of the past as a person likes to read them: in a list, and one with all that is known of it."""

from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from autopilot.api.schemas import AttemptDetail, RunAccepted, RunDetail, RunSummary, StepDetail
from autopilot.cli.listing import print_listing
from autopilot.cli.rendering import bounded, facts_table, panel_width, result_text, status_text
from autopilot.durations import duration_text
from autopilot.models import RunStatus, StepStatus, WorkflowRun

_ID_LENGTH = 12
"""As much of a run's id as tells the latest runs apart, where the terminal is narrow."""

_NAME_LENGTH = 16
_WIDE = 120
_STEPS_SHOWN = 200
_STEP_LOOKS = {
    StepStatus.SUCCESS: ("✔", "green"),
    StepStatus.FAILED: ("✘", "red"),
    StepStatus.INTERRUPTED: ("✘", "yellow"),
    StepStatus.STARTED: ("…", "cyan"),
}


def print_runs(console: Console, runs: list[RunSummary], *, more: bool) -> None:
    """Print a list of runs, newest first."""
    is_wide = console.width >= _WIDE
    rows = [
        (
            bounded(run.id if is_wide else run.id[:_ID_LENGTH]),
            _cut(run.workflow_id, _WIDE if is_wide else _NAME_LENGTH),
            status_text(run.status),
            Text(f"{run.started_at:%m-%d %H:%M:%S}"),
            Text("" if run.duration_ms is None else duration_text(run.duration_ms)),
            _in_a_line(run.error_type, run.error),
        )
        for run in runs
    ]
    print_listing(console, ("Run", "Workflow", "Status", "Started (UTC)", "Took", "Error"), rows, right="Took")
    if more:
        console.print(Text("There are more: --limit shows them, --status and --since choose.", style="dim"))


def print_detail(console: Console, detail: RunDetail, *, options: str) -> None:
    """Print a run with its attempts, its steps, where it failed, and what can be done.

    Args:
        options: what stands in a command that acts on the run, beside its id.
    """
    run = detail.run
    title = Text(run.workflow_id, style="bold")
    parts: list[RenderableType] = [_headline(run), Text(), _facts(detail)]
    if run.trigger_data:
        parts += [Text(), Text("Payload", style="bold"), result_text(run.trigger_data)]
    if run.result is not None:
        parts += [Text(), Text("Result", style="bold"), result_text(run.result)]
    console.print(Panel(Group(*parts), title=title, title_align="left", width=panel_width(console)))
    if detail.steps:
        _print_steps(console, detail.steps)
    if len(detail.attempts) > 1:
        _print_attempts(console, detail.attempts)
    console.print(_log_query(detail))
    for hint in _hints(detail, options):
        console.print(hint, soft_wrap=True)


def print_accepted(console: Console, accepted: RunAccepted, *, options: str) -> None:
    """Print what came of an action."""
    line = Text("Run ").append(accepted.run_id, style="bold").append(f" of {accepted.workflow_id}: ")
    line.append("not over yet" if accepted.status is None else status_text(accepted.status))
    if accepted.replayed:
        line.append(" (it was over before)")
    console.print(line, soft_wrap=True)
    console.print(Text(f"autopilot show {accepted.run_id}{options}", style="dim"), soft_wrap=True)


def has_failed(status: RunStatus | None) -> bool:
    """Whether a run in this status did not do what it was there for."""
    return status in {RunStatus.FAILED, RunStatus.CANCELLED}


def _headline(run: WorkflowRun) -> Text:
    headline = status_text(run.status)
    if run.duration_ms is not None:
        headline.append(f" in {duration_text(run.duration_ms)}")
    return headline


def _facts(detail: RunDetail) -> Table:
    run, facts = detail.run, facts_table()
    facts.add_row("Run", bounded(run.id))
    facts.add_row("Trigger", run.trigger_type.value)
    facts.add_row("Started", _time(run.started_at))
    if run.completed_at is not None:
        facts.add_row("Ended", _time(run.completed_at))
    if run.due_at is not None:
        facts.add_row("Due", _time(run.due_at))
    if run.waiting_for:
        facts.add_row("Waits for", bounded(run.waiting_for))
    if detail.failed_step is not None:
        facts.add_row("Failed at", bounded(detail.failed_step))
    if run.error is not None:
        facts.add_row("Error", bounded(f"{run.error_type}: {run.error}" if run.error_type else run.error))
    if run.attempt > 1:
        facts.add_row("Attempt", str(run.attempt))
    if run.rerun_of is not None:
        facts.add_row("Rerun of", bounded(run.rerun_of))
    revision = ", source ".join(filter(None, [f"version {run.version}" if run.version else "", run.fingerprint]))
    if revision:
        facts.add_row("Revision", bounded(revision))
    return facts


def _print_steps(console: Console, steps: list[StepDetail]) -> None:
    rows = [
        (
            _cut(step.key, console.width // 2),
            Text(f"{_STEP_LOOKS[step.status][0]} {step.status.value}", style=_STEP_LOOKS[step.status][1]),
            Text(str(step.tries)),
            Text("" if step.duration_ms is None else duration_text(step.duration_ms)),
            _in_a_line(step.error_type, step.error),
        )
        for step in steps[:_STEPS_SHOWN]
    ]
    print_listing(console, ("Step", "Status", "Tries", "Took", "Error"), rows, indent=2, right="Tries Took")
    if len(steps) > _STEPS_SHOWN:
        console.print(Text(f"  … {len(steps) - _STEPS_SHOWN:,} more; --json has them all", style="dim"))


def _print_attempts(console: Console, attempts: list[AttemptDetail]) -> None:
    rows = [
        (
            Text(f"{attempt.number}{' (retry)' if attempt.reopened else ''}"),
            Text(f"{attempt.started_at:%m-%d %H:%M:%S}"),
            Text("" if attempt.ended_at is None else f"{attempt.ended_at:%m-%d %H:%M:%S}"),
            bounded(attempt.outcome or ""),
        )
        for attempt in attempts
    ]
    console.print()
    print_listing(console, ("Attempt", "Began (UTC)", "Ended (UTC)", "Outcome"), rows, indent=2)


def _log_query(detail: RunDetail) -> RenderableType:
    query = detail.log_query.replace("\n", "\n  ")
    return Group(Text("\n  Its lines in Cloud Logging", style="dim"), Text(f"  {query}"))


def _hints(detail: RunDetail, options: str) -> list[Text]:
    words = {"retry": "goes on at the step that failed" if detail.failed_step else "goes on where it ended"}
    words |= {"cancel": "ends it at its next step", "rerun": "is a new run of the same payload"}
    hints = [Text()]
    for action in ("retry", "cancel", "rerun"):
        if action in detail.actions:
            hint = Text(f"  autopilot {action} {detail.run.id[:_ID_LENGTH]}{options}")
            hints.append(hint.append(f"   {words[action]}", style="dim"))
    return hints


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _in_a_line(kind: str | None, error: str | None) -> Text:
    if error is None and kind is None:
        return Text()
    told = bounded(": ".join(filter(None, [kind, error])))
    return Text(" ".join(told.plain.split()))


def _cut(text: str, length: int) -> Text:
    shown = bounded(text).plain
    return Text(shown if len(shown) <= length else f"{shown[: length - 1]}…")
