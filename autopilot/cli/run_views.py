"""Runs as a person reads them: the result of a run, a list of runs, and one run in full."""

from collections.abc import Iterator
from datetime import datetime

from pydantic import BaseModel, ConfigDict
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from autopilot.api.schemas import AttemptDetail, RunAccepted, RunDetail, RunSummary, StepDetail, count_attempts
from autopilot.api.tracebacks import SourceLocation
from autopilot.cli.output import (
    error_text,
    facts_table,
    one_line,
    print_rows,
    rows_table,
    safe_text,
    status_text,
    value_text,
)
from autopilot.cli.retry_views import print_retry, print_tries
from autopilot.models import RunStatus, StepStatus, WorkflowRun
from autopilot.text import duration_text, relative_text

_SHORT_ID_LENGTH = 12
"""As much of a run's id as tells recent runs apart."""

_WIDE = 120
"""Columns of a terminal that has room for whole ids."""

_PANEL_WIDTH = 100
_STEPS_SHOWN = 200
_DUE_LABELS = {
    RunStatus.RUNNING: "Lease ends",  # another attempt may take over then
    RunStatus.PAUSED: "Waits until",
    RunStatus.SLEEPING: "Resumes",
}
_STEP_STYLES = {
    StepStatus.SUCCESS: ("✔", "green"),
    StepStatus.FAILED: ("✘", "red"),
    StepStatus.INTERRUPTED: ("✘", "yellow"),
    StepStatus.STARTED: ("…", "cyan"),
}


class WorkflowTotals(BaseModel):
    """The fields of a function's ``GET /`` that sum up the workflow's history."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    total_runs: int
    success_rate: float
    last_run: WorkflowRun | None = None
    by_status: dict[str, int] = {}
    stale: bool = False


def has_failed(status: RunStatus | None) -> bool:
    """Return True if a run in this status ended without doing its work."""
    return status in {RunStatus.FAILED, RunStatus.CANCELLED}


def print_run(
    console: Console, run: WorkflowRun, totals: WorkflowTotals | None, *, persisted: bool, store: str
) -> None:
    """Print a run that has just ended, and its workflow's totals; ``store`` describes where they are kept."""
    facts = facts_table()
    facts.add_row("Run", safe_text(run.id))
    facts.add_row("Started", _time(run.started_at))
    if (attempts := count_attempts(run)) > 1:
        facts.add_row("Attempts", f"{attempts:,}")
    if run.waiting_for:
        facts.add_row("Waiting for", safe_text(run.waiting_for))
    if run.error is not None:
        facts.add_row("Error", safe_text(error_text(run.error_type, run.error)))
    _print_panel(console, run, facts, *_section("Result", run.result))
    console.print(_totals(totals, persisted=persisted, store=store))


def print_runs(console: Console, runs: list[RunSummary], *, more: bool) -> None:
    """Print a list of runs, newest first."""
    table = rows_table("Run", "Workflow", "Status", "Started (UTC)", "Duration", right="Duration", flexible="Workflow")
    for run in runs:
        table.add_row(
            one_line(run.id if console.width >= _WIDE else run.id[:_SHORT_ID_LENGTH]),
            one_line(run.workflow_id),
            status_text(run.status),
            f"{run.started_at:%m-%d %H:%M:%S}",
            _duration(run.duration_ms),
        )
    print_rows(console, table, [error_text(run.error_type, run.error) for run in runs])
    if more:
        console.print(Text("There are more runs: raise --limit, or filter with --status, --since, --until.", "dim"))


def print_detail(
    console: Console, detail: RunDetail, *, now: datetime, options: str, has_log: bool, raised_at: SourceLocation | None
) -> None:
    """Print everything that is recorded of a run, its failure first, and the commands for what can be done.

    Args:
        now: the time to which ages are relative.
        options: the options of a command that acts on the run.
        has_log: whether `autopilot logs` has lines of this run.
        raised_at: the line of code that raised the error, if known.
    """
    run, failure = detail.run, facts_table()
    if detail.failed_step is not None:
        titles = {step.key: step.title for step in detail.steps}
        failure.add_row("Failed step", safe_text(titles.get(detail.failed_step, detail.failed_step), style="bold"))
    if run.error is not None:
        failure.add_row("Error", safe_text(error_text(run.error_type, run.error), style="red"))
    if raised_at is not None:
        failure.add_row("Raised at", safe_text(f"{raised_at.file}:{raised_at.line} in {raised_at.function}"))
        if raised_at.code:
            failure.add_row("", one_line(raised_at.code))
    parts: list[RenderableType] = [failure, Text()] if failure.row_count else []
    parts += [_facts(detail, now), *_section("Payload", run.trigger_data or None), *_section("Result", run.result)]
    _print_panel(console, run, *parts)
    if detail.steps:
        _print_steps(console, detail.steps)
        print_tries(console, detail)
    if len(detail.attempts) > 1:
        _print_attempts(console, detail.attempts)
    print_retry(console, detail, run.id[:_SHORT_ID_LENGTH], options)
    console.print(Text("\n  Query for Cloud Logging", style="dim"))
    for line in detail.log_query.splitlines():
        console.print(Text("  ").append_text(safe_text(line)), soft_wrap=True)
    console.print()
    for hint in _hints(detail, options, has_log=has_log):
        console.print(hint, soft_wrap=True)


def print_accepted(console: Console, accepted: RunAccepted, *, options: str) -> None:
    """Print the outcome of an action on a run."""
    line = Text("Run ").append(accepted.run_id, style="bold").append(f" of {accepted.workflow_id}: ")
    line.append("in progress" if accepted.status is None else status_text(accepted.status))
    if accepted.replayed:
        line.append(" (it had ended before)")
    console.print(line, soft_wrap=True)
    console.print(Text(f"autopilot show {accepted.run_id}{options}", style="dim"), soft_wrap=True)


def _print_panel(console: Console, run: WorkflowRun, *parts: RenderableType) -> None:
    headline = status_text(run.status)
    if run.duration_ms is not None:
        headline.append(f" in {duration_text(run.duration_ms)}")
    title = Text(run.workflow_id, style="bold")
    width = min(console.width, _PANEL_WIDTH)
    console.print(Panel(Group(headline, Text(), *parts), title=title, title_align="left", width=width))


def _totals(totals: WorkflowTotals | None, *, persisted: bool, store: str) -> Table:
    facts = facts_table(indent=2)
    if totals is None:
        facts.add_row("Totals", "not available")
    else:
        facts.add_row("Total runs", f"{totals.total_runs:,}{' (from memory)' if totals.stale else ''}")
        facts.add_row("Success rate", f"{totals.success_rate:.1f} %")
        if len(totals.by_status) > 1:
            counts = sorted(totals.by_status.items(), key=lambda item: -item[1])
            facts.add_row("By status", ", ".join(f"{count:,} {status}" for status, count in counts))
        if (last := totals.last_run) is not None:
            facts.add_row("Last run", status_text(last.status).append(f" at {_time(last.started_at)}"))
    facts.add_row("History", safe_text(store))
    if not persisted:
        facts.add_row("Warning", Text("this run was not recorded", style="yellow"))
    return facts


def _facts(detail: RunDetail, now: datetime) -> Table:
    run, facts = detail.run, facts_table()
    facts.add_row("Run", safe_text(run.id))
    facts.add_row("Trigger", run.trigger_type.value)
    facts.add_row("Started", f"{_time(run.started_at)}, {relative_text(run.started_at, now)}")
    if run.completed_at is not None:
        facts.add_row("Ended", _time(run.completed_at))
    if run.waiting_for:
        facts.add_row("Waiting for", safe_text(run.waiting_for))
    if run.due_at is not None:
        facts.add_row(_DUE_LABELS.get(run.status, "Due"), f"{_time(run.due_at)}, {relative_text(run.due_at, now)}")
    facts.add_row("Attempts", f"{detail.attempts_total:,}")
    if run.rerun_of is not None:
        facts.add_row("Rerun of", safe_text(run.rerun_of))
    code = {"version": run.version, "source": run.fingerprint, "revision": detail.attempts[-1].revision}
    if known := ", ".join(f"{name} {value}" for name, value in code.items() if value):
        facts.add_row("Code", safe_text(known))
    return facts


def _print_steps(console: Console, steps: list[StepDetail]) -> None:
    shown = steps[:_STEPS_SHOWN]
    table = rows_table("Step", "Status", "Tries", "Duration", right="Tries Duration", flexible="Step")
    for step in shown:
        symbol, style = _STEP_STYLES[step.status]
        status = Text(f"{symbol} {step.status.value}", style=style)
        table.add_row(one_line(step.title), status, str(step.tries), _duration(step.duration_ms))
    print_rows(console, table, [error_text(step.error_type, step.error) for step in shown], indent=2)
    if len(steps) > len(shown):
        console.print(Text(f"  … {len(steps) - len(shown):,} more; --json prints all of them", style="dim"))


def _print_attempts(console: Console, attempts: list[AttemptDetail]) -> None:
    table = rows_table("Attempt", "Started (UTC)", "Ended (UTC)", "Outcome")
    for attempt in attempts:
        table.add_row(
            f"{attempt.number}{' (retry)' if attempt.reopened else ''}",
            f"{attempt.started_at:%m-%d %H:%M:%S}",
            "" if attempt.ended_at is None else f"{attempt.ended_at:%m-%d %H:%M:%S}",
            one_line(attempt.outcome),
        )
    console.print()
    print_rows(console, table, indent=2)


def _hints(detail: RunDetail, options: str, *, has_log: bool) -> Iterator[Text]:
    """The commands that can be used on the run, each with what it does."""
    is_failed = detail.run.status is RunStatus.FAILED
    meanings = {
        "logs": "what it logged, with the stack trace" if is_failed else "what it logged",
        "retry": "resume where it failed, once you have fixed it" if is_failed else "resume where it ended",
        "cancel": "end it at its next step",
        "rerun": "start a new run with the same payload",
    }
    possible = {*detail.actions, *(["logs"] if has_log else [])}
    if detail.retry is not None and detail.retry.interrupted:
        possible.discard("retry")  # it is shown with what it must confirm
    commands = {
        action: f"  autopilot {action} {detail.run.id[:_SHORT_ID_LENGTH]}{options}"
        for action in meanings
        if action in possible
    }
    width = max(map(len, commands.values()), default=0)
    for action, command in commands.items():
        yield Text(f"{command:<{width}}   ").append(safe_text(meanings[action], style="dim"))


def _section(title: str, value: object) -> list[RenderableType]:
    """A payload or a result under its title; nothing for None."""
    return [] if value is None else [Text(), Text(title, style="bold"), value_text(value)]


def _duration(milliseconds: int | None) -> str:
    return "" if milliseconds is None else duration_text(milliseconds)


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"
