"""What can be a step's body, and what its annotations say of its result."""

import functools
import operator
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from datetime import date
from typing import Any, NoReturn, Self
from unittest.mock import AsyncMock

import pytest
from pydantic import BaseModel

from autopilot import Retry, RunContext
from autopilot.testing import Harness
from tests.durable.scripts import crashed_and_resumed, scripted
from tests.durable.written_elsewhere import Ticket, logged, logged_async, of_its_own, with_client, without_type

DAY = date(2026, 2, 3)


class Shop:
    """Its methods return a date, which comes back as one only if their annotations are found."""

    def method(self) -> date:
        return DAY

    async def coroutine_method(self) -> date:
        return DAY

    @classmethod
    def of_class(cls) -> "date":
        return DAY

    @staticmethod
    def static(day: date = DAY) -> date:
        return day

    def __call__(self) -> date:
        return DAY


class AsyncShop:
    async def __call__(self) -> date:
        return DAY


class Priced(BaseModel):
    cents: int = 1

    def doubled(self) -> Self:
        return type(self)(cents=self.cents * 2)

    @classmethod
    def free(cls) -> Self:
        return cls(cents=0)


class Wrapping:
    """A decorator that is a class."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


async def later() -> date:
    return DAY


def plain(*args: Any) -> date:
    return DAY


def awaitable() -> Awaitable[date]:
    return later()


def coroutine() -> Coroutine[Any, Any, date]:
    return later()


def perhaps_awaitable() -> date | Awaitable[date]:
    return later()


async def awaitable_in_an_async_function() -> Awaitable[date]:
    return DAY  # type: ignore[return-value] # as with a decorator that awaits


def raises() -> NoReturn:
    raise ValueError("always")


BODIES: dict[str, tuple[Callable[..., Any], Any]] = {
    "function": (plain, DAY),
    "async function": (later, DAY),
    "method": (Shop().method, DAY),
    "async method": (Shop().coroutine_method, DAY),
    "class method": (Shop.of_class, DAY),
    "static method": (Shop.static, DAY),
    "static method out of its class": (vars(Shop)["static"], DAY),
    "callable object": (Shop(), DAY),
    "async callable object": (AsyncShop(), DAY),
    "partial": (functools.partial(plain, 1), DAY),
    "partial of an async function": (functools.partial(later), DAY),
    "partial of a partial of a method": (functools.partial(functools.partial(Shop().method)), DAY),
    "partial of a class": (functools.partial(Priced, cents=3), Priced(cents=3)),
    "wrapped": (logged(plain), DAY),
    "wrapped async": (logged_async(later), DAY),
    "wrapped twice": (logged(logged(plain)), DAY),
    "wrapped method": (logged(Shop().method), DAY),
    "wrapped by a class": (Wrapping(plain), DAY),
    "cached": (functools.lru_cache(plain), DAY),
    "awaitable": (awaitable, DAY),
    "coroutine": (coroutine, DAY),
    "perhaps awaitable": (perhaps_awaitable, DAY),
    "awaitable in an async function": (awaitable_in_an_async_function, DAY),
    "async wrapper of an awaitable": (logged_async(awaitable), DAY),
    "class": (Priced, Priced()),
    "generic class": (list[int], []),
    "type under TYPE_CHECKING in a parameter": (with_client, [Ticket(number=1)]),
    "its own class, as text": (Ticket(number=2).copied, Ticket(number=2)),
    "wrapped, with text of another module": (logged(with_client), [Ticket(number=1)]),
    "Self": (Priced(cents=2).doubled, Priced(cents=4)),
    "Self of a class method": (Priced.free, Priced(cents=0)),
    "builtin": (dict, {}),
    "builtin function": (functools.partial(operator.add, 1, 2), 3),
    "lambda": (lambda: [1], [1]),
    "lambda around an async function": (lambda: AsyncMock(return_value=1)(), 1),  # noqa: PLW0108 - no async function
    "mock": (AsyncMock(return_value=[1]), [1]),
}


@pytest.mark.parametrize("name", BODIES)
async def test_its_result_is_of_the_type_that_its_author_wrote(name: str) -> None:
    body, value = BODIES[name]
    found = []

    async def execute(ctx: RunContext) -> None:
        found.append(await ctx.step("it", body))

    _, run = await crashed_and_resumed(execute)

    assert run.status == "success", run.error
    assert found == [value, value]
    assert {type(value) for value in found} == {type(value)}


async def test_a_class_made_in_a_function_is_found_where_the_function_can_see_it() -> None:
    async def execute(ctx: RunContext) -> str:
        return str((await ctx.step("it", of_its_own())).name)

    assert (await Harness(scripted(execute)).run()).result == "x"


async def failed(execute: Any, **manifest: Any) -> tuple[Harness, str, str]:
    harness = Harness(scripted(execute, **manifest))
    run = await harness.run()
    assert run.status == "failed"
    return harness, run.error_type or "", run.error or ""


async def test_a_type_that_does_not_exist_at_run_time_is_asked_for_before_anything_is_executed() -> None:
    async def execute(ctx: RunContext) -> None:
        await ctx.step("it", without_type)

    harness, error_type, error = await failed(execute)

    assert error_type == "StepError"
    assert "step it: the type of its result cannot be used" in error
    assert "'Nothing' is not defined" in error
    assert "give it as returns=" in error
    assert not harness.trace.bodies


async def test_a_body_that_never_returns_needs_no_type() -> None:
    async def execute(ctx: RunContext) -> None:
        await ctx.step("it", raises)

    assert (await failed(execute))[2].endswith("always")


async def test_a_call_instead_of_a_function_is_refused_with_the_way_to_write_it(
    recwarn: pytest.WarningsRecorder,
) -> None:
    async def of_a_method(ctx: RunContext) -> None:
        await ctx.step("pay", Shop().coroutine_method())  # type: ignore[call-overload] # that is the case

    async def of_a_function(ctx: RunContext) -> None:
        await ctx.step("pay", later(), key="a/b")  # type: ignore[call-overload]

    async def of_a_local_function(ctx: RunContext) -> None:
        async def charge() -> None: ...

        await ctx.map("pay", charge(), [1])  # type: ignore[call-overload]

    method, function, local = [(await failed(run))[1:] for run in (of_a_method, of_a_function, of_a_local_function)]

    assert method[0] == "StepError"
    assert method[1].startswith("step pay: its body was called already: pass the function and its arguments: ")
    assert method[1].endswith("ctx.step('pay', self.coroutine_method)")
    assert function[1].endswith("ctx.step('pay', later)")
    assert "charge)" in local[1]
    assert [str(warning.message) for warning in recwarn if "never awaited" in str(warning.message)] == []


@pytest.mark.parametrize("value", (None, 5, "text", [plain]), ids=("none", "number", "text", "list"))
async def test_a_value_instead_of_a_function_is_refused(value: Any) -> None:
    async def execute(ctx: RunContext) -> None:
        await ctx.step("pay", value)

    _, error_type, error = await failed(execute)

    assert error_type == "StepError"
    assert f"its body must be a function, not {type(value).__name__}" in error


def generates() -> Iterator[int]:
    yield 1


async def generates_later() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("body", "reason"),
    (
        (generates, "it is a generator"),
        (generates_later, "it is an async generator"),
        (lambda: generates(), "it is a generator"),  # noqa: PLW0108 - no generator function
    ),
    ids=("generator", "async generator", "lambda around a generator"),
)
@pytest.mark.parametrize("returns", (None, list[int]), ids=("untyped", "typed"))
async def test_a_generator_is_no_result(body: Any, reason: str, returns: Any) -> None:
    async def execute(ctx: RunContext) -> None:
        await ctx.step("it", body, returns=returns, retry=Retry(attempts=3))

    harness, error_type, error = await failed(execute)

    assert error_type == "ResultInvalid"
    assert reason in error
    assert "return a list" in error
    assert max(harness.trace.bodies.values()) == 1


async def test_a_result_that_is_still_to_be_awaited_is_no_result(recwarn: pytest.WarningsRecorder) -> None:
    async def twice() -> Any:
        return later()

    async def execute(ctx: RunContext) -> None:
        await ctx.step("it", twice)

    _, error_type, error = await failed(execute)

    assert (error_type, "await it" in error) == ("ResultInvalid", True)
    assert [str(warning.message) for warning in recwarn if "never awaited" in str(warning.message)] == []
