"""A clock whose time limits end when a test moves it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from autopilot.testing import ManualClock


class TimedClock(ManualClock):
    def __init__(self) -> None:
        super().__init__()
        self._limits: dict[asyncio.Timeout, float] = {}

    @asynccontextmanager
    async def timeout(self, seconds: float) -> AsyncIterator[None]:
        async with asyncio.timeout(None) as limit:
            self._limits[limit] = self.monotonic() + seconds
            try:
                yield
            finally:
                del self._limits[limit]

    def advance(self, by: timedelta) -> None:
        super().advance(by)
        for limit, ends_at in self._limits.items():
            if ends_at <= self.monotonic():
                limit.reschedule(asyncio.get_running_loop().time())
