"""Formatting of values for people."""

import json
from datetime import datetime
from typing import Any

from autopilot.text import duration_text, visible_json


def duration(milliseconds: float | None) -> str:
    """A duration such as ``2.4 s``; a dash for None."""
    if milliseconds is None:
        return "–"  # noqa: RUF001 - an en dash stands for no value
    return duration_text(milliseconds)


def exact(time: datetime) -> str:
    """A full date and time, for tooltips."""
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def clock_time(time: datetime) -> str:
    """A time of day to the millisecond, where the day is known."""
    return f"{time:%H:%M:%S}.{time.microsecond // 1000:03}"


def count(number: int) -> str:
    """A number such as ``1 204``, with thin spaces between the thousands."""
    return f"{number:,}".replace(",", "\u2009")


def size(text: str) -> str:
    """The size of a text in UTF-8, such as ``1.5 KiB``."""
    length = len(text.encode())
    return f"{length} B" if length < 1024 else f"{length / 1024:.1f} KiB"


def pretty_json(value: Any) -> str:
    """Indented JSON that keeps letters of every script and escapes invisible characters."""
    return visible_json(json.dumps(value, ensure_ascii=False, indent=2))


def plural(number: int, one: str, many: str = "") -> str:
    """A number with its noun: ``1 run``, ``2 runs``."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"
