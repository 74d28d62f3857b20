"""The log lines of a run, where the log is a file on this machine."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

ReadLog = Callable[[str], Iterable[Mapping[str, Any]]]
"""Gives the events that the run with this id logged, oldest first, as structlog wrote them; ``timestamp`` is ISO 8601."""

_SHOWN_ELSEWHERE = frozenset({"timestamp", "level", "event", "exception", "run_id", "workflow", "attempt"})


@dataclass(frozen=True, slots=True)
class LogLine:
    """One log event, ready to be shown."""

    at: datetime | None
    """None: it has no valid timestamp."""
    level: str
    attempt: int | None
    event: str
    fields: list[tuple[str, str]]
    """Its other fields, without those that every line of the run has."""
    exception: str | None


def log_line(event: Mapping[str, Any]) -> LogLine:
    """Convert an event of structlog."""
    exception = event.get("exception")
    return LogLine(
        at=_time(event.get("timestamp")),
        level=str(event.get("level", "")),
        attempt=attempt if isinstance(attempt := event.get("attempt"), int) else None,
        event=str(event.get("event", "")),
        fields=[(name, _text(value)) for name, value in event.items() if name not in _SHOWN_ELSEWHERE],
        exception=None if exception is None else str(exception),
    )


def log_lines(events: Iterable[Mapping[str, Any]]) -> list[LogLine]:
    """Convert all events of a run. A line without an attempt gets that of the line before it, the first ones 1."""
    lines: list[LogLine] = []
    for line in map(log_line, events):
        attempt = line.attempt or (lines[-1].attempt if lines else 1)
        lines.append(replace(line, attempt=attempt))
    return lines


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
