"""Functions whose annotations are text, some of which means nothing at run time."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nowhere import Client, Nothing  # type: ignore[import-not-found] # that is the case

T = TypeVar("T")


class Ticket(BaseModel):
    number: int
    raw: bytes = b"\xff"

    def copied(self) -> Ticket:
        return self.model_copy()


def with_client(client: Client = None, *, more: list[Nothing] | None = None) -> list[Ticket]:
    return [Ticket(number=1)]


async def without_type() -> Nothing:
    return None


def logged(function: Callable[..., T]) -> Callable[..., T]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> T:
        return function(*args, **kwargs)

    return wrapper


def logged_async(function: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> T:
        return await function(*args, **kwargs)

    return wrapper


def of_its_own() -> Any:
    class Local(BaseModel):
        name: str

    def make() -> Local:
        return Local(name="x")

    return make
