"""Values as people read them."""

import json
from datetime import datetime, timedelta
from typing import Any

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def duration(milliseconds: float | None) -> str:
    """``840 ms``, ``2.4 s``, ``3 min 5 s``, ``2 d 4 h``."""
    if milliseconds is None:
        return "–"  # noqa: RUF001 - a dash for a value that is not there
    if milliseconds < 1:
        return f"{milliseconds:.1f} ms" if milliseconds >= 0.05 else "<1 ms"
    if milliseconds < 1000:
        return f"{milliseconds:.1f} ms" if milliseconds < 10 and milliseconds % 1 else f"{round(milliseconds)} ms"
    seconds = milliseconds / 1000
    if seconds < 10:
        return f"{seconds:.1f} s"
    return _in_units(round(seconds))


def _in_units(seconds: int) -> str:
    for number, (unit, length) in enumerate(_UNITS):
        if seconds >= length:
            whole, rest = divmod(seconds, length)
            if number + 1 < len(_UNITS):
                smaller, smaller_length = _UNITS[number + 1]
                if rest // smaller_length:
                    return f"{whole} {unit} {rest // smaller_length} {smaller}"
            return f"{whole} {unit}"
    return "0 s"


def relative(time: datetime, now: datetime) -> str:
    """``just now``, ``3 min ago``, ``in 2 h``."""
    seconds = round((now - time).total_seconds())
    if abs(seconds) < 5:
        return "just now"
    unit, length = next((unit, length) for unit, length in _UNITS if abs(seconds) >= length)
    told = f"{abs(seconds) // length} {unit}"
    return f"{told} ago" if seconds > 0 else f"in {told}"


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
    """JSON for people: indented, in letters of every script."""
    return json.dumps(value, ensure_ascii=False, indent=2)


def days(length: timedelta) -> str:
    """``90 d``."""
    return _in_units(round(length.total_seconds()))


def plural(number: int, one: str, many: str = "") -> str:
    """``1 run``, ``2 runs``."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"
