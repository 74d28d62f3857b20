"""Output of the command: JSON, tables, and text from runs made safe for a terminal."""

import json
from collections.abc import Iterable
from itertools import chain, repeat
from typing import Any

import typer
from pydantic import BaseModel
from pydantic_core import to_jsonable_python
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from autopilot.models import RunStatus
from autopilot.text import visible, visible_json

_STATUS_STYLES = {
    RunStatus.SUCCESS: ("✔", "green"),
    RunStatus.FAILED: ("✘", "red"),
    RunStatus.CANCELLED: ("✘", "yellow"),
    RunStatus.SKIPPED: ("↷", "yellow"),
}
_UNFINISHED_STYLE = ("…", "cyan")
_MAX_LINES, _MAX_LINE_LENGTH = 16, 400
_MAX_FIELDS = 12


def print_json(value: Any) -> None:
    """Print a model, or JSON-like data with models in it, as indented JSON that a terminal does not obey either."""
    if isinstance(value, BaseModel):
        typer.echo(visible_json(value.model_dump_json(indent=2)))
    else:
        typer.echo(visible_json(json.dumps(value, indent=2, default=to_jsonable_python)))


def safe_text(text: str, *, style: str = "", lines: int = _MAX_LINES) -> Text:
    """Text of unknown origin with control characters escaped, cut to ``lines`` lines; markup in it has no effect."""
    all_lines = visible(text).splitlines()
    shown = [f"{line[:_MAX_LINE_LENGTH]}…" if len(line) > _MAX_LINE_LENGTH else line for line in all_lines[:lines]]
    if len(all_lines) > lines:
        shown.append(f"… {len(all_lines) - lines} more lines")
    return Text("\n".join(shown), style=style)


def one_line(text: str) -> Text:
    """Safe text on a single line, which ends in an ellipsis where there is no room for all of it."""
    return Text(" ".join(safe_text(text).plain.split()), no_wrap=True, overflow="ellipsis")


def status_text(status: RunStatus) -> Text:
    symbol, style = _STATUS_STYLES.get(status, _UNFINISHED_STYLE)
    return Text(f"{symbol} {status.value}", style=f"bold {style}")


def error_text(error_type: str | None, error: str | None) -> str:
    """``ValueError: the message``, or whichever of the two is known."""
    return ": ".join(filter(None, (error_type, error)))


def facts_table(*, indent: int = 0) -> Table:
    """An empty table of names and values."""
    facts = Table.grid(padding=(0, 2, 0, indent), pad_edge=bool(indent))
    facts.add_column(style="dim", no_wrap=True, max_width=24)
    facts.add_column(overflow="fold")
    return facts


def rows_table(*headers: str, right: str = "", flexible: str = "") -> Table:
    """An empty table for :func:`print_rows`.

    Args:
        right: the headers of the columns that are aligned to the right, in one string.
        flexible: the header of the column that is cut first where the terminal is too narrow for all of them.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for header in headers:
        table.add_column(header, justify="right" if header in right else "left", no_wrap=header != flexible)
    return table


def print_rows(console: Console, table: Table, notes: Iterable[str] = (), *, indent: int = 0) -> None:
    """Print a table of one-line rows, each with its note on a line of its own below it unless that is empty."""
    lines = console.render_lines(table, console.options.update_width(console.width - indent), pad=False)
    for line, note in zip(lines, chain([""], notes, repeat("")), strict=False):
        row = Text(" " * indent).append_tokens((segment.text, segment.style) for segment in line)
        row.rstrip()
        console.print(row, no_wrap=True)
        if note:
            console.print(Text(" " * (indent + 2)).append_text(one_line(note)), no_wrap=True, overflow="ellipsis")


def value_text(value: Any) -> RenderableType:
    """A payload or a result: an object as a table of its fields, anything else as text."""
    if not isinstance(value, dict):
        return _plain_value(value)
    fields = facts_table()
    for name, field in list(value.items())[:_MAX_FIELDS]:
        fields.add_row(safe_text(name), _plain_value(field))
    if len(value) > _MAX_FIELDS:
        fields.add_row("…", f"{len(value) - _MAX_FIELDS} more fields")
    return fields


def _plain_value(value: Any) -> Text:
    if isinstance(value, str):
        return safe_text(value)
    if value is None or value in ([], {}):
        return Text("none", style="dim")
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return safe_text("\n".join(f"• {_in_one_line(item)}" for item in value))
    text = json.dumps(value, ensure_ascii=False)
    return safe_text(text if len(text) <= 60 else json.dumps(value, ensure_ascii=False, indent=2))


def _in_one_line(item: dict[str, Any]) -> str:
    """The fields of an object that are not empty."""
    return " · ".join(
        f"{name} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in item.items()
        if value not in (None, "", [], {})
    )
