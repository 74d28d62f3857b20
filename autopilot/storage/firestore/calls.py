"""The calls to Firestore: one deadline for all attempts of a call, retries of what may pass, Autopilot's own errors.

The library's own retries are switched off in every RPC (``retry=None``): they last 60 to 300 seconds, whatever
``timeout`` says. gRPC's deadline alone is not relied on either: it can fail to fire.
"""

from collections.abc import Awaitable, Callable, Iterable
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
from autopilot.errors import StoreUnavailable
from autopilot.storage.firestore.clients import ForkedAfterConnecting, LoopClients
from autopilot.storage.firestore.documents import STORE

T = TypeVar("T")
Snapshot = DocumentSnapshot[Any]

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


class Calls:
    """The calls of one store, from any event loop.

    Args:
        connect: makes the client of an event loop, at its first call.
        deadline: of one call, with all its attempts.
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
        self._rpc_seconds = self._seconds / 2  # an RPC that hangs leaves time for another
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
        last: Exception | None = None
        try:
            async with self._deadline_clock.timeout(self._seconds):
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

    # RPCs: each is made within an attempt of ``settle``.

    async def get(self, reference: AsyncDocumentReference) -> Snapshot:
        return await reference.get(retry=None, timeout=self._rpc_seconds)

    async def get_all(self, references: Iterable[AsyncDocumentReference]) -> dict[str, Snapshot]:
        """The documents by their ids."""
        found = self.client.get_all([*references], retry=None, timeout=self._rpc_seconds)
        return {snapshot.id: snapshot async for snapshot in found}

    async def read(self, query: AsyncQuery | AsyncCollectionReference) -> list[Snapshot]:
        return [snapshot async for snapshot in query.stream(retry=None, timeout=self._rpc_seconds)]

    async def commit(self, batch: AsyncWriteBatch) -> list[WriteResult]:
        """Commit all writes of a batch or none.

        Raises:
            GuardFailed: the precondition of a write does not hold.
        """
        try:
            return await batch.commit(retry=None, timeout=self._rpc_seconds)
        except _GUARD_FAILED as error:
            raise GuardFailed(error.message) from error

    def _delay(self, tries: int) -> float:
        return self._random() * min(_MAX_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2.0 ** min(tries, 16))
