"""One SQLite database as coroutines: one thread that owns its connection, one hop a call."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from typing import TypeVar

from autopilot.core.clock import Clock
from autopilot.core.deadline import seconds_left
from autopilot.errors import StoreUnavailable
from autopilot.storage.sqlite.connection import Opening
from autopilot.storage.sqlite.thread import Call, ConnectionThread

T = TypeVar("T")

_WAITING_SHARE = 0.8
"""The share of a call's time in which it may wait for its turn and for locks. The rest is for the disk."""


class Database:
    """An SQLite file as coroutines: ``read`` and ``write`` hand a function to the thread that has the connection.

    Thread and connection are made at the first use, and again in a forked child. Calls may come from any event loop
    of any thread; they are served in turn, except that reads pass by writes that wait for another process's lock.

    A call ends within its deadline, or the one :func:`handed down <autopilot.core.deadline.deadline>` to it if that is
    sooner, whatever happens: four fifths of that time it may wait for its turn and for locks, and then it is given up
    with nothing changed; only a call that the disk does not answer has the rest. A call that is cancelled ends at once,
    unless it is inside SQLite: then it is rolled back, or its commit is waited for within the deadline, so that nobody
    continues while it may still land.

    Args:
        deadline_seconds: of one call.
        on_open: called with each new connection.
        clock: measures the deadlines.
    """

    def __init__(
        self, path: str, deadline_seconds: float, on_open: Callable[[sqlite3.Connection], None], clock: Clock
    ) -> None:
        self._opening = Opening(f"SQLite database {path}", path, on_open)
        self._clock = clock
        self._deadline_seconds = deadline_seconds
        self._threads: dict[int, ConnectionThread] = {}

    async def read(self, doing: str, query: Callable[[sqlite3.Connection], T]) -> T:
        """Return the result of ``query``, without a transaction around it. It may be called again after a lock.

        Raises:
            StoreUnavailable: the database failed, its file was removed or replaced, or the deadline passed.
        """
        seconds = self._seconds(doing)
        return await self._call(Call(doing, read=query, give_up_at=self._give_up_at(seconds)), seconds)

    async def write(self, doing: str, change: Callable[[sqlite3.Connection], T]) -> T:
        """Return the result of ``change``, in one transaction that holds the write lock from its beginning.

        Raises:
            StoreUnavailable: as for ``read``. Nothing was changed, unless the message says that this is unknown.
        """
        seconds = self._seconds(doing)
        return await self._call(Call(doing, write=change, give_up_at=self._give_up_at(seconds)), seconds)

    def close(self) -> None:
        """Close the connection, after the calls that are under way, and end its thread."""
        thread = self._threads.pop(os.getpid(), None)
        if thread is not None:
            thread.stop()

    def _seconds(self, doing: str) -> float:
        seconds = min(self._deadline_seconds, seconds_left())
        if seconds <= 0:
            raise StoreUnavailable(self._opening.store, doing, "no time is left for it; nothing was changed")
        return seconds

    def _give_up_at(self, seconds: float) -> float:
        return self._clock.monotonic() + seconds * _WAITING_SHARE

    async def _call(self, call: Call[T], seconds: float) -> T:
        ends_at = self._clock.monotonic() + seconds
        while not self._thread().accepts(call):
            pass  # closed in the meantime, by another thread: the next look makes a new one
        cancelled = await self._wait(call, ends_at)
        if not call.outcome.done():
            call.outcome.set_exception(
                StoreUnavailable(self._opening.store, call.doing, _why_given_up(call, cancelled))
            )
        if cancelled is not None:
            raise cancelled from call.outcome.exception()
        return call.outcome.result()

    async def _wait(self, call: Call[T], ends_at: float) -> asyncio.CancelledError | None:
        """Wait for a call's outcome; through cancellations while it is inside SQLite.

        Returns:
            The first cancellation.
        """
        cancelled = None
        while not call.outcome.done() and (left := ends_at - self._clock.monotonic()) > 0:
            try:
                await asyncio.wait((call.outcome,), timeout=left)
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
                if call.drop():
                    break
        return cancelled

    def _thread(self) -> ConnectionThread:
        # By process: a forked child finds no thread of its own and starts one. No lock: a fork could copy it held.
        pid = os.getpid()
        thread = self._threads.get(pid)
        if thread is None:
            started = ConnectionThread(self._opening, self._clock)
            thread = self._threads.setdefault(pid, started)
            if thread is not started:
                started.stop()
        return thread


def _why_given_up(call: Call[T], cancelled: asyncio.CancelledError | None) -> str:
    if not call.drop():
        return "no answer from the disk; whether it was done is unknown"
    why = "the calls before it took too long" if cancelled is None else "it was cancelled"
    return f"{why}; nothing was changed"
