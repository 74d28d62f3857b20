"""Time and randomness, passed in: whoever owns these owns every decision that depends on them."""

import asyncio
import time
import uuid
from datetime import UTC, datetime
from typing import Protocol


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
    return uuid.uuid4().hex
