"""Steps belong to the code that asked for them, and end with it."""

import asyncio
import inspect
import threading
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from autopilot import Retry, RunContext, StepFailed
from autopilot.core.outcome import Released
from autopilot.core.steps.threads import THREADS
from autopilot.models import StepStatus
from autopilot.testing import Harness
from tests.durable.scripts import Script, scripted
from tests.log_events import Events, named


class AtWork:
    """Counts the bodies that are at work at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.begun: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()

    async def body(self, name: str, *, until: asyncio.Event | None = None) -> str:
        self.begun[name] += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if until is not None:
                await until.wait()
            await asyncio.sleep(0)
        finally:
            self.now -= 1
            self.ended[name] += 1
        return name


async def refuse() -> None:
    raise OSError("down")


async def test_siblings_of_a_failure_end_before_the_run_is_tried_again() -> None:
    work = AtWork()
    most_of_one: Counter[str] = Counter()

    async def slow() -> str:
        most_of_one["now"] += 1
        most_of_one["most"] = max(most_of_one["most"], most_of_one["now"])
        try:
            await asyncio.Event().wait()
        finally:
            most_of_one["now"] -= 1
        return "never"

    async def execute(ctx: RunContext) -> list[str]:
        return list(await asyncio.gather(ctx.step("slow", slow), ctx.step("flaky", refuse)))

    harness = Harness(scripted(execute, retry=Retry(attempts=3)))
    run = await harness.run()

    assert (run.status, run.error_type) == ("failed", "OSError")
    assert most_of_one == {"now": 0, "most": 1}
    assert harness.executions(run.id) == {"slow": 3, "flaky": 3}
    assert work.now == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_at_most_once_sibling_is_sealed_and_not_overwritten() -> None:
    begun = []

    async def pay() -> str:
        begun.append("pay")
        await asyncio.Event().wait()
        return "paid after all"

    async def execute(ctx: RunContext) -> list[Any]:
        return list(await asyncio.gather(ctx.step("pay", pay, semantics="at_most_once"), ctx.step("flaky", refuse)))

    harness = Harness(scripted(execute, retry=Retry(attempts=2)))
    run = await harness.run()

    step = (await harness.steps(run.id))["pay"]
    assert (run.status, begun) == ("failed", ["pay"])
    assert step.status is StepStatus.INTERRUPTED


async def forgotten(ctx: RunContext) -> str:
    ctx.step("pay", lambda: "paid")  # type: ignore[unused-coroutine]
    return "done"


async def made_a_task(ctx: RunContext) -> str:
    task = asyncio.create_task(ctx.step("pay", asyncio.sleep, 0, "paid"))
    return f"done, {task.get_name() != ''}"


async def under_way(ctx: RunContext) -> str:
    task = asyncio.create_task(ctx.step("pay", asyncio.Event().wait))
    await asyncio.sleep(0)
    return f"done, {task.done()}"


async def behind_a_helper(ctx: RunContext) -> str:
    async def helper() -> None:
        await ctx.step("pay", asyncio.Event().wait)

    task = asyncio.create_task(helper())
    await asyncio.sleep(0)
    return f"done, {task.done()}"


async def a_forgotten_map(ctx: RunContext) -> str:
    ctx.map("pay", str, [1, 2])  # type: ignore[unused-coroutine]
    return "done"


async def inside_a_body(ctx: RunContext) -> str:
    async def body() -> str:
        ctx.step("pay", lambda: "paid")  # type: ignore[unused-coroutine]
        return "done"

    return await ctx.step("outer", body)


@pytest.mark.parametrize(
    "execute",
    (forgotten, made_a_task, under_way, behind_a_helper, a_forgotten_map, inside_a_body),
    ids=lambda e: e.__name__,
)
async def test_a_step_that_nobody_awaited_fails_the_run_and_is_named(execute: Script) -> None:
    harness = Harness(scripted(execute))
    run = await harness.run()

    assert (run.status, run.error_type) == ("failed", "StepNotAwaited")
    assert "pay" in (run.error or "")
    assert {step.status for key, step in (await harness.steps(run.id)).items() if key.startswith("pay")} <= {
        StepStatus.STARTED
    }
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_step_that_was_not_awaited_does_not_hide_an_exception() -> None:
    async def execute(ctx: RunContext) -> None:
        ctx.step("pay", lambda: "paid")  # type: ignore[unused-coroutine]
        raise LookupError("the real one")

    run = await Harness(scripted(execute)).run()

    assert (run.error_type, run.error) == ("LookupError", "the real one")


@pytest.mark.parametrize("wait", (True, False))
async def test_steps_that_the_code_cancelled_itself_are_fine(wait: bool) -> None:  # noqa: FBT001
    async def execute(ctx: RunContext) -> str:
        fast = asyncio.create_task(ctx.step("fast", asyncio.sleep, 0, "fast"))
        slow = asyncio.create_task(ctx.step("slow", asyncio.Event().wait))
        done, pending = await asyncio.wait({fast, slow}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if wait:
            await asyncio.wait(pending)
        return done.pop().result()  # type: ignore[return-value]

    run = await Harness(scripted(execute)).run()

    assert (run.status, run.result) == ("success", "fast")
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_task_that_was_cancelled_before_it_began_is_fine() -> None:
    async def execute(ctx: RunContext) -> str:
        asyncio.create_task(ctx.step("pay", asyncio.Event().wait)).cancel()
        return "done"

    run = await Harness(scripted(execute)).run()

    assert (run.status, run.result) == ("success", "done")


async def test_nothing_is_recorded_after_the_end_of_a_run() -> None:
    left: list[asyncio.Task[Any]] = []

    async def execute(ctx: RunContext) -> str:
        async def later() -> None:
            await asyncio.sleep(0)
            for number in range(1000):
                with suppress(Exception):
                    await ctx.step("late", lambda: "late", key=number)

        left.append(asyncio.create_task(later()))
        return "done"

    harness = Harness(scripted(execute))
    run = await harness.run()
    await asyncio.wait(left, timeout=5)

    assert run.status == "success"
    assert all(task.done() for task in left), "a loop that catches every Exception ends too"
    assert await harness.steps(run.id) == {}
    assert harness.executions(run.id) == {}


async def test_a_body_that_does_not_end_when_it_is_cancelled_is_left_alone_at_the_deadline(events: Events) -> None:
    may_end = asyncio.Event()

    async def stubborn() -> str:
        while not may_end.is_set():
            with suppress(asyncio.CancelledError):
                await may_end.wait()
            harness.advance(timedelta(seconds=100))
        return "late"

    async def execute(ctx: RunContext) -> None:
        await asyncio.gather(ctx.step("stubborn", stubborn), ctx.step("flaky", refuse))

    harness = Harness(scripted(execute, timeout_seconds=100))
    run = await harness.run()
    may_end.set()
    await asyncio.sleep(0)

    assert (run.status, run.error_type) == ("failed", "OSError")
    assert [event["step"] for event in named(events, "step_abandoned")] == ["stubborn"]
    assert "stubborn" not in await harness.steps(run.id)


async def test_steps_within_a_body_end_before_it_is_tried_again() -> None:
    most: Counter[str] = Counter()

    async def slow() -> None:
        most["now"] += 1
        most["most"] = max(most["most"], most["now"])
        try:
            await asyncio.Event().wait()
        finally:
            most["now"] -= 1

    async def execute(ctx: RunContext) -> None:
        async def body() -> None:
            await asyncio.gather(ctx.step("slow", slow), ctx.step("flaky", refuse))

        await ctx.step("outer", body, retry=Retry(attempts=3))

    harness = Harness(scripted(execute))
    run = await harness.run()

    assert (run.error_type, most) == ("OSError", {"now": 0, "most": 1})
    assert harness.executions(run.id) == {"outer": 3, "outer/slow": 3, "outer/flaky": 3}


@pytest.mark.parametrize(
    ("body", "advice"),
    (
        ("coroutine", "pass the function"),
        ("text", "must be a function, not str"),
        ("none", "must be a function, not NoneType"),
    ),
)
async def test_a_body_that_is_not_a_function_says_what_to_pass(body: str, advice: str) -> None:
    async def work() -> int:
        return 1

    async def execute(ctx: RunContext) -> Any:
        made: Any = work() if body == "coroutine" else {"text": "work", "none": None}[body]
        return await ctx.step("x", made)

    run = await Harness(scripted(execute)).run()

    assert (run.status, run.error_type) == ("failed", "StepError")
    assert advice in (run.error or "")


class Stuck:
    """Plain bodies that stay at work until they may end."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.all_at_work = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._begun = 0
        self._lock = threading.Lock()

    def body(self) -> None:
        with self._lock:
            self._begun += 1
            if self._begun == THREADS:
                self._loop.call_soon_threadsafe(self.all_at_work.set)
        self.may_end.wait(30)


class TestPlainFunctions:
    async def test_as_many_run_at_once_as_the_fan_out_says(self) -> None:
        everybody = threading.Barrier(30, timeout=30)

        async def execute(ctx: RunContext) -> list[int]:
            return list(await ctx.map("wait", everybody_is_here, range(30), max_concurrency=30))

        def everybody_is_here(number: int) -> int:
            everybody.wait()
            return number

        run = await Harness(scripted(execute)).run()

        assert run.result == list(range(30))

    async def test_waiting_for_a_thread_is_not_executing(self) -> None:
        at_work = Stuck()

        async def execute(ctx: RunContext) -> list[str]:
            stuck = [asyncio.create_task(ctx.step("stuck", at_work.body, key=n)) for n in range(THREADS)]
            paid = asyncio.create_task(
                ctx.step("pay", lambda: "paid", semantics="at_most_once", timeout=timedelta(seconds=5))
            )
            await at_work.all_at_work.wait()
            assert "pay" not in await harness.steps(ctx.run_id), "its start is recorded when it begins"
            harness.advance(timedelta(seconds=60))
            at_work.may_end.set()
            await asyncio.gather(*stuck)
            return [await paid]

        harness = Harness(scripted(execute))
        run = await harness.run()

        assert (run.status, run.result) == ("success", ["paid"])

    async def test_a_body_that_has_not_begun_when_its_caller_ends_never_begins(self) -> None:
        at_work, begun = Stuck(), []

        async def execute(ctx: RunContext) -> None:
            stuck = [asyncio.create_task(ctx.step("stuck", at_work.body, key=n)) for n in range(THREADS)]
            paying = asyncio.create_task(ctx.step("pay", lambda: begun.append("pay"), semantics="at_most_once"))
            await at_work.all_at_work.wait()
            for task in (*stuck, paying):
                task.cancel()
            raise LookupError("enough")

        harness = Harness(scripted(execute))
        run = await harness.run()
        at_work.may_end.set()

        assert (run.error_type, begun) == ("LookupError", [])
        assert "pay" not in await harness.steps(run.id), "nobody needs to ask whether it took effect"

    async def test_abandoned_threads_do_not_hold_up_others(self) -> None:
        may_end = threading.Event()

        async def execute(ctx: RunContext) -> str:
            for number in range(THREADS + 2):
                with suppress(StepFailed):
                    await ctx.step("stuck", stuck, key=number, timeout=timedelta(seconds=1))
            return await ctx.step("next", lambda: "begun")

        def stuck() -> None:
            harness.advance(timedelta(seconds=1))
            may_end.wait(30)

        harness = Harness(scripted(execute, timeout_seconds=3600))
        run = await harness.run()
        may_end.set()

        assert (run.status, run.result) == ("success", "begun")

    async def test_no_body_begins_in_its_thread_past_the_deadline(self) -> None:
        async def execute(ctx: RunContext) -> str:
            if ctx.attempt == 1:
                await ctx.step("first", lambda: 1)
                harness.advance(timedelta(seconds=100))
            return await ctx.step("second", lambda: f"in attempt {ctx.attempt}")

        harness = Harness(scripted(execute, timeout_seconds=100))
        released = await harness.deliver(identity="x")
        run = await harness.run(identity="x")

        assert isinstance(released, Released)
        assert run.result == "in attempt 2"


class TestTheBoundary:
    @pytest.mark.parametrize("where", ("body", "plain body", "execute"))
    @pytest.mark.parametrize("error", (GeneratorExit("out"), SystemExit(3)), ids=lambda e: type(e).__name__)
    async def test_what_would_end_a_coroutine_or_a_process_fails_the_run(
        self, where: str, error: BaseException
    ) -> None:
        async def body() -> None:
            raise error

        def plain() -> None:
            raise error

        async def execute(ctx: RunContext) -> None:
            if where == "execute":
                raise error
            await ctx.step("leave", body if where == "body" else plain)

        harness = Harness(scripted(execute))
        run = await harness.run(identity="x")

        assert (run.status, run.error_type) == ("failed", type(error).__name__)
        assert await harness.get_run(run.id) == run

    async def test_a_chain_of_thousands_of_causes_is_a_failure_like_any_other(self, events: Events) -> None:
        async def execute(ctx: RunContext) -> None:
            error: Exception | None = None
            for number in range(3000):
                following = ValueError(number)
                following.__cause__ = error
                error = following
            assert error is not None
            raise error

        run = await Harness(scripted(execute)).run()

        assert (run.status, run.error_type, run.error) == ("failed", "ValueError", "2999")

    @pytest.mark.parametrize("of", (SystemExit, RecursionError, KeyboardInterrupt, GeneratorExit))
    async def test_an_error_that_cannot_say_what_it_is_fails_the_run_alone(self, of: type[BaseException]) -> None:
        class Unreadable(Exception):
            def __str__(self) -> str:
                raise of

        async def body() -> None:
            raise Unreadable

        async def execute(ctx: RunContext) -> None:
            await ctx.step("it", body)

        run = await Harness(scripted(execute)).run()

        assert (run.status, run.error_type) == ("failed", "Unreadable")


class TestKeys:
    @pytest.mark.parametrize(
        "key",
        (
            "https://example.com/a/very/long/path?with=a&query=of#everything" * 20,
            "ä" * 750,
            "a/b",
            "a]/b[c",
            "100 %",
            "%2F",
            "\x00\x1b",
            "\ud800",
            "~",
            "..",
            "😀",
            "\n",
        ),
        ids=lambda key: ascii(key[:20]),
    )
    async def test_any_text_is_a_key(self, key: str) -> None:
        async def execute(ctx: RunContext) -> list[str]:
            return [
                await ctx.step("fetch", lambda: "one", key=key),
                await ctx.step("fetch", lambda: "other", key=key[:-1] + "!"),
            ]

        harness = Harness(scripted(execute))
        first = await harness.run(identity="x", kill_at=None)

        assert first.result == ["one", "other"]
        assert len(await harness.steps(first.id)) == 2


async def test_a_step_that_nobody_awaited_is_closed_also_when_the_instance_is_shut_down_as_execute_ends() -> None:
    calls: list[Any] = []

    async def execute(ctx: RunContext) -> None:
        calls.append(ctx.step("forgotten", lambda: None))

    harness = Harness(scripted(execute))
    run = await harness.run(identity="x", shut_down_at="after commit start")

    assert run.status == "running"
    assert inspect.getcoroutinestate(calls[0]._work) == inspect.CORO_CLOSED
