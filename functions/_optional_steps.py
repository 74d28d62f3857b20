"""Steps that become plain calls where nothing can record them: in a workflow that has a bare run log."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Literal, TypeVar

from autopilot import Retry, RunContext
from functions._web_client import CONCURRENCY

ItemT = TypeVar("ItemT")
T = TypeVar("T")

_MAX_LABEL = 60
_NO_RETRY = Retry()


async def step(
    ctx: RunContext[Any],
    name: str,
    body: Callable[..., Awaitable[T]],
    *args: Any,
    retry: Retry = _NO_RETRY,
    semantics: Literal["at_least_once", "at_most_once"] = "at_least_once",
) -> T:
    """Execute ``body(*args)`` as a step; without a journal, directly and without retries."""
    if ctx.is_durable:
        return await ctx.step(name, body, *args, retry=retry, semantics=semantics)
    return await body(*args)


async def for_each(
    ctx: RunContext[Any],
    name: str,
    body: Callable[[ItemT], Coroutine[Any, Any, T]],
    items: Sequence[ItemT],
    *,
    label: Callable[[ItemT], str],
    returns: type[T],
) -> list[T]:
    """Execute ``body(item)`` as a step for each item, as many at once as a WebClient has slots.

    Args:
        label: names an item's step for people. Items may share a label: their steps are numbered.
        returns: the type of one result.

    Returns:
        The results in the order of the items.
    """
    if not ctx.is_durable:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(body(item)) for item in items]
        return [task.result() for task in tasks]

    async def execute(numbered: tuple[int, ItemT]) -> T:
        return await body(numbered[1])

    results = await ctx.map(
        name,
        execute,
        list(enumerate(items, 1)),
        max_concurrency=CONCURRENCY,
        key=lambda numbered: f"{numbered[0]} {label(numbered[1])[:_MAX_LABEL]}",
        returns=returns,
    )
    return results.successes
