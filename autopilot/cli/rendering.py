"""Runs and totals as a person likes to read them: in a terminal or a file, with colours or without."""

import json
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from autopilot.cli.function_client import WorkflowTotals
from autopilot.models import RunStatus, WorkflowRun
from autopilot.text import duration_text, visible

_LOOKS = {
    RunStatus.SUCCESS: ("✔", "green"),
    RunStatus.FAILED: ("✘", "red"),
    RunStatus.CANCELLED: ("✘", "yellow"),
    RunStatus.SKIPPED: ("↷", "yellow"),
}
_UNFINISHED = ("…", "cyan")
_MAX_LINES = 16
_MAX_FIELDS = 12


def print_run(
    console: Console, run: WorkflowRun, totals: WorkflowTotals | None, *, persisted: bool, kept_in: str
) -> None:
    """Print one run and what its workflow's history adds up to."""
    console.print(
        Panel(_run(run), title=Text(run.workflow_id, style="bold"), title_align="left", width=panel_width(console))
    )
    console.print(_history(totals, persisted=persisted, kept_in=kept_in))


def panel_width(console: Console) -> int:
    return min(console.width, 100)


def _run(run: WorkflowRun) -> RenderableType:
    facts = facts_table()
    facts.add_row("Run", Text(run.id))
    facts.add_row("Started", Text(f"{run.started_at:%Y-%m-%d %H:%M:%S} UTC"))
    if run.attempt > 1:
        facts.add_row("Attempt", Text(str(run.attempt)))
    if run.waiting_for:
        facts.add_row("Waits for", Text(run.waiting_for))
    if run.error is not None:
        facts.add_row("Error", bounded(f"{run.error_type}: {run.error}" if run.error_type else run.error))
    parts: list[RenderableType] = [_headline(run), Text(), facts]
    if run.result is not None:
        parts += [Text(), Text("Result", style="bold"), result_text(run.result)]
    return Group(*parts)


def _headline(run: WorkflowRun) -> Text:
    headline = status_text(run.status)
    if run.duration_ms is not None:
        headline.append(f" in {duration_text(run.duration_ms)}")
    return headline


def _history(totals: WorkflowTotals | None, *, persisted: bool, kept_in: str) -> Table:
    history = facts_table(indent=2)
    if totals is None:
        history.add_row("Totals", Text("not available"))
    else:
        history.add_row("Total runs", Text(f"{totals.total_runs:,}{' (from memory)' if totals.stale else ''}"))
        history.add_row("Success rate", Text(f"{totals.success_rate:.1f} %"))
        if len(totals.by_status) > 1:
            counts = sorted(totals.by_status.items(), key=lambda item: -item[1])
            history.add_row("By status", Text(", ".join(f"{count:,} {status}" for status, count in counts)))
        if totals.last_run is not None:
            last = status_text(totals.last_run.status)
            history.add_row("Last run", last.append(f" at {totals.last_run.started_at:%Y-%m-%d %H:%M:%S} UTC"))
    history.add_row("Kept in", Text(kept_in))
    if not persisted:
        history.add_row("Warning", Text("this run was not recorded", style="yellow"))
    return history


def facts_table(indent: int = 0) -> Table:
    fields = Table.grid(padding=(0, 2, 0, 0))
    fields.add_column(style="dim", no_wrap=True, max_width=24)
    fields.add_column(overflow="fold")
    if indent:
        fields.pad_edge = True
        fields.padding = (0, 2, 0, indent)
    return fields


def status_text(status: RunStatus) -> Text:
    symbol, style = _LOOKS.get(status, _UNFINISHED)
    return Text(f"{symbol} {status.value}", style=f"bold {style}")


def result_text(result: Any) -> RenderableType:
    if not isinstance(result, dict):
        return _value(result)
    fields = facts_table()
    for name, value in list(result.items())[:_MAX_FIELDS]:
        fields.add_row(bounded(name), _value(value))
    if len(result) > _MAX_FIELDS:
        fields.add_row("…", f"{len(result) - _MAX_FIELDS} more fields")
    return fields


def _value(value: Any) -> Text:
    if isinstance(value, str):
        return bounded(value)
    if value is None or value in ([], {}):
        return Text("none", style="dim")
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return bounded("\n".join(f"• {_in_one_line(item)}" for item in value))
    text = json.dumps(value, ensure_ascii=False)
    return bounded(text if len(text) <= 60 else json.dumps(value, ensure_ascii=False, indent=2))


def _in_one_line(item: dict[str, Any]) -> str:
    """What an object says, less what is empty."""
    said = {name: value for name, value in item.items() if value not in (None, "", [], {})}
    return " · ".join(
        f"{name} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in said.items()
    )


def bounded(text: str, *, lines: int = _MAX_LINES) -> Text:
    """Text from elsewhere as a terminal can be shown it: nothing in it is obeyed, and it ends."""
    all_lines = visible(text).splitlines()
    shown = [line if len(line) <= 400 else f"{line[:399]}…" for line in all_lines[:lines]]
    if len(all_lines) > lines:
        shown.append(f"… {len(all_lines) - lines} more lines")
    return Text("\n".join(shown))
