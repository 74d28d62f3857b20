"""What a run logged, line by line, for where its log is at hand: on a developer's machine."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

ReadLog = Callable[[str], Iterable[Mapping[str, Any]]]
"""Gives the events that the run of this id logged, oldest first, as structlog made them; ``timestamp`` is ISO 8601."""

_SAID_ELSEWHERE = frozenset({"timestamp", "level", "event", "exception", "run_id", "workflow", "attempt"})


@dataclass(frozen=True, slots=True)
class LogLine:
    """One event, as people read it."""

    at: datetime | None
    """None: it does not say."""
    level: str
    attempt: int | None
    event: str
    fields: list[tuple[str, str]]
    """What else it says, less what every line of the run says."""
    exception: str | None


def log_line(event: Mapping[str, Any]) -> LogLine:
    """The line that an event is."""
    exception = event.get("exception")
    return LogLine(
        at=_time(event.get("timestamp")),
        level=str(event.get("level", "")),
        attempt=attempt if isinstance(attempt := event.get("attempt"), int) else None,
        event=str(event.get("event", "")),
        fields=[(name, _text(value)) for name, value in event.items() if name not in _SAID_ELSEWHERE],
        exception=None if exception is None else str(exception),
    )


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
