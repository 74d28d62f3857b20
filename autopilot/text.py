"""Text for people: durations, relative times, and escapes for characters that must not stay invisible."""

import re
from datetime import datetime, timedelta

_SUFFIXES = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_PART = re.compile(r"([0-9]{1,6})([smhdw])", re.ASCII)
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
"""Each with its length in seconds, longest first."""


def duration_from(text: str) -> timedelta:
    """Parse a duration as people type it: ``30s``, ``90m``, ``2h``, ``7d``, ``1w``, ``1h30m``.

    Raises:
        ValueError: it is malformed, zero or over ten years; the message shows the format.
    """
    parts = _PART.findall(text)
    if not parts or "".join(f"{count}{suffix}" for count, suffix in parts) != text:
        raise ValueError(f"{text!r} is not a valid duration: write it like 30m, 2h, 7d or 1h30m")
    duration = sum((timedelta(**{_SUFFIXES[suffix]: int(count)}) for count, suffix in parts), timedelta(0))
    if not timedelta(0) < duration <= timedelta(days=3660):
        raise ValueError(f"{text!r} is not a valid duration: it must be longer than zero and at most ten years")
    return duration


def duration_text(milliseconds: float) -> str:
    """Format a duration in at most two units: ``840 ms``, ``2.4 s``, ``3 min 5 s``, ``2 d 4 h``."""
    if milliseconds < 1:
        return f"{milliseconds:.1f} ms" if milliseconds >= 0.05 else "<1 ms"
    if milliseconds < 999.5:
        return f"{milliseconds:.1f} ms" if milliseconds < 10 and milliseconds % 1 else f"{round(milliseconds)} ms"
    if milliseconds < 9_950:
        return f"{milliseconds / 1000:.1f} s"
    rest, counts = round(milliseconds / 1000), []
    for unit, length in _UNITS:
        count, rest = divmod(rest, length)
        counts.append((count, unit))
    greatest = next(number for number, (count, _) in enumerate(counts) if count)
    return " ".join(f"{count} {unit}" for count, unit in counts[greatest : greatest + 2] if count)


def relative_text(time: datetime, now: datetime) -> str:
    """Format the distance of a time from ``now`` in one unit: ``just now``, ``now``, ``3 min ago``, ``in 2 h``."""
    seconds = round((now - time).total_seconds())
    if abs(seconds) < 5:
        return "just now" if seconds >= 0 else "now"
    unit, length = next((unit, length) for unit, length in _UNITS if abs(seconds) >= length)
    distance = f"{abs(seconds) // length} {unit}"
    return f"{distance} ago" if seconds > 0 else f"in {distance}"


_INPUT_VALUE, _INPUT_TYPE = "input_value=", ", input_type="


def without_input_values(text: str) -> str:
    """Leave out the input values that the messages of pydantic's errors quote; everything else stays as it is."""
    first, *quotes = text.split(_INPUT_VALUE)
    kept, undecided = [first], 1
    for quote in quotes:
        # A value can have either of the marks in it: what is left out goes from the first one to the last.
        _, found, rest = quote.rpartition(_INPUT_TYPE)
        if found:
            del kept[undecided:]
            kept.append(f"{_INPUT_TYPE[2:]}{rest}")
            undecided = len(kept)
        else:
            kept.append(f"{_INPUT_VALUE}{quote}")
    return "".join(kept)


# Control characters move a terminal's cursor, and those of bidirectional text reverse the direction of what follows
# (unicode.org/reports/tr9; trojansource.codes shows the harm). Tabs and line feeds stay as they are.
_INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""Escape control and bidirectional characters as Python does: ``\x1b``, ``\u202e``."""
    return _INVISIBLE.sub(lambda match: repr(match.group())[1:-1], text)


def visible_json(text: str) -> str:
    r"""Escape control and bidirectional characters as JSON does: ``\u009b``, ``\u202e``. The meaning stays the same."""
    return _INVISIBLE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
