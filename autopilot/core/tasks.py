"""Coroutines that are carried through, and those that are closed."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
OtherT = TypeVar("OtherT")


async def both(first: Coroutine[Any, Any, T], second: Coroutine[Any, Any, OtherT]) -> tuple[T, OtherT]:
    """The results of two coroutines that run at once. An error of either is raised once both have ended."""
    one, other = await asyncio.gather(first, second, return_exceptions=True)
    if isinstance(one, BaseException):
        raise one
    if isinstance(other, BaseException):
        raise other
    return one, other


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work`` to its end; a cancellation that arrives meanwhile is raised afterwards."""
    task = asyncio.ensure_future(work)
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None:
        raise cancellation from (None if task.cancelled() else task.exception())
    return task.result()


def cancel_at_next_await() -> None:
    """Put off a cancellation that the current task has just caught: it is raised again at the task's next ``await``."""
    if (task := asyncio.current_task()) is not None:
        task.uncancel()
        task.cancel()


def is_closing(task: asyncio.Task[Any] | None) -> bool:
    """Whether a GeneratorExit means that the coroutine of ``task`` is being closed: then nothing may be awaited.

    Otherwise the code inside has raised it.
    """
    try:
        return asyncio.current_task() is not task
    except RuntimeError:  # no loop is running
        return True
