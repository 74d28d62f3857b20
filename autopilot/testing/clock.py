"""A clock that tests move."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta


class ManualClock:
    """A clock that stands still until it is moved. A sleep moves it and takes no time.

    A timeout is up once the clock has been moved past it, from whichever thread; how long its body really takes does
    not matter.

    Attributes:
        slept: the seconds of every sleep, in order.
    """

    def __init__(self, now: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)) -> None:
        self._now = now
        self._monotonic = 1000.0
        self._timeouts: dict[asyncio.Timeout, tuple[float, asyncio.AbstractEventLoop]] = {}
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(timedelta(seconds=seconds))
        await asyncio.sleep(0)

    @asynccontextmanager
    async def timeout(self, seconds: float | None) -> AsyncIterator[asyncio.Timeout]:
        async with asyncio.timeout(None) as timeout:
            if seconds is not None:
                self._timeouts[timeout] = self._monotonic + seconds, asyncio.get_running_loop()
            try:
                self._expire_timeouts()
                yield timeout
            finally:
                self._timeouts.pop(timeout, None)

    def advance(self, by: timedelta) -> None:
        """Let ``by`` pass."""
        self._now += by
        self._monotonic += by.total_seconds()
        self._expire_timeouts()

    def jump(self, to: datetime) -> None:
        """Set the wall clock, forward or back, as a person or NTP does; no time passes."""
        self._now = to

    def _expire_timeouts(self) -> None:
        for timeout, (deadline, loop) in list(self._timeouts.items()):
            if deadline <= self._monotonic:
                loop.call_soon_threadsafe(self._expire, timeout)

    def _expire(self, timeout: asyncio.Timeout) -> None:
        # Its body may have ended, or its time may be up already.
        if self._timeouts.pop(timeout, None) is not None:
            timeout.reschedule(asyncio.get_running_loop().time())
