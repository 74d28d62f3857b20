"""Plain functions as bodies of steps: each in a thread, so many at once, and none begun that nobody waits for."""

import asyncio
import contextvars
import functools
import inspect
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from autopilot.core.steps.annotations import function_of

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


@asynccontextmanager
async def slot_for(body: Callable[..., Any]) -> AsyncIterator[Slot | None]:
    """A slot for a thread, if the body is a plain function; what waits for one has not begun."""
    if inspect.iscoroutinefunction(function_of(body)):
        yield None
        return
    async with BODY_THREADS.slot() as slot:
        yield slot


class NotBegun(Exception):
    """The body was not begun: in its thread, just before, it turned out that it must not be."""


StartThread = Callable[[Callable[[], None]], None]
"""Lets a function run, in a thread of its own."""


def start_thread(run: Callable[[], None]) -> None:
    """Let ``run`` run in a new thread, which does not keep the process from ending."""
    threading.Thread(target=run, name="autopilot-step", daemon=True).start()


class ThreadedBody:
    """One body in a thread of its own.

    Args:
        call: the body.
        may_begin: asked in the thread, just before the body begins: the time by ``clock.monotonic()``, or None if it
            must not.
        start: starts the thread.
    """

    def __init__(
        self, call: Callable[[], Any], may_begin: Callable[[], float | None], start: StartThread = start_thread
    ) -> None:
        self._call = call
        self._may_begin = may_begin
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._is_given_up = False
        self._has_begun = False
        self._begun: asyncio.Future[float | None] = self._loop.create_future()
        self._done: asyncio.Future[tuple[Any, BaseException | None]] = self._loop.create_future()
        context = contextvars.copy_context()
        start(functools.partial(context.run, self._run))

    async def begun(self) -> float:
        """When the body began, by ``clock.monotonic()``.

        Raises:
            NotBegun: it must not.
        """
        if (began := await asyncio.shield(self._begun)) is None:
            raise NotBegun
        return began

    async def result(self) -> Any:
        """What the body returns; what it raises is raised."""
        await asyncio.shield(self._done)
        return self.outcome()

    def outcome(self) -> Any:
        """What the body, which has ended, returned; what it raised is raised."""
        # As a value, since a future cannot carry every exception: a GeneratorExit would close whoever awaits it.
        result, error = self._done.result()
        if error is not None:
            raise error
        return result

    def has_ended(self) -> bool:
        """Whether the body has returned or raised, with nothing left to await."""
        return self._done.done() and not inspect.isawaitable(self._done.result()[0])

    def give_up(self) -> bool:
        """Nobody waits for it any more: a body that has not begun never does. Whether one that has is still at work."""
        with self._lock:
            self._is_given_up = True
        if self._done.done():
            _close(self._done.result()[0])  # it ended in this very turn of the loop
            return False
        return self._has_begun

    def _run(self) -> None:
        with self._lock:
            began = None if self._is_given_up else self._may_begin()
            self._has_begun = began is not None
        self._tell(self._begun, began)
        if began is None:
            return
        outcome: tuple[Any, BaseException | None]
        try:
            outcome = self._call(), None
        except BaseException as error:  # noqa: BLE001 - handed to whoever awaits the step, whatever it is
            outcome = None, error
        self._tell(self._done, outcome)

    def _tell(self, future: asyncio.Future[Any], value: Any) -> None:
        with suppress(RuntimeError):  # its loop has ended, and with it everybody who could want to know
            self._loop.call_soon_threadsafe(self._settle, future, value)

    def _settle(self, future: asyncio.Future[Any], value: Any) -> None:
        future.set_result(value)
        if self._is_given_up and future is self._done:
            _close(value[0])


def _close(result: Any) -> None:
    """Close a coroutine that nobody will await, so that Python does not report it."""
    if inspect.iscoroutine(result):
        result.close()
