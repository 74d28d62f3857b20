"""What a step is: executed once, recorded once, and the same value ever after."""

import asyncio
import functools
import inspect
import threading
from collections.abc import Coroutine
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from autopilot import BaseWorkflow, Retry, RunContext, TriggerType, WorkflowManifest
from autopilot.core.runs.limits import RESULT_LIMIT
from autopilot.errors import StepError
from autopilot.models import StepStatus
from autopilot.testing import Harness, InstanceKilled
from tests.durable.scripts import crashed_and_resumed, scripted
from tests.fakes import InMemoryRunLog
from tests.log_events import Events, named

WHEN = datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC)


class Quote(BaseModel):
    price: int
    at: datetime


@dataclass  # compares by value, so that its instances cannot be hashed
class Desk:
    name: str

    async def pair(self) -> tuple[int, datetime]:
        return 1, WHEN

    def __call__(self) -> tuple[str, ...]:
        return (self.name,)


async def pair() -> tuple[int, datetime]:
    return 1, WHEN


def quote() -> Quote:
    return Quote(price=3, at=WHEN)


async def quote_as_dict() -> Any:
    return {"price": "3", "at": WHEN.isoformat()}


async def untyped():  # type: ignore[no-untyped-def] # that is the case
    return (1, {"a": (2, 3)})


async def cents() -> Annotated[int, Field(ge=0), ["unhashable"]]:
    return 5


@pytest.mark.parametrize(
    ("body", "options", "value"),
    (
        (pair, {}, (1, WHEN)),
        (quote, {}, Quote(price=3, at=WHEN)),
        (quote_as_dict, {"returns": Quote}, Quote(price=3, at=WHEN)),
        (untyped, {}, [1, {"a": [2, 3]}]),
        (cents, {}, 5),
        (functools.partial(pair), {}, (1, WHEN)),
        (functools.partial(functools.partial(Desk("x").pair)), {}, (1, WHEN)),
        (Desk("x").pair, {}, (1, WHEN)),
        (Desk("x"), {}, ("x",)),
        (lambda: quote_as_dict(), {}, {"price": "3", "at": WHEN.isoformat()}),  # noqa: PLW0108 - no async function
        (lambda: None, {}, None),
    ),
    ids=(
        "tuple",
        "model",
        "model by returns",
        "untyped",
        "unhashable annotation",
        "partial",
        "partial of a method",
        "method",
        "callable object",
        "lambda around an async function",
        "nothing",
    ),
)
async def test_the_first_call_and_a_resume_return_the_same_value_of_the_declared_type(
    body: Any, options: dict[str, Any], value: Any
) -> None:
    returned = []

    async def execute(ctx: RunContext) -> None:
        returned.append(await ctx.step("it", body, **options))

    harness, run = await crashed_and_resumed(execute)

    assert run.status == "success", run.error
    assert returned == [value, value]
    assert harness.executions(run.id) == {"it": 1}


async def test_a_step_is_told_with_its_times_and_tries() -> None:
    async def execute(ctx: RunContext) -> None:
        await ctx.step("it", quote)

    harness = Harness(scripted(execute))
    run = await harness.run()

    (step,) = (await harness.steps(run.id)).values()
    assert (step.key, step.status, step.attempt, step.tries) == ("it", StepStatus.SUCCESS, 1, 1)
    assert step.started_at == step.ended_at == harness.clock.now()
    assert step.result == '{"price":3,"at":"2026-02-03T04:05:06.000789Z"}'


@pytest.mark.parametrize(
    "name",
    ("", " ", "/", "a/b", "a\n", "\0", ".", "-", "ä", "a" * 101, "a[0]", "a%2F", None, 7, b"a"),
    ids=repr,
)
async def test_a_name_that_cannot_be_one_fails_the_run_and_nothing_is_executed(name: Any) -> None:
    async def execute(ctx: RunContext) -> None:
        await ctx.step(name, quote)

    harness = Harness(scripted(execute))
    run = await harness.run()

    assert (run.status, run.error_type) == ("failed", "StepNameInvalid")
    assert harness.executions(run.id) == {}


@pytest.mark.parametrize("key", ("", "a" * 1501, "ä" * 751, True, 1.5, b"a", ["a"]), ids=repr)
async def test_a_key_that_cannot_be_one_fails_the_run(key: Any) -> None:
    async def execute(ctx: RunContext) -> None:
        await ctx.step("it", quote, key=key)

    run = await Harness(scripted(execute)).run()

    assert (run.status, run.error_type) == ("failed", "StepNameInvalid")


async def test_any_text_of_some_length_is_a_key_and_different_texts_are_different_steps() -> None:
    keys: list[str | int] = [
        "/",
        "a/b",
        "..",
        "[0]",
        "%2F",
        "\0",
        "\n",
        "ä",
        "\u0061\u0308",
        "\ud800",
        "👾",
        "__x__",
        "a",
        "A",
        "x" * 200,
        0,
    ]

    async def execute(ctx: RunContext) -> list[int]:
        return [await ctx.step("it", echo, number, key=key) for number, key in enumerate(keys)]

    async def echo(number: int) -> int:
        return number

    harness, run = await crashed_and_resumed(execute)

    assert run.result == list(range(len(keys)))
    assert set(harness.executions(run.id).values()) == {1}


async def test_a_name_used_twice_is_an_error_whether_one_after_the_other_or_at_once() -> None:
    async def twice(ctx: RunContext) -> None:
        await ctx.step("it", quote)
        await ctx.step("it", quote)

    async def at_once(ctx: RunContext) -> None:
        await asyncio.gather(ctx.step("it", quote), ctx.step("it", quote))

    for execute in (twice, at_once):
        run = await Harness(scripted(execute)).run()
        assert (run.status, run.error_type) == ("failed", "StepNameReused")
        assert run.error == "step it: this name was used before in this run; give each use its own key="


@pytest.mark.parametrize(
    ("result", "error_type", "told"),
    (
        (object(), "ResultInvalid", "the result cannot be recorded: Object of type object is not JSON serializable"),
        (float("nan"), "ResultInvalid", "the result cannot be recorded: Out of range float values"),
        ("\ud800", "ResultInvalid", "lone surrogate"),
        ({1, 2}, "ResultInvalid", "set is not JSON"),
        (
            "x" * RESULT_LIMIT,
            "ResultTooLarge",
            f"the result is {RESULT_LIMIT + 2:,} bytes of JSON; the limit is 393,216",
        ),
    ),
    ids=("object", "nan", "surrogate", "set", "large"),
)
async def test_a_result_that_cannot_be_recorded_fails_at_once_and_is_not_tried_again(
    result: Any, error_type: str, told: str
) -> None:
    async def execute(ctx: RunContext) -> None:
        await ctx.step("it", lambda: result, retry=Retry(attempts=5))

    harness = Harness(scripted(execute, retry=Retry(attempts=5)))
    run = await harness.run()

    assert (run.status, run.error_type) == ("failed", error_type)
    assert told in (run.error or "")
    assert harness.executions(run.id) == {"it": 1}
    step = (await harness.steps(run.id))["it"]
    assert (step.status, step.error_type, step.result) == (StepStatus.FAILED, error_type, None)


async def test_the_largest_result_there_can_be_survives() -> None:
    async def execute(ctx: RunContext) -> int:
        return len(await ctx.step("it", lambda: "x" * (RESULT_LIMIT - 2)))

    run = await Harness(scripted(execute)).run()

    assert run.result == RESULT_LIMIT - 2


async def test_a_result_of_another_type_than_declared_is_not_recorded() -> None:
    async def execute(ctx: RunContext) -> None:
        await ctx.step("it", lambda: "many", returns=int)

    run = await Harness(scripted(execute)).run()

    assert (run.error_type, "valid integer" in (run.error or "")) == ("ResultInvalid", True)


async def test_a_plain_function_runs_in_a_thread_with_the_context_of_its_caller() -> None:
    tenant: ContextVar[str] = ContextVar("tenant")

    async def execute(ctx: RunContext) -> list[Any]:
        tenant.set("tea")
        return [await ctx.step("it", where), threading.get_ident()]

    def where() -> list[Any]:
        return [tenant.get(), threading.get_ident()]

    run = await Harness(scripted(execute)).run()

    (found, thread), main = run.result
    assert found == "tea"
    assert thread != main


@pytest.mark.parametrize("error", (SystemExit(3), StopIteration("over"), ValueError("no")), ids=repr)
async def test_whatever_a_plain_function_raises_fails_the_run_and_not_the_server(error: BaseException) -> None:
    async def execute(ctx: RunContext) -> None:
        await ctx.step("it", fail)

    def fail() -> None:
        raise error

    run = await asyncio.wait_for(Harness(scripted(execute)).run(), 5)

    assert run.status == "failed"
    assert run.error_type == {"StopIteration": "RuntimeError"}.get(type(error).__name__, type(error).__name__)


async def test_a_failed_step_is_recorded_for_people_and_executed_again_by_a_retry() -> None:
    async def execute(ctx: RunContext) -> int:
        await ctx.step("before", lambda: 1)
        return await ctx.step("it", lambda: 1 // ctx_is_well[0])

    ctx_is_well = [0]
    harness = Harness(scripted(execute))
    failed = await harness.run()
    step = (await harness.steps(failed.id))["it"]
    ctx_is_well[0] = 1
    run = await harness.retry(failed.id)

    assert (step.status, step.error_type, step.error) == (
        StepStatus.FAILED,
        "ZeroDivisionError",
        "integer division or modulo by zero",
    )
    assert (run.id, run.attempt, run.status, run.result) == (failed.id, 2, "success", 1)
    assert harness.executions(run.id) == {"before": 1, "it": 2}
    assert (await harness.steps(run.id))["it"].tries == 2


async def test_steps_in_a_step_are_part_of_it_and_survive_its_next_try() -> None:
    tries = []

    async def execute(ctx: RunContext) -> int:
        return await ctx.step("outer", outer, ctx, retry=Retry(attempts=3))

    async def outer(ctx: RunContext) -> int:
        value = await ctx.step("inner", lambda: 1)
        many = await ctx.map("many", lambda item: item, [1, 2])
        tries.append(value)
        if len(tries) < 3:
            raise ValueError("not yet")
        return value + sum(many)

    harness = Harness(scripted(execute))
    run = await harness.run()

    assert (run.status, run.result) == ("success", 4)
    assert harness.executions(run.id) == {"outer": 3, "outer/inner": 1, "outer/many[0]": 1, "outer/many[1]": 1}


async def test_an_idempotency_key_is_the_same_in_every_attempt_and_of_no_other_step_or_run() -> None:
    seen: list[str] = []

    async def execute(ctx: RunContext) -> None:
        await ctx.step("a", note, ctx)
        await ctx.map("m", lambda item: seen.append(ctx.idempotency_key), [1, 2], max_concurrency=1)
        await ctx.step("b", note, ctx)

    async def note(ctx: RunContext) -> None:
        seen.append(ctx.idempotency_key)

    harness = Harness(scripted(execute))
    with pytest.raises(InstanceKilled):
        await harness.run(identity="x", kill_at="after body b")
    harness.expire_lease()
    await harness.run(identity="x")
    await harness.run(identity="y")

    first, again, other = seen[:4], seen[4:5], seen[5:]
    assert again == first[3:]
    assert len({*first, *other}) == 8


async def test_an_idempotency_key_outside_a_step_is_an_error() -> None:
    async def execute(ctx: RunContext) -> str:
        return ctx.idempotency_key

    run = await Harness(scripted(execute)).run()

    assert run.error_type == StepError.__name__


async def test_a_run_begun_inside_a_step_has_steps_of_its_own() -> None:
    async def inner_execute(ctx: RunContext) -> int:
        return await ctx.step("it", lambda: 1)

    inner = Harness(scripted(inner_execute, name="inner"))

    async def execute(ctx: RunContext) -> str:
        return await ctx.step("outer", begin)

    async def begin() -> str:
        return (await inner.run()).id

    run = await Harness(scripted(execute)).run()

    assert set(await inner.steps(run.result)) == {"it"}


async def test_a_body_that_takes_longer_than_its_timeout_is_stopped() -> None:
    async def execute(ctx: RunContext) -> None:
        await ctx.step("it", body, timeout=timedelta(seconds=7))

    async def body() -> None:
        harness.advance(timedelta(seconds=7))
        await asyncio.Event().wait()

    harness = Harness(scripted(execute))
    run = await harness.run()

    assert (run.error_type, run.error) == ("StepTimeout", "stopped after 7 s, its timeout")


async def test_a_timeout_of_the_bodys_own_is_an_error_like_any_other() -> None:
    async def execute(ctx: RunContext) -> None:
        await ctx.step("it", body, timeout=timedelta(seconds=30))

    async def body() -> None:
        raise TimeoutError("its own")

    run = await Harness(scripted(execute)).run()

    assert (run.error_type, run.error) == ("TimeoutError", "its own")


async def test_a_plain_function_past_its_timeout_is_abandoned_and_its_late_result_dropped(events: Events) -> None:
    may_end, ended = threading.Event(), threading.Event()

    async def execute(ctx: RunContext) -> None:
        await ctx.step("slow", slow, timeout=timedelta(seconds=7))

    def slow() -> str:
        harness.advance(timedelta(seconds=7))
        may_end.wait(10)
        ended.set()
        return "late"

    harness = Harness(scripted(execute))
    run = await harness.run()
    may_end.set()
    await asyncio.to_thread(ended.wait, 10)

    assert run.error_type == "StepTimeout"
    assert [event["step"] for event in named(events, "step_abandoned")] == ["slow"]
    assert (await harness.steps(run.id))["slow"].status is StepStatus.FAILED


async def test_a_coroutine_that_a_plain_function_gives_is_closed_whenever_the_step_is_cancelled() -> None:
    loop, given = asyncio.get_running_loop(), list[Coroutine[None, None, str]]()

    async def execute(ctx: RunContext) -> None:
        for turns in range(100):
            await cancelled_step(ctx, turns)

    async def cancelled_step(ctx: RunContext, turns: int) -> None:
        step: asyncio.Future[str] = asyncio.ensure_future(ctx.step("it", lambda: quote_soon(step, turns), key=turns))
        await asyncio.wait((step,))

    def quote_soon(step: asyncio.Future[str], turns: int) -> Coroutine[None, None, str]:
        coroutine = asyncio.sleep(0, "quoted")
        given.append(coroutine)
        loop.call_soon_threadsafe(cancel, step, turns)
        return coroutine

    def cancel(step: asyncio.Future[str], turns: int) -> None:
        if turns:
            loop.call_soon(cancel, step, turns - 1)
        else:
            step.cancel()

    await Harness(scripted(execute)).run()
    await loop.shutdown_default_executor()  # the last threads have ended

    assert {inspect.getcoroutinestate(coroutine) for coroutine in given} == {inspect.CORO_CLOSED}


async def test_a_workflow_with_a_bare_run_log_has_no_steps() -> None:
    async def execute(ctx: RunContext) -> None:
        await ctx.step("it", quote)

    run = await scripted(execute)(run_log=InMemoryRunLog()).run(TriggerType.MANUAL)

    assert (run.status, run.error_type) == ("failed", "JournalRequired")


async def test_a_recorded_result_that_does_not_fit_the_code_any_more_says_so() -> None:
    returns: list[Any] = [str]

    async def execute(ctx: RunContext) -> None:
        await ctx.step("it", lambda: "many", returns=returns[0])

    harness = Harness(scripted(execute))
    with pytest.raises(InstanceKilled):
        await harness.run(identity="x", kill_at="before commit end")
    returns[0] = int
    harness.expire_lease()
    run = await harness.run(identity="x")

    assert run.error_type == "StepResultUnreadable"
    assert (run.error or "").startswith("step it: what attempt 1 recorded does not fit the type it has now: result:")


class Planned(BaseWorkflow):
    """Executes the steps of ``plan``, in order."""

    manifest = WorkflowManifest(name="planned")
    plan: tuple[str, ...] = ()

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> list[str]:
        return [await ctx.step(name, lambda name=name: name) for name in self.plan]


async def test_a_run_goes_on_under_code_with_steps_added_moved_and_removed() -> None:
    code = Planned()
    harness = Harness(lambda: code)
    code.plan = ("a", "b", "c", "d")
    with pytest.raises(InstanceKilled):
        await harness.run(identity="x", kill_at="after commit step c success")
    code.plan = ("new", "c", "a", "newer", "d")
    harness.expire_lease()
    run = await harness.run(identity="x")

    assert run.result == ["new", "c", "a", "newer", "d"]
    assert harness.executions(run.id) == {"a": 1, "b": 1, "c": 1, "new": 1, "newer": 1, "d": 1}


@pytest.mark.usefixtures("default_store")
async def test_two_runs_of_one_instance_at_once_do_not_see_each_others_steps() -> None:
    async def execute(ctx: RunContext) -> str:
        await ctx.step("wait", asyncio.sleep, 0)
        return await ctx.step("who", lambda: ctx.run_id)

    workflow = scripted(execute)()
    runs = await asyncio.gather(*(workflow.run(TriggerType.MANUAL) for _ in range(20)))

    assert [run.result for run in runs] == [run.id for run in runs]
    assert (workflow.total_runs, workflow.success_rate) == (20, 100.0)
