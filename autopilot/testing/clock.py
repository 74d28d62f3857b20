"""Time in a test's hands."""

import asyncio
from datetime import UTC, datetime, timedelta


class ManualClock:
    """A clock that stands still until it is moved; a sleep moves it, and takes no time.

    Attributes:
        slept: the seconds of every sleep, in order.
    """

    def __init__(self, now: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)) -> None:
        self._now = now
        self._monotonic = 1000.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(timedelta(seconds=seconds))
        await asyncio.sleep(0)

    def advance(self, by: timedelta) -> None:
        """Time passes."""
        self._now += by
        self._monotonic += by.total_seconds()

    def jump(self, to: datetime) -> None:
        """The wall clock is set, forward or back, as by a person or NTP; no time passes."""
        self._now = to
