"""Time and randomness, passed in: whoever owns these owns every decision that depends on them."""

import asyncio
import os
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Clock(Protocol):
    """What the engine and the stores know of time."""

    def now(self) -> datetime:
        """The wall clock: aware UTC, to the microsecond."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back. For durations and deadlines."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` of this clock."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def random_id() -> str:
    """32 hexadecimal digits that nobody else has: ids of runs, marks of owners, nonces."""
    return os.urandom(16).hex()


def to_microseconds(time: datetime) -> int:
    """Whole microseconds since 1970 UTC: an aware time as an exact integer."""
    return (time - _EPOCH) // _MICROSECOND


def from_microseconds(microseconds: int) -> datetime:
    """The time, in UTC, of :func:`to_microseconds`.

    Raises:
        OverflowError: before year 1 or after year 9999.
    """
    return _EPOCH + microseconds * _MICROSECOND
