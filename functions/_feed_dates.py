"""The dates of feeds: those of e-mail and of ISO 8601, and what people make of them."""

import re
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_tz

_MAX_LENGTH = 64

_ISO = re.compile(
    r"""(?P<year>\d{4})
    (?:[-/](?P<month>\d\d?)(?:[-/](?P<day>\d\d?))?|(?P<packed_month>\d\d)(?P<packed_day>\d\d))?
    (?:(?:\s*T\s*|\s+)(?P<hour>\d\d?):?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,]\d+)?)?)?
    \s*(?:Z|UTC|GMT|(?P<sign>[+-])(?P<offset_hours>\d\d):?(?P<offset_minutes>\d\d)?)?""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)

_EMAIL_OFFSET = re.compile(r"(?<=:\d\d)\s*(?:GMT|UTC?)?\s*([+-]\d\d):?(\d\d)$", re.IGNORECASE | re.ASCII)
"""With a colon, or behind the zone that it counts from: the standard library ignores such an offset."""
_SEPTEMBER = re.compile(r"\bsept\b", re.IGNORECASE)
_MAX_OFFSET = timedelta(days=1)


def parse_date(text: str) -> datetime | None:
    """Parse a date of a feed, in UTC; None if it is none, or one that no calendar has.

    A date without a time zone is taken for UTC, and a day for its first moment.
    """
    text = text.strip()
    if not text or len(text) > _MAX_LENGTH:
        return None
    try:
        return _iso(text) or _email(text)
    except (ValueError, OverflowError):
        return None


def _iso(text: str) -> datetime | None:
    found = _ISO.fullmatch(text)
    if found is None:
        return None
    part = {name: int(value) for name, value in found.groupdict().items() if value and name != "sign"}
    offset = timedelta(hours=part.get("offset_hours", 0), minutes=part.get("offset_minutes", 0))
    written = datetime(
        part["year"],
        part.get("month", part.get("packed_month", 1)),
        part.get("day", part.get("packed_day", 1)),
        tzinfo=timezone(-offset if found["sign"] == "-" else offset),
    )
    # Added, so that 24:00 and a leap second are the next day's.
    return (written + _time(part.get("hour", 0), part.get("minute", 0), part.get("second", 0))).astimezone(UTC)


def _email(text: str) -> datetime | None:
    text = _SEPTEMBER.sub("Sep", _EMAIL_OFFSET.sub(r" \1\2", text))
    parts = parsedate_tz(text) or parsedate_tz(f"{text} 00:00:00")
    if parts is None:
        return None
    year, month, day, hour, minute, second, *_, offset_seconds = parts
    offset = timedelta(seconds=offset_seconds or 0)
    if abs(offset) >= _MAX_OFFSET:
        raise ValueError("no time zone")
    return datetime(year, month, day, tzinfo=UTC) + _time(hour, minute, second) - offset


def _time(hour: int, minute: int, second: int) -> timedelta:
    if hour > 24 or minute > 59 or second > 60:
        raise ValueError("no time of day")
    return timedelta(hours=hour, minutes=minute, seconds=second)
