"""The calls to Firestore: one deadline for all attempts of a call, retries of what may pass, Autopilot's own errors.

The library's own retries are switched off in every RPC (``retry=None``): they last 60 to 300 seconds, whatever
``timeout`` says. gRPC's deadline alone is not relied on either: it can fail to fire.

A call has its store's deadline, or what was handed down to it if that is less, and shares it out among its tries, so that
an RPC whose answer is lost never costs the whole call::

    10 s    ├─ 1.7 ─┤├─ 1.7 ─┤├───────── 5 ─────────┤├─ what is left ─┤
    0.6 s   ├─ 0.1 ─┤├─ 0.1 ─┤├──────── 0.3 ────────┤├─ what is left ─┤
"""

from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar

from google.api_core import exceptions as google
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore_v1 import (
    AsyncClient,
    AsyncCollectionReference,
    AsyncDocumentReference,
    AsyncQuery,
    AsyncWriteBatch,
    DocumentSnapshot,
)
from google.cloud.firestore_v1.types import WriteResult

from autopilot.core.clock import Clock
from autopilot.core.deadline import seconds_left
from autopilot.errors import StoreUnavailable
from autopilot.storage.firestore.clients import ForkedAfterConnecting, LoopClients
from autopilot.storage.firestore.documents import STORE

_RPC_SECONDS: ContextVar[float] = ContextVar("autopilot_firestore_rpc_seconds")
"""For how long the present try waits for each RPC."""

T = TypeVar("T")
Snapshot = DocumentSnapshot[Any]

_FIRST_SHARE, _LONG_SHARE = 1 / 6, 1 / 2
"""The part of a call's time after which an RPC is given up: short in the first tries, since what was lost once usually
comes the next time, and long in the third, for an answer that is large or a network that is slow."""
_LONG_TRY = 2

_FIRST_DELAY_SECONDS = 0.02
_FIRST_DELAY_SHARE = 0.01
"""Of a call's time, if that is less: pauses between tries leave a short call time for a fourth."""
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


class Calls:
    """The calls of one store, from any event loop.

    Args:
        connect: makes the client of an event loop, at its first call.
        deadline: of one call, with all its attempts, unless less was handed down.
        deadline_clock: measures the deadlines.
        clock: of the pauses between attempts.
        random: numbers from 0 to 1, for these pauses: full jitter.
    """

    def __init__(
        self,
        connect: Callable[[], AsyncClient],
        *,
        deadline: timedelta,
        deadline_clock: Clock,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self._clients = LoopClients(connect)
        self._seconds = deadline.total_seconds()
        self._deadline_clock = deadline_clock
        self._clock = clock
        self._random = random

    @property
    def client(self) -> AsyncClient:
        """The running event loop's client."""
        return self._clients.current()

    def close(self) -> None:
        """Drop all clients; the next call makes new ones."""
        self._clients.drop()

    async def settle(self, doing: str, attempt: Callable[[int], Awaitable[T]]) -> T:
        """Return the outcome of ``attempt``, which is repeated while its errors may pass.

        Args:
            doing: for error messages.
            attempt: takes the number of attempts before it.

        Raises:
            StoreUnavailable: the deadline is over, or Firestore refuses for a reason that stays.
        """
        seconds = min(self._seconds, seconds_left())
        if seconds <= 0:
            raise StoreUnavailable(STORE, doing, "no time is left for it")
        last: Exception | None = None
        try:
            async with self._deadline_clock.timeout(seconds):
                for tries in count():
                    _RPC_SECONDS.set(seconds * (_LONG_SHARE if tries == _LONG_TRY else _FIRST_SHARE))
                    try:
                        return await attempt(tries)
                    except (GuardFailed, *_PASSING) as error:
                        last = error
                    await self._clock.sleep(self._delay(tries, seconds))
        except TimeoutError:  # an OSError too: it comes first
            why = "" if last is None else f"; the last try: {last}"
            raise StoreUnavailable(STORE, doing, f"no success within {seconds:.3g} s{why}") from last
        except (google.GoogleAPIError, GoogleAuthError, OSError, ForkedAfterConnecting) as error:
            raise StoreUnavailable(STORE, doing, str(error)) from error
        raise AssertionError  # count() has no end

    # RPCs: each is made within an attempt of ``settle``.

    async def get(self, reference: AsyncDocumentReference) -> Snapshot:
        return await reference.get(retry=None, timeout=_RPC_SECONDS.get())

    async def get_all(self, references: Iterable[AsyncDocumentReference]) -> dict[str, Snapshot]:
        """The documents by their ids."""
        found = self.client.get_all([*references], retry=None, timeout=_RPC_SECONDS.get())
        return {snapshot.id: snapshot async for snapshot in found}

    async def read(self, query: AsyncQuery | AsyncCollectionReference) -> list[Snapshot]:
        return [snapshot async for snapshot in query.stream(retry=None, timeout=_RPC_SECONDS.get())]

    async def commit(self, batch: AsyncWriteBatch) -> list[WriteResult]:
        """Commit all writes of a batch or none.

        Raises:
            GuardFailed: the precondition of a write does not hold.
        """
        try:
            return await batch.commit(retry=None, timeout=_RPC_SECONDS.get())
        except _GUARD_FAILED as error:
            raise GuardFailed(error.message) from error

    def _delay(self, tries: int, seconds: float) -> float:
        first = min(_FIRST_DELAY_SECONDS, seconds * _FIRST_DELAY_SHARE)
        return self._random() * min(_MAX_DELAY_SECONDS, first * 2.0 ** min(tries, 16))
