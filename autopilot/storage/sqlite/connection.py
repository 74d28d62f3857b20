"""One SQLite database, one thread that owns its connection, one hop a call."""

import asyncio
import errno
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from autopilot.core.clock import Clock
from autopilot.errors import StoreUnavailable
from autopilot.private_files import prepare_file
from autopilot.storage.sqlite.schema import check_ownership, migrate

T = TypeVar("T")

_OPENING_PAUSE_SECONDS = 0.01
_STUCK_SECONDS = 5.0
"""How long past its deadline a call may be inside SQLite, which then waits for the disk, before it is given up."""

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_REASONS = {
    sqlite3.SQLITE_BUSY: "it is locked by another process",
    sqlite3.SQLITE_LOCKED: "it is locked by another connection",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_NOTADB: "it is not an SQLite database",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
}


class Database:
    """An SQLite file as coroutines: ``read`` and ``write`` hand a function to the thread that has the connection.

    Thread and connection are made at the first use, and again in a forked child. Calls may come from any event loop
    of any thread; they are served in turn.

    Args:
        deadline_seconds: of one call; SQLite itself waits for locks in real time, so long at most.
        on_open: called with each new connection.
        clock: measures the deadlines.
    """

    def __init__(
        self, path: str, deadline_seconds: float, on_open: Callable[[sqlite3.Connection], None], clock: Clock
    ) -> None:
        self._opening = _Opening(f"SQLite database {path}", path, on_open, clock)
        self._clock = clock
        self._deadline_seconds = deadline_seconds
        self._threads: dict[int, _ConnectionThread] = {}

    async def read(self, doing: str, query: Callable[[sqlite3.Connection], T]) -> T:
        """Return the result of ``query``, without a transaction around it.

        Raises:
            StoreUnavailable: the database failed, or the deadline passed.
        """
        return await self._call(doing, query)

    async def write(self, doing: str, change: Callable[[sqlite3.Connection], T]) -> T:
        """Return the result of ``change``, in one transaction that holds the write lock from its beginning.

        Raises:
            StoreUnavailable: the database failed, or the deadline passed; nothing was changed.
        """
        return await self._call(doing, lambda connection: _in_transaction(connection, change))

    def close(self) -> None:
        """Close the connection, after the calls that are under way, and end its thread."""
        thread = self._threads.pop(os.getpid(), None)
        if thread is not None:
            thread.stop()

    async def _call(self, doing: str, work: Callable[[sqlite3.Connection], T]) -> T:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        call = _Call(doing, work, self._clock.monotonic() + self._deadline_seconds, loop, outcome)
        while not self._thread().accepts(call):
            pass  # closed in the meantime, by another thread: the next look makes a new one
        cancelled = await self._wait(outcome)
        if not outcome.done():
            unknown = "no answer from the disk; whether it was done is unknown"
            outcome.set_exception(StoreUnavailable(self._opening.store, doing, unknown))
        if cancelled is not None:
            raise cancelled from outcome.exception()
        return outcome.result()

    async def _wait(self, outcome: asyncio.Future[Any]) -> asyncio.CancelledError | None:
        """Wait for an outcome through cancellations, so that nobody continues while a commit is under way.

        Returns:
            The first cancellation.
        """
        cancelled = None
        until = self._clock.monotonic() + self._deadline_seconds + _STUCK_SECONDS
        while not outcome.done() and (left := until - self._clock.monotonic()) > 0:
            try:
                await asyncio.wait((outcome,), timeout=left)
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
        return cancelled

    def _thread(self) -> "_ConnectionThread":
        # By process: a forked child finds no thread of its own and starts one. No lock: a fork could copy it held.
        pid = os.getpid()
        thread = self._threads.get(pid)
        if thread is None:
            started = _ConnectionThread(self._opening)
            thread = self._threads.setdefault(pid, started)
            if thread is not started:
                started.stop()
        return thread


@dataclass(frozen=True, slots=True, eq=False)
class _Call(Generic[T]):
    doing: str
    work: Callable[[sqlite3.Connection], T]
    deadline: float
    loop: asyncio.AbstractEventLoop
    outcome: asyncio.Future[T]

    def settle(self, answer: Any, error: BaseException | None) -> None:
        """Hand the outcome to the event loop that asked: the answer of ``work``, or the error."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits for the outcome
            self.loop.call_soon_threadsafe(_set_outcome, self.outcome, answer, error)


class _ConnectionThread:
    """The thread: a daemon that is stopped in good order when nothing refers to it or when the process ends."""

    def __init__(self, opening: "_Opening") -> None:
        self._calls: SimpleQueue[_Call[Any] | None] = SimpleQueue()
        self._gate = threading.Lock()
        thread = threading.Thread(target=_serve, args=(opening, self._calls), name="autopilot-sqlite", daemon=True)
        thread.start()
        self._stop = weakref.finalize(self, _stop, os.getpid(), self._calls, thread)

    def accepts(self, call: _Call[Any]) -> bool:
        """Queue a call; False if the thread was stopped."""
        with self._gate:
            if self._stop.alive:
                self._calls.put(call)
                return True
        return False

    def stop(self) -> None:
        with self._gate:
            self._stop()


@dataclass(frozen=True, slots=True)
class _Opening:
    """Parameters for opening the database."""

    store: str
    """Its name in errors."""
    path: str
    on_open: Callable[[sqlite3.Connection], None]
    clock: Clock

    def connect(self, deadline: float) -> sqlite3.Connection:
        """An open connection to a database that is ours and up to date.

        Tried until the deadline: two processes that create a file at once collide in ways that SQLite's own waiting
        for locks does not cover, the switch to WAL among them.
        """
        while True:
            connection: sqlite3.Connection | None = None
            try:
                self._make_file()
                connection = sqlite3.connect(self.path, isolation_level=None)
                self._prepare(connection, deadline)
            except BaseException as error:
                if connection is not None:
                    connection.close()
                if not _is_busy(error) or self.clock.monotonic() >= deadline:
                    raise
                time.sleep(_OPENING_PAUSE_SECONDS)
            else:
                return connection

    def _make_file(self) -> None:
        if self.path == ":memory:":
            return
        path = Path(self.path)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self.path)
        prepare_file(path)  # SQLite gives its other files the same mode

    def _prepare(self, connection: sqlite3.Connection, deadline: float) -> None:
        self.wait_for_locks(connection, deadline)
        check_ownership(connection, self.store)  # before the first write, which the switch to WAL is
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        migrate(connection, self.store)
        self.on_open(connection)

    def wait_for_locks(self, connection: sqlite3.Connection, deadline: float) -> None:
        """Let SQLite wait for locks until the deadline."""
        milliseconds = max(0, round((deadline - self.clock.monotonic()) * 1000))
        connection.execute(f"PRAGMA busy_timeout = {milliseconds}")


def _serve(opening: _Opening, calls: "SimpleQueue[_Call[Any] | None]") -> None:
    # The connection is a local variable of this thread on purpose. In a forked child the thread is gone and its frame
    # is never unwound, so nothing there can use the parent's connection, or close it: SQLite would take the parent's
    # locks for its own, and might delete a write-ahead log that is in use.
    connection: sqlite3.Connection | None = None
    while (call := calls.get()) is not None:
        answer, failure = None, None
        try:
            with _translated(opening, call.doing):
                if opening.clock.monotonic() > call.deadline:
                    raise StoreUnavailable(opening.store, call.doing, "the calls before it took too long")
                if connection is None:
                    connection = opening.connect(call.deadline)
                opening.wait_for_locks(connection, call.deadline)
                answer = call.work(connection)
        except BaseException as error:  # noqa: BLE001 - not handled here: it goes to the caller that awaits it
            failure = error
        if connection is not None and failure is not None and _is_broken(failure.__cause__):
            connection.close()  # the file may be repaired: the next call opens it again
            connection = None
        call.settle(answer, failure)
        del call, answer, failure
    if connection is not None:
        connection.close()


def _stop(pid: int, calls: "SimpleQueue[_Call[Any] | None]", thread: threading.Thread) -> None:
    if os.getpid() == pid:
        calls.put(None)
        if thread is not threading.current_thread():  # the garbage collector runs on any thread
            thread.join()


def _set_outcome(outcome: asyncio.Future[Any], answer: Any, error: BaseException | None) -> None:
    if outcome.done():  # given up, or cancelled by the end of its event loop
        return
    if error is None:
        outcome.set_result(answer)
    else:
        outcome.set_exception(error)


def _in_transaction(connection: sqlite3.Connection, change: Callable[[sqlite3.Connection], T]) -> T:
    # IMMEDIATE: a transaction that reads first and asks for the write lock later fails at once, without waiting, when
    # another process has written in between.
    connection.execute("BEGIN IMMEDIATE")
    try:
        answer = change(connection)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return answer


@contextmanager
def _translated(opening: _Opening, doing: str) -> Iterator[None]:
    """The one seam where the errors of SQLite and of the file system become Autopilot's."""
    try:
        yield
    except sqlite3.Error as error:
        reason = _REASONS.get(_primary_code(error))
        message = str(error) if reason is None else f"{reason} ({error})"
        raise StoreUnavailable(opening.store, doing, message) from error
    except OSError as error:
        raise StoreUnavailable(opening.store, doing, f"{error.strerror}: {error.filename}") from error


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, sqlite3.Error) and _primary_code(error) in _BUSY


def _is_broken(error: BaseException | None) -> bool:
    return isinstance(error, sqlite3.Error) and not _is_busy(error)


def _primary_code(error: sqlite3.Error) -> int:
    # Absent from errors of the Python module itself.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
