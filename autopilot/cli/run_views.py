"""Runs of the past as a person likes to read them: in a list, and one with all that is known of it."""

from collections.abc import Iterator
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from autopilot.api.schemas import AttemptDetail, RunAccepted, RunDetail, RunSummary, StepDetail
from autopilot.api.tracebacks import SourceLocation
from autopilot.cli.listing import print_listing
from autopilot.cli.rendering import bounded, facts_table, panel_width, result_text, status_text
from autopilot.models import RunStatus, StepStatus, WorkflowRun
from autopilot.text import duration_text, relative_text

_ID_LENGTH = 12
"""As much of a run's id as tells the latest runs apart, where the terminal is not wide."""

_SHORT_ID_LENGTH = 8

_DUE = {
    RunStatus.RUNNING: "Held until",  # then another attempt may go on
    RunStatus.PAUSED: "Waits until",
    RunStatus.SLEEPING: "Goes on",
}
_NAME_LENGTH, _SHORT_NAME_LENGTH = 16, 12
_WIDE = 120
_NARROW = 64
_CODE_LENGTH = 60
_STEPS_SHOWN = 200
_STEP_LOOKS = {
    StepStatus.SUCCESS: ("✔", "green"),
    StepStatus.FAILED: ("✘", "red"),
    StepStatus.INTERRUPTED: ("✘", "yellow"),
    StepStatus.STARTED: ("…", "cyan"),
}


def print_runs(console: Console, runs: list[RunSummary], *, more: bool) -> None:
    """Print a list of runs, newest first."""
    is_wide, is_narrow = console.width >= _WIDE, console.width < _NARROW
    id_length, name_length = (_SHORT_ID_LENGTH, _SHORT_NAME_LENGTH) if is_narrow else (_ID_LENGTH, _NAME_LENGTH)
    rows = [
        (
            bounded(run.id if is_wide else run.id[:id_length]),
            _cut(run.workflow_id, _WIDE if is_wide else name_length),
            status_text(run.status),
            Text(f"{run.started_at:%m-%d %H:%M}" if is_narrow else f"{run.started_at:%m-%d %H:%M:%S}"),
            Text("" if run.duration_ms is None else duration_text(run.duration_ms)),
            _in_a_line(run.error_type, run.error),
        )
        for run in runs
    ]
    print_listing(console, ("Run", "Workflow", "Status", "Began (UTC)", "Took", "Error"), rows, right="Took")
    if more:
        console.print(Text("There are more: --limit shows them, --status and --since choose.", style="dim"))


def print_detail(
    console: Console, detail: RunDetail, *, now: datetime, options: str, has_log: bool, raised_at: SourceLocation | None
) -> None:
    """Print a run: what failed and why, everything else that is known of it, and what can be done.

    Args:
        now: tells the age of the run.
        options: what stands in a command that acts on the run, beside its id.
        has_log: `autopilot logs` has something to show.
        raised_at: the line of code that the error comes from, where it is known.
    """
    run = detail.run
    title = Text(run.workflow_id, style="bold")
    parts: list[RenderableType] = [_headline(run), Text()]
    if run.error is not None or detail.failed_step is not None:
        parts += [_failure(detail, raised_at), Text()]
    parts += [_facts(detail, now)]
    if run.trigger_data:
        parts += [Text(), Text("Payload", style="bold"), result_text(run.trigger_data)]
    if run.result is not None:
        parts += [Text(), Text("Result", style="bold"), result_text(run.result)]
    console.print(Panel(Group(*parts), title=title, title_align="left", width=panel_width(console)))
    if detail.steps:
        _print_steps(console, detail.steps)
    if len(detail.attempts) > 1:
        _print_attempts(console, detail.attempts)
    console.print(Group(Text("\n  Its lines in Cloud Logging", style="dim"), _log_query(detail), Text()))
    for hint in _hints(detail, options, has_log=has_log):
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


def _failure(detail: RunDetail, raised_at: SourceLocation | None) -> Table:
    run, failure = detail.run, facts_table()
    if detail.failed_step is not None:
        failure.add_row("Failed at", _bold(detail.failed_step))
    if run.error is not None:
        failure.add_row("Error", _error(run.error_type, run.error))
    if raised_at is not None:
        place = f"{raised_at.file}:{raised_at.line} in {raised_at.function}"
        failure.add_row("Raised at", bounded(place))
        if raised_at.code:
            failure.add_row("", _dimmed(_cut(raised_at.code, _CODE_LENGTH).plain))
    return failure


def _facts(detail: RunDetail, now: datetime) -> Table:
    run, facts = detail.run, facts_table()
    facts.add_row("Run", bounded(run.id))
    facts.add_row("Trigger", run.trigger_type.value)
    facts.add_row("Started", f"{_time(run.started_at)}, {relative_text(run.started_at, now)}")
    if run.completed_at is not None:
        facts.add_row("Ended", _time(run.completed_at))
    if run.waiting_for:
        facts.add_row("Waits for", bounded(run.waiting_for))
    if run.due_at is not None:
        facts.add_row(_DUE.get(run.status, "Due"), f"{_time(run.due_at)}, {relative_text(run.due_at, now)}")
    facts.add_row("Attempts", str(run.attempt))
    if run.rerun_of is not None:
        facts.add_row("Rerun of", bounded(run.rerun_of))
    known = {"version": run.version, "source": run.fingerprint, "service": detail.attempts[-1].revision}
    if revision := ", ".join(f"{name} {value}" for name, value in known.items() if value):
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


def _log_query(detail: RunDetail) -> Text:
    return Text("\n".join(f"  {line}" for line in detail.log_query.splitlines()))


def _hints(detail: RunDetail, options: str, *, has_log: bool) -> Iterator[Text]:
    has_failed_itself = detail.run.status is RunStatus.FAILED
    at = f"at step {detail.failed_step}" if detail.failed_step else "where it ended"
    words = {
        "logs": "what it logged, with the stack trace" if has_failed_itself else "what it logged",
        "retry": f"once it is mended: goes on {at}" if has_failed_itself else f"goes on {at}",
        "cancel": "ends it at its next step",
        "rerun": "a new run of the same payload",
    }
    possible = [*(["logs"] if has_log else []), *detail.actions]
    commands = {
        action: f"  autopilot {action} {detail.run.id[:_ID_LENGTH]}{options}" for action in words if action in possible
    }
    width = max(map(len, commands.values()), default=0)
    for action, command in commands.items():
        yield Text(f"{command:<{width}}   ").append_text(_dimmed(words[action]))


def _dimmed(text: str) -> Text:
    dimmed = bounded(text)
    dimmed.stylize("dim")
    return dimmed


def _bold(text: str) -> Text:
    bold = bounded(text)
    bold.stylize("bold")
    return bold


def _error(kind: str | None, error: str) -> Text:
    told = bounded(f"{kind}: {error}" if kind else error)
    told.stylize("red")
    return told


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
