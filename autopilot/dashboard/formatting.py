"""Values as people read them."""

import json
from datetime import datetime
from typing import Any

from autopilot.text import duration_text, visible_json


def duration(milliseconds: float | None) -> str:
    """How long something took, or a dash."""
    if milliseconds is None:
        return "–"  # noqa: RUF001 - a dash for a value that is not there
    return duration_text(milliseconds)


def exact(time: datetime) -> str:
    """The whole time, for the hover."""
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def clock_time(time: datetime) -> str:
    """A time in a place where the day is known."""
    return f"{time:%H:%M:%S}.{time.microsecond // 1000:03}"


def count(number: int) -> str:
    """``1 204``, with thin spaces between the thousands."""
    return f"{number:,}".replace(",", "\u2009")


def size(text: str) -> str:
    """How large a text is in UTF-8."""
    length = len(text.encode())
    return f"{length} B" if length < 1024 else f"{length / 1024:.1f} KiB"


def pretty_json(value: Any) -> str:
    """JSON for people: indented, in letters of every script, and nothing in it unseen."""
    return visible_json(json.dumps(value, ensure_ascii=False, indent=2))


def plural(number: int, one: str, many: str = "") -> str:
    """``1 run``, ``2 runs``."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"
