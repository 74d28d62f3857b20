"""The steps that belong together: those of one execution of ``execute``, or of one execution of a step's body.

A scope ends with the code that it belongs to: whatever it has started and not finished is cancelled and awaited then,
so that no step of it runs beside a later execution, and none begins after it.
"""

import asyncio
from collections.abc import Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeVar

import structlog

from autopilot.core.clock import Clock
from autopilot.errors import AttemptStopped, StepNameReused

T = TypeVar("T")

log = structlog.get_logger(__name__)

_current: ContextVar["Scope | None"] = ContextVar("autopilot_step_scope", default=None)


def current_scope() -> "Scope | None":
    """The scope of the code that is running here."""
    return _current.get()


class Scope:
    """The calls of ``ctx.step`` and its kin by one execution of an author's code.

    Args:
        owner: the attempt's steps that it is part of: the steps of another run are not.
        key: the full key of the step whose body this is; empty for ``execute`` itself.
        within: the scope that the step is part of.
    """

    def __init__(self, owner: object, key: str = "", within: "Scope | None" = None) -> None:
        self.owner = owner
        self.key = key
        self.is_over = False
        self._within = within
        self._is_closed = False
        self._used: set[str] = set()
        self._open: dict[StepCall[Any], None] = {}
        """In the order in which they were asked for: so are they cancelled."""

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Within this, steps are part of this scope."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def call(self, key: str, work: Coroutine[Any, Any, T]) -> "StepCall[T]":
        """A call that is part of this scope. ``work`` begins when the call is awaited."""
        call = StepCall(key, work, self)
        self._open[call] = None
        return call

    def use(self, key: str) -> str:
        """Use the full key ``key``, and return it.

        Raises:
            StepNameReused: it was used before in this scope.
        """
        if key in self._used:
            raise StepNameReused(key)
        self._used.add(key)
        return key

    def forget(self, call: "StepCall[Any]") -> None:
        """A call has finished, or will never begin."""
        self._open.pop(call, None)

    def require_open(self, key: str, *, begins: bool = False) -> None:
        """Raise if the step ``key`` has nothing to do any more: the code that it is part of has ended.

        Args:
            begins: it would begin now. One that is being cancelled may still be recorded while it is waited for.

        Raises:
            asyncio.CancelledError: no Exception, so that a loop that catches those ends: nothing of this can succeed.
        """
        if self._is_closed or (begins and self.is_over):
            raise asyncio.CancelledError(f"step {key}: the code that it is part of has ended")
        if self._within is not None:
            self._within.require_open(key)

    async def end(self, clock: Clock, seconds: float) -> list[str]:
        """Let no step begin any more, cancel those under way, and return when they have ended.

        Args:
            seconds: how long is waited for bodies that do not end when they are cancelled; then they are left alone,
                which is logged as ``step_abandoned``, and nothing that they do is recorded.

        Returns:
            The full keys of the calls that were not awaited: never begun, or under way without anybody having
            cancelled them.
        """
        self.is_over = True
        under_way = [call for call in self._open if call.has_begun]
        waiting = [call for call in self._open if not call.has_begun]
        cancellation: asyncio.CancelledError | None = None
        if waiting:
            try:
                await asyncio.sleep(0)  # tasks that were made of them and did not begin yet see that it is over
            except asyncio.CancelledError as error:
                cancellation = error
        not_awaited = [call.key for call in waiting if call.has_begun or call in self._open]
        not_awaited += [call.key for call in under_way if call in self._open and not call.is_cancelling]
        tasks = [task for call in list(self._open) if (task := call.cancel()) is not None]
        try:
            if tasks:
                await _ended(tasks, clock, seconds)
        finally:
            self._is_closed = True
            for call in self._open:
                log.warning("step_abandoned", step=call.key)
        if cancellation is not None:
            raise cancellation
        return sorted(not_awaited)


class StepCall(Coroutine[Any, Any, T]):
    """A step that was asked for: ``await`` it, or make a task of it. It knows whether anybody has."""

    def __init__(self, key: str, work: Coroutine[Any, Any, T], scope: Scope) -> None:
        self.key = key
        self._scope = scope
        self._work = work
        self._coroutine = self._run()
        self._task: asyncio.Task[Any] | None = None
        self.has_begun = False

    @property
    def is_cancelling(self) -> bool:
        """Whether the task that executes it was cancelled and has not ended yet."""
        return self._task is not None and self._task.cancelling() > 0

    def cancel(self) -> asyncio.Task[Any] | None:
        """Cancel it; the task to wait for, if it is under way in another than this one."""
        if not self.has_begun:
            self.close()
            return None
        if self._task is None or self._task is asyncio.current_task():
            return None
        self._task.cancel()
        return self._task

    async def _run(self) -> T:
        self.has_begun, self._task = True, asyncio.current_task()
        try:
            try:
                self._scope.require_open(self.key, begins=True)
            except asyncio.CancelledError:
                self._work.close()
                raise
            return await self._work
        except AttemptStopped:
            if self._task is not None and self._task.get_coro() is self:
                self._task.add_done_callback(asyncio.Task.exception)  # nobody misses it: the attempt itself ends
            raise
        finally:
            self._scope.forget(self)

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coroutine.__await__()

    def send(self, value: Any, /) -> Any:
        return self._coroutine.send(value)

    def throw(
        self,
        kind: Any,
        value: BaseException | object = None,
        traceback: TracebackType | None = None,
        /,
    ) -> Any:
        try:
            return self._coroutine.throw(kind) if value is None else self._coroutine.throw(kind, value, traceback)
        finally:
            if not self.has_begun:  # a task was cancelled before it began
                self.close()

    def close(self) -> None:
        self._coroutine.close()
        if not self.has_begun:
            self._work.close()
        self._scope.forget(self)


async def _ended(tasks: list[asyncio.Task[Any]], clock: Clock, seconds: float) -> None:
    """Return when the tasks have ended, or after ``seconds``. A cancellation that arrives meanwhile is raised then."""
    timeout = clock.timeout(seconds)
    cancellation: asyncio.CancelledError | None = None
    try:
        async with timeout:
            while under_way := [task for task in tasks if not task.done()]:
                try:
                    await asyncio.wait(under_way)
                except asyncio.CancelledError as error:
                    if timeout.expired():
                        raise
                    cancellation = error
    except TimeoutError:
        if not timeout.expired():
            raise
    if cancellation is not None:
        raise cancellation
