"""Durations as they are typed: ``30s``, ``90m``, ``2h``, ``7d``, ``1w``, ``1h30m``."""

import re
from datetime import timedelta

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_PART = re.compile(r"([0-9]{1,6})([smhdw])", re.ASCII)


def duration_from(text: str) -> timedelta:
    """The duration that was typed.

    Raises:
        ValueError: it is none, or none at all long; the message shows how one is written.
    """
    parts = _PART.findall(text)
    if not parts or "".join(f"{count}{unit}" for count, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration: write it as in 30m, 2h, 7d or 1h30m")
    duration = sum((timedelta(**{_UNITS[unit]: int(count)}) for count, unit in parts), timedelta(0))
    if not timedelta(0) < duration <= timedelta(days=3660):
        raise ValueError(f"{text!r} must be longer than nothing and at most ten years")
    return duration


def in_words(duration: timedelta) -> str:
    """About how long, in the two greatest units: ``1 h 20 min``."""
    seconds = round(duration.total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s" if seconds % 60 else f"{seconds // 60} min"
    hours, minutes = divmod(seconds // 60, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
