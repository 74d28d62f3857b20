"""Text for people: durations as they are typed and read, and characters that must not stay invisible."""

import re
from datetime import datetime, timedelta

_LETTERS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_PART = re.compile(r"([0-9]{1,6})([smhdw])", re.ASCII)
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def duration_from(text: str) -> timedelta:
    """The duration that was typed: ``30s``, ``90m``, ``2h``, ``7d``, ``1w``, ``1h30m``.

    Raises:
        ValueError: it is none, or none at all long; the message shows how one is written.
    """
    parts = _PART.findall(text)
    if not parts or "".join(f"{count}{letter}" for count, letter in parts) != text:
        raise ValueError(f"{text!r} is no duration: write it as in 30m, 2h, 7d or 1h30m")
    duration = sum((timedelta(**{_LETTERS[letter]: int(count)}) for count, letter in parts), timedelta(0))
    if not timedelta(0) < duration <= timedelta(days=3660):
        raise ValueError(f"{text!r} must be longer than nothing and at most ten years")
    return duration


def duration_text(milliseconds: float) -> str:
    """How long something took: ``840 ms``, ``2.4 s``, ``3 min 5 s``, ``2 d 4 h``."""
    if milliseconds < 1:
        return f"{milliseconds:.1f} ms" if milliseconds >= 0.05 else "<1 ms"
    if milliseconds < 999.5:
        return f"{milliseconds:.1f} ms" if milliseconds < 10 and milliseconds % 1 else f"{round(milliseconds)} ms"
    seconds = milliseconds / 1000
    return f"{seconds:.1f} s" if seconds < 9.95 else in_units(timedelta(seconds=seconds))


def in_units(duration: timedelta) -> str:
    """About how long, in whole numbers of the two greatest units: ``1 h 20 min``."""
    seconds = round(duration.total_seconds())
    for number, (unit, length) in enumerate(_UNITS):
        if seconds >= length:
            whole, rest = divmod(seconds, length)
            if number + 1 < len(_UNITS):
                smaller, smaller_length = _UNITS[number + 1]
                if rest // smaller_length:
                    return f"{whole} {unit} {rest // smaller_length} {smaller}"
            return f"{whole} {unit}"
    return "0 s"


def relative_text(time: datetime, now: datetime) -> str:
    """How far off a time is, in the greatest unit alone: ``just now``, ``3 min ago``, ``in 2 h``."""
    seconds = round((now - time).total_seconds())
    if abs(seconds) < 5:
        return "just now"
    unit, length = next((unit, length) for unit, length in _UNITS if abs(seconds) >= length)
    told = f"{abs(seconds) // length} {unit}"
    return f"{told} ago" if seconds > 0 else f"in {told}"


# Control characters move a terminal's cursor, and those of bidirectional text reverse the direction of what follows
# (unicode.org/reports/tr9; trojansource.codes shows the harm). Tabs and line ends stay as they are.
_INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""``text`` with escapes as Python writes them: ``\x1b``, ``\u202e``."""
    return _INVISIBLE.sub(lambda match: repr(match.group())[1:-1], text)


def visible_json(text: str) -> str:
    r"""JSON that means the same: ``\u009b``, ``\u202e``."""
    return _INVISIBLE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
