"""A clock that tests move."""

import asyncio
import math
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

_TURNS_TO_EXPIRE = 4
"""Of the event loop, until a timeout that is up has cancelled its body."""


class ManualClock:
    """A clock that stands still until it is moved. A sleep moves it and takes no time; it ends with a timeout around it.

    A timeout is up once the clock has been moved past it, from whichever thread; how long its body really takes does
    not matter.

    Attributes:
        slept: the seconds of every sleep, in order.
    """

    def __init__(self, now: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)) -> None:
        self._now = now
        self._monotonic = 1000.0
        self._timeouts: dict[ManualTimeout, None] = {}
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        end = self._monotonic + seconds
        while (due := min((at for at in self._deadlines() if self._monotonic < at <= end), default=None)) is not None:
            self._pass_until(due)
            for _ in range(_TURNS_TO_EXPIRE):  # whose time is up may be who sleeps
                await asyncio.sleep(0)
        self._pass_until(max(end, self._monotonic))
        await asyncio.sleep(0)

    def timeout(self, seconds: float | None) -> "ManualTimeout":
        return ManualTimeout(self, seconds)

    def advance(self, by: timedelta) -> None:
        """Let ``by`` pass."""
        self._now += by
        self._monotonic += by.total_seconds()
        self._expire_timeouts()

    def jump(self, to: datetime) -> None:
        """Set the wall clock, forward or back, as a person or NTP does; no time passes."""
        self._now = to

    def _deadlines(self) -> list[float]:
        return [timeout.deadline for timeout in self._timeouts]

    def _pass_until(self, monotonic: float) -> None:
        self._now += timedelta(seconds=monotonic - self._monotonic)
        self._monotonic = monotonic
        self._expire_timeouts()

    def _expire_timeouts(self) -> None:
        for timeout in list(self._timeouts):
            timeout.expire_by(self._monotonic)


class ManualTimeout:
    """A time limit by a :class:`ManualClock`."""

    def __init__(self, clock: ManualClock, seconds: float | None) -> None:
        self._clock = clock
        self._seconds = seconds
        self.deadline = math.inf
        """When the body's time is up, by the monotonic clock; infinity once it is, or has ended."""
        self._timeout = asyncio.timeout(None)

    def expired(self) -> bool:
        return self._timeout.expired()

    def expire_by(self, monotonic: float) -> None:
        """It is ``monotonic`` now: cancel the body if its time is up. From any thread."""
        if self.deadline <= monotonic:
            self._loop.call_soon_threadsafe(self._expire)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        if self._seconds is not None:
            self._loop = asyncio.get_running_loop()
            self.deadline = self._clock.monotonic() + self._seconds
            self._clock._timeouts[self] = None  # noqa: SLF001 - one of its own
            self.expire_by(self._clock.monotonic())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._clock._timeouts.pop(self, None)  # noqa: SLF001 - see above
        self.deadline = math.inf
        await self._timeout.__aexit__(kind, error, traceback)

    def _expire(self) -> None:
        if self.deadline < math.inf:  # its body has not ended since
            self.deadline = math.inf
            self._timeout.reschedule(self._loop.time())
