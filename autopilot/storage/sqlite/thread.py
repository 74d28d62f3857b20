"""The thread that owns the connection, and the calls that it carries out."""

import asyncio
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from autopilot.core.clock import Clock
from autopilot.errors import StoreUnavailable
from autopilot.storage.sqlite.connection import Connection, Opening, is_broken, is_busy

T = TypeVar("T")

_LOOK_SECONDS = 0.005
"""How often the thread tries the calls that wait for a lock."""


class Call(Generic[T]):
    """One call: asked for by a coroutine, carried out by the thread.

    It begins when the thread tries it. One that has not begun, or that waits for a lock, can be dropped at once; one
    that is inside SQLite is rolled back unless its commit is under way.

    Args:
        doing: for error messages.
        read: what to do; or
        write: what to do in a transaction.
        give_up_at: by the thread's clock: until when it may wait for its turn and for locks.
    """

    def __init__(
        self,
        doing: str,
        *,
        read: Callable[[Any], T] | None = None,
        write: Callable[[Any], T] | None = None,
        give_up_at: float,
    ) -> None:
        self.doing = doing
        self.is_write = write is not None
        self.give_up_at = give_up_at
        self.waits_for_lock = False
        self._read = read
        self._write = write
        self._loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[T] = self._loop.create_future()
        self._gate = threading.Lock()
        self._is_under_way = False
        self._is_dropped = False

    def drop(self) -> bool:
        """Nobody wants it any more. False: it is inside SQLite, and only its outcome tells what was done."""
        with self._gate:
            self._is_dropped = True
            return not self._is_under_way

    def begin(self) -> bool:
        """The thread takes it up; False: it was dropped."""
        with self._gate:
            self._is_under_way = not self._is_dropped
            return self._is_under_way

    def wait_for_lock(self) -> bool:
        """The thread lets go of it until the next look; False: it was dropped, and its outcome is waited for."""
        with self._gate:
            if self._is_dropped:
                return False
            self.waits_for_lock = True
            self._is_under_way = False
            return True

    def perform(self, connection: Connection) -> T:
        """Carry it out."""
        if self._write is not None:
            return connection.write(self._write, lambda: not self._is_dropped)
        assert self._read is not None  # noqa: S101 - one of the two is given
        return connection.read(self._read)

    def settle(self, answer: Any, error: BaseException | None) -> None:
        """Hand the outcome to the event loop that asked: the answer, or the error."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits for the outcome
            self._loop.call_soon_threadsafe(self._set_outcome, answer, error)

    def _set_outcome(self, answer: Any, error: BaseException | None) -> None:
        if self.outcome.done():  # given up, or cancelled by the end of its event loop
            return
        if error is None:
            self.outcome.set_result(answer)
        else:
            self.outcome.set_exception(error)


class ConnectionThread:
    """The thread: a daemon that is stopped in good order when nothing refers to it or when the process ends."""

    def __init__(self, opening: Opening, clock: Clock) -> None:
        self._calls: SimpleQueue[Call[Any] | None] = SimpleQueue()
        self._gate = threading.Lock()
        parts = (opening, clock, self._calls)
        thread = threading.Thread(target=_serve, args=parts, name="autopilot-sqlite", daemon=True)
        thread.start()
        self._stop = weakref.finalize(self, _stop, os.getpid(), self._calls, thread)

    def accepts(self, call: Call[Any]) -> bool:
        """Queue a call; False if the thread was stopped."""
        with self._gate:
            if self._stop.alive:
                self._calls.put(call)
                return True
        return False

    def stop(self) -> None:
        """End the thread, after the calls that it was given."""
        with self._gate:
            self._stop()


def _stop(pid: int, calls: "SimpleQueue[Call[Any] | None]", thread: threading.Thread) -> None:
    if os.getpid() == pid:
        calls.put(None)
        if thread is not threading.current_thread():  # the garbage collector runs on any thread
            thread.join()


def _serve(opening: Opening, clock: Clock, calls: "SimpleQueue[Call[Any] | None]") -> None:
    # The connection is reached from local variables of this thread only, on purpose. In a forked child the thread is
    # gone and its frame is never unwound, so nothing there can use the parent's connection, or close it: SQLite would
    # take the parent's locks for its own, and might delete a write-ahead log that is in use.
    _Server(opening, clock, calls).serve()


class _Server:
    """The thread's work. Calls are served in turn; those that meet a lock wait, in order, and others pass them by."""

    def __init__(self, opening: Opening, clock: Clock, calls: "SimpleQueue[Call[Any] | None]") -> None:
        self._opening = opening
        self._clock = clock
        self._calls = calls
        self._waiting: deque[Call[Any]] = deque()
        self._connection: Connection | None = None

    def serve(self) -> None:
        is_stopped = False
        while self._waiting or not is_stopped:
            with suppress(Empty):
                call = self._calls.get(timeout=_LOOK_SECONDS if self._waiting else None)
                if call is None:
                    is_stopped = True
                else:
                    self._take(call)
                del call
            self._try_waiting()
        self._close()

    def _take(self, call: Call[Any]) -> None:
        if self._waiting and call.is_write:
            call.wait_for_lock()
            self._waiting.append(call)
        elif not self._try(call):
            self._waiting.append(call)

    def _try_waiting(self) -> None:
        is_locked, waiting = False, self._waiting
        for _ in range(len(waiting)):
            call = waiting.popleft()
            # Behind one that met the lock, only those are tried, for the last time, that can wait no longer.
            if (is_locked and self._clock.monotonic() < call.give_up_at) or not self._try(call):
                is_locked = True
                waiting.append(call)

    def _try(self, call: Call[Any]) -> bool:
        """Carry a call out, or fail; False: it met a lock and can wait."""
        if not call.begin():
            return True
        answer, failure = None, None
        try:
            with self._opening.translated(call.doing):
                answer = self._perform(call)
        except BaseException as error:  # noqa: BLE001 - not handled here: it goes to the caller that awaits it
            failure = error
        cause = None if failure is None else failure.__cause__
        if is_busy(cause) and self._clock.monotonic() < call.give_up_at and call.wait_for_lock():
            return False
        if is_broken(cause):
            self._close()
        call.settle(answer, failure)
        return True

    def _perform(self, call: Call[T]) -> T:
        if not call.waits_for_lock and self._clock.monotonic() > call.give_up_at:
            reason = "the calls before it took too long; nothing was changed"
            raise StoreUnavailable(self._opening.store, call.doing, reason)
        if self._connection is None:
            self._connection = self._opening.connect()
        return call.perform(self._connection)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
