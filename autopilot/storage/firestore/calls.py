"""How the store talks to Firestore: within a deadline, again after what may pass, and with our errors.

The library's own retries are switched off at every call (``retry=None``): they go on for 60 to 300 seconds whatever
``timeout`` says. gRPC's deadline alone is not relied on either: it can fail to fire.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count
from typing import TypeVar

from google.api_core import exceptions as google
from google.auth.exceptions import GoogleAuthError

from autopilot.core.clock import Clock
from autopilot.errors import StoreUnavailable
from autopilot.storage.firestore.clients import ForkedAfterConnecting
from autopilot.storage.firestore.documents import STORE

T = TypeVar("T")

_FIRST_DELAY_SECONDS = 0.02
_MAX_DELAY_SECONDS = 2.0

_GUARD_FAILED = (google.AlreadyExists, google.FailedPrecondition, google.NotFound)

# A write that failed like this may have been applied or not: every attempt looks before it writes again.
_PASSING = (
    google.Aborted,
    google.Cancelled,
    google.DeadlineExceeded,
    google.InternalServerError,
    google.ResourceExhausted,
    google.ServiceUnavailable,
    google.Unknown,
)


class GuardFailed(Exception):
    """A guarded write found its document in another state than the one it was decided on."""


@asynccontextmanager
async def guarded() -> AsyncIterator[None]:
    """Around a commit with a precondition: tell a failed guard from a failing Firestore."""
    try:
        yield
    except _GUARD_FAILED as error:
        raise GuardFailed(error.message) from error


class Calls:
    """The policy of every call: one deadline for all its attempts, full jitter between them."""

    def __init__(self, *, deadline: timedelta, clock: Clock, random: Callable[[], float]) -> None:
        self._seconds = deadline.total_seconds()
        self._clock = clock
        self._random = random

    @property
    def rpc_seconds(self) -> float:
        """The time of one RPC: one that hangs leaves time for another."""
        return self._seconds / 2

    async def settle(self, doing: str, attempt: Callable[[int], Awaitable[T]]) -> T:
        """The outcome of ``attempt``, which is given how often it was tried before, and repeated while it may pass.

        Raises:
            StoreUnavailable: the deadline is over, or Firestore refuses for a reason that stays.
        """
        last: Exception | None = None
        try:
            async with asyncio.timeout(self._seconds):
                for tries in count():
                    try:
                        return await attempt(tries)
                    except (GuardFailed, *_PASSING) as error:
                        last = error
                    await self._clock.sleep(self._delay(tries))
        except TimeoutError:  # an OSError too: it comes first
            why = "" if last is None else f"; the last try: {last}"
            raise StoreUnavailable(STORE, doing, f"no success within {self._seconds:g} s{why}") from last
        except (google.GoogleAPIError, GoogleAuthError, OSError, ForkedAfterConnecting) as error:
            raise StoreUnavailable(STORE, doing, str(error)) from error
        raise AssertionError  # count() has no end

    def _delay(self, tries: int) -> float:
        return self._random() * min(_MAX_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2.0 ** min(tries, 16))
