"""Plain functions as bodies of steps: each in a thread, so many at once, and none begun that nobody waits for."""

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

THREADS = 128
"""How many bodies may run in threads at once. Abandoned ones do not count: they would block the others for good."""


class Slot:
    """The right to run one body in a thread."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back = give_back
        self._is_held = True

    def release(self) -> None:
        """Give it back, if that was not done."""
        if self._is_held:
            self._is_held = False
            self._give_back()


class BodyThreads:
    """The threads of a process in which bodies run. A body waits for a slot first, and only then counts as begun.

    A thread cannot be killed: one whose caller was cancelled is abandoned, and gives back its slot at once. Threads end
    with their bodies; as daemons, abandoned ones do not keep the process from ending.
    """

    def __init__(self, limit: int = THREADS) -> None:
        self._lock = threading.Lock()
        self._free = limit
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator["Slot"]:
        """Wait until a body may run in a thread; the first to wait is the first to be let in."""
        await self._acquire()
        slot = Slot(self._release)
        try:
            yield slot
        finally:
            slot.release()

    async def _acquire(self) -> None:
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = loop.create_future()
            self._waiting.append((loop, turn))
        try:
            await turn
        except asyncio.CancelledError:
            with self._lock:
                if (loop, turn) in self._waiting:
                    self._waiting.remove((loop, turn))
                    raise
            self._release()  # the turn had come
            raise

    def _release(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._free += 1
                    return
                loop, turn = self._waiting.popleft()
            with suppress(RuntimeError):  # its loop has ended, and with it whoever waited
                loop.call_soon_threadsafe(_give, turn)
                return


def _give(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


BODY_THREADS = BodyThreads()
"""Those of this process."""


class NotBegun(Exception):
    """The body was not begun: in its thread, just before, it turned out that it must not be."""


class ThreadedBody:
    """One body in a thread of its own.

    Args:
        call: the body.
        may_begin: asked in the thread, just before the body begins.
    """

    def __init__(self, call: Callable[[], Any], may_begin: Callable[[], bool]) -> None:
        self._call = call
        self._may_begin = may_begin
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._is_given_up = False
        self._has_begun = False
        self._begun: asyncio.Future[None] = self._loop.create_future()
        self._done: asyncio.Future[Any] = self._loop.create_future()
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._run,), name="autopilot-step", daemon=True).start()

    async def begun(self) -> None:
        """Return when the body has begun.

        Raises:
            NotBegun: it must not.
        """
        await asyncio.shield(self._begun)

    async def result(self) -> Any:
        """What the body returns.

        Raises:
            NotBegun: it must not begin. Else what the body raises.
        """
        return await asyncio.shield(self._done)

    def give_up(self) -> bool:
        """Nobody waits for it any more: a body that has not begun never does. Whether one that has is still at work."""
        with self._lock:
            self._is_given_up = True
            return self._has_begun and not self._done.done()

    def _run(self) -> None:
        with self._lock:
            self._has_begun = not self._is_given_up and self._may_begin()
        if not self._has_begun:
            self._tell(self._begun, None, NotBegun())
            self._tell(self._done, None, NotBegun())
            return
        self._tell(self._begun, None, None)
        try:
            result = self._call()
        except StopIteration as error:  # no future can carry it; Python makes the same of it in an async function
            failure = RuntimeError("a step's body raised StopIteration")
            failure.__cause__ = error
            self._tell(self._done, None, failure)
        except BaseException as error:  # noqa: BLE001 - handed to whoever awaits the step, whatever it is
            self._tell(self._done, None, error)
        else:
            self._tell(self._done, result, None)

    def _tell(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        try:
            self._loop.call_soon_threadsafe(_settle, future, result, error)
        except RuntimeError:  # its loop has ended, and with it everybody who could want to know
            if asyncio.iscoroutine(result):
                result.close()


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if error is None:
        future.set_result(result)
        return
    future.set_exception(error)
    future.exception()  # looked at, so that Python does not report one that nobody waits for
