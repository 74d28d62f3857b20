"""Time and randomness, passed in: whoever owns these owns every decision that depends on them."""

import asyncio
import os
import time
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Timeout(Protocol):
    """A time limit on the body of an ``async with``; :class:`asyncio.Timeout` is one."""

    async def __aenter__(self) -> Any: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None: ...

    def expired(self) -> bool:
        """Return True if the body was cancelled because its time was up."""
        ...


class Clock(Protocol):
    """The one source of time for the engine and the stores."""

    def now(self) -> datetime:
        """The wall clock: aware UTC, to the microsecond."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back. For durations and deadlines."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` of this clock."""
        ...

    def timeout(self, seconds: float | None) -> Timeout:
        """Limit the body of an ``async with`` to ``seconds`` of this clock, as :func:`asyncio.timeout` does.

        Args:
            seconds: zero or less is up at the first ``await``; None sets no limit.

        Raises:
            TimeoutError: the time was up, and the body was cancelled.
        """
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float | None) -> Timeout:
        return asyncio.timeout(seconds)


def random_id() -> str:
    """32 hexadecimal digits that nobody else has: ids of runs, owners, incarnations."""
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
