"""The end of an invocation's time."""

import asyncio
import threading
from datetime import datetime, timedelta
from typing import Any

import pytest

from autopilot import BaseWorkflow, RunContext, TriggerType, WorkflowManifest, WorkflowRun
from autopilot.core.outcome import Released
from autopilot.core.store import Lease, StepRecord
from autopilot.errors import SetupTimedOut
from autopilot.storage.sqlite.store import SQLiteStore
from autopilot.testing import Harness, InstanceKilled, ManualClock
from tests.durable.scripts import FaultyStore, scripted
from tests.equipment import equipped
from tests.fakes import InMemoryRunLog
from tests.log_events import Events, named

BRIEF = {"timeout_seconds": 50}
"""By the tests' clock this passes at once; the store measures what is left of it by the machine's, which may be slow."""

DEADLINE = timedelta(seconds=40)
"""When an attempt ends that has so long: a fifth is kept for the ending."""


async def take_too_long(harness: Harness) -> None:
    """Work for longer than an invocation has."""
    harness.advance(DEADLINE)
    await asyncio.Event().wait()


async def test_a_run_that_came_further_is_given_free_at_the_deadline_and_goes_on_at_once() -> None:
    async def execute(ctx: RunContext) -> list[int]:
        first = await ctx.step("a", lambda: 1)
        if ctx.attempt == 1:
            await take_too_long(harness)
        return [first, await ctx.step("b", lambda: 2)]

    harness = Harness(scripted(execute, **BRIEF))
    released = await harness.deliver(identity="x")
    run = await harness.run(identity="x")

    assert isinstance(released, Released)
    assert released.reason == "the deadline of the invocation"
    assert (released.run.status, released.persisted) == ("running", True)
    assert (run.status, run.attempt, run.result) == ("success", 2, [1, 2])
    assert harness.executions(run.id) == {"a": 1, "b": 1}


async def too_long_in_every_attempt(ctx: RunContext, harness: Harness) -> None:
    await ctx.step("a", take_too_long, harness)


async def test_a_run_that_comes_no_further_fails_with_the_third_attempt_in_a_row() -> None:
    harness = Harness(scripted(lambda ctx: too_long_in_every_attempt(ctx, harness), **BRIEF))
    first, second, third = [await harness.deliver(identity="x") for _ in range(3)]

    for released in (first, second):
        assert isinstance(released, Released)
        assert (released.reason, released.persisted) == ("the deadline of the invocation", True)
    run = third.run
    assert (run.status, run.error_type, run.attempt) == ("failed", "RunDeadlineExceeded", 3)
    assert run.error == (
        "stopped after 40 s, the deadline of the invocation; 3 attempts in a row ended so, without a new step"
    )
    assert await harness.get_run(run.id) == run
    assert (await harness.stats())["by_status"] == {"failed": 1}


async def test_a_persons_retry_of_such_a_run_has_three_attempts_again() -> None:
    harness = Harness(scripted(lambda ctx: too_long_in_every_attempt(ctx, harness), **BRIEF))
    *_, failed = [await harness.run(identity="x") for _ in range(3)]
    statuses = [(await harness.retry(failed.id)).status, *[(await harness.resume(failed.id)).status for _ in range(2)]]

    assert (failed.status, statuses) == ("failed", ["running", "running", "failed"])


async def test_a_step_that_computes_past_the_deadline_is_an_attempt_that_came_no_further() -> None:
    async def execute(ctx: RunContext) -> None:
        harness.advance(DEADLINE)  # without an await, as a long computation does
        await ctx.step("a", lambda: 1)

    harness = Harness(scripted(execute, **BRIEF))
    runs = [await harness.run(identity="x") for _ in range(3)]

    assert [run.status for run in runs] == ["running", "running", "failed"]
    assert runs[-1].error_type == "RunDeadlineExceeded"


async def test_a_store_that_is_asked_past_the_deadline_is_not_what_ended_the_attempt() -> None:
    async def execute(ctx: RunContext) -> None:
        harness.advance(timedelta(seconds=BRIEF["timeout_seconds"]))  # without an await, as a long computation does
        await ctx.last_success()

    harness = Harness(scripted(execute, **BRIEF))
    runs = [await harness.run(identity="x") for _ in range(3)]

    assert [run.status for run in runs] == ["running", "running", "failed"]
    assert runs[-1].error_type == "RunDeadlineExceeded"


async def test_without_a_journal_the_first_deadline_is_the_end() -> None:
    async def execute(ctx: RunContext) -> None:
        clock.advance(DEADLINE)
        await asyncio.Event().wait()

    clock, run_log = ManualClock(), InMemoryRunLog()
    workflow = equipped(scripted(execute, **BRIEF)(), run_log=run_log, clock=clock)
    run = await workflow.run(TriggerType.MANUAL)

    assert (run.status, run.error_type) == ("failed", "RunDeadlineExceeded")
    assert run.error == "stopped after 40 s, the deadline of the invocation"


class Story:
    """A run of which each attempt ends as a test says.

    ``late``: at its deadline, without a new step; ``further``: at its deadline, with one; ``killed``: by SIGKILL;
    ``shut down``: by SIGTERM; ``store away``: since its step could not be recorded.
    """

    def __init__(self, **manifest: Any) -> None:
        self.clock = ManualClock()
        self.store = FaultyStore(self.clock)
        self.harness = Harness(scripted(self._execute, **BRIEF, **manifest), store=self.store, clock=self.clock)
        self._ending = ""

    async def tell(self, *endings: str) -> WorkflowRun:
        """Deliver the trigger for each ending, and return the run as the last attempt left it."""
        run = None
        for self._ending in endings:
            self.store.away = {"record_step"} if self._ending == "store away" else set()
            try:
                run = await self.harness.run(
                    identity="x",
                    kill_at="before body killed" if self._ending == "killed" else None,
                    shut_down_at="before body shut down" if self._ending == "shut down" else None,
                )
            except InstanceKilled:
                self.harness.expire_lease()
                (run,) = await self.harness.runs()
        assert run is not None
        return run

    async def _execute(self, ctx: RunContext) -> str:
        match self._ending:
            case "done":
                return "done"
            case "late":
                await take_too_long(self.harness)
            case "further":
                await ctx.step("further", lambda: 1, key=ctx.attempt)
                await take_too_long(self.harness)
            case _:
                await ctx.step(self._ending, asyncio.sleep, 0)
        raise AssertionError("the attempt went on")


@pytest.mark.parametrize(
    "endings",
    (
        ("late", "late"),
        ("late", "late", "further", "late", "late"),
        ("late", "late", "killed", "late", "late"),
        ("shut down",) * 12,
        ("store away",) * 12,
        ("killed",) * 10,
        ("killed",) * 9 + ("further", *("killed",) * 10),
        ("killed",) * 9 + ("store away", "shut down", "killed"),
    ),
    ids=", ".join,
)
async def test_a_run_that_may_still_end_well_goes_on(endings: tuple[str, ...]) -> None:
    story = Story()
    left = await story.tell(*endings)
    run = await story.tell("done")

    assert (left.status, run.status, run.result) == ("running", "success", "done")


@pytest.mark.parametrize(
    ("endings", "error_type"),
    (
        (("late", "late", "late"), "RunDeadlineExceeded"),
        (("late", "store away", "shut down", "late", "store away", "late"), "RunDeadlineExceeded"),
        (("further", "late", "late", "late"), "RunDeadlineExceeded"),
        (("killed",) * 12, "CrashLoop"),
        (("killed", "store away", "shut down") * 11 + ("done",), "CrashLoop"),
        (("killed", "late") * 11 + ("done",), "CrashLoop"),
    ),
)
async def test_a_run_that_gets_no_further_again_and_again_fails(endings: tuple[str, ...], error_type: str) -> None:
    run = await Story().tell(*endings)

    assert (run.status, run.error_type) == ("failed", error_type)


async def test_a_body_that_has_ended_is_progress_while_its_result_is_on_its_way() -> None:
    async def execute(ctx: RunContext) -> list[int]:
        return [await ctx.step(name, lambda: 1) for name in "abcd"]

    clock = ManualClock()
    store = SlowStore(clock)
    harness = Harness(scripted(execute, **BRIEF), store=store, clock=clock)
    runs = [await harness.run(identity="x") for _ in range(5)]

    assert [run.status for run in runs] == ["running"] * 4 + ["success"]
    assert harness.executions(runs[-1].id) == dict.fromkeys("abcd", 1)


class SlowStore(SQLiteStore):
    """Takes until the deadline to record a step."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(":memory:", clock=clock)
        self._time = clock

    async def record_step(self, lease: Lease, step: StepRecord, *, expires_at: datetime) -> StepRecord:
        self._time.advance(DEADLINE)
        return await super().record_step(lease, step, expires_at=expires_at)


async def test_a_run_whose_instance_took_the_time_to_start_does_not_fail_for_it() -> None:
    class SlowToStart(BaseWorkflow):
        manifest = WorkflowManifest(name="slow_to_start", timeout_seconds=10)
        seconds = 8.0

        async def setup(self) -> None:
            harness.advance(timedelta(seconds=self.seconds))

        async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> int:
            return await ctx.step("a", asyncio.sleep, 0, ctx.attempt)

    harness = Harness(SlowToStart)
    released = await harness.deliver(identity="x")
    SlowToStart.seconds = 3.0
    run = await harness.run(identity="x")

    assert isinstance(released, Released)
    assert (released.reason, released.run.status) == ("the deadline of the invocation", "running")
    assert (run.status, run.result) == ("success", 2)


@pytest.mark.parametrize("answer", ("is cancelled", "raises"))
async def test_a_setup_that_hangs_ends_with_the_invocation_and_is_tried_again(answer: str) -> None:
    class Hanging(BaseWorkflow):
        manifest = WorkflowManifest(name="hanging", **BRIEF)
        hangs = True

        async def setup(self) -> None:
            await super().setup()
            try:
                if self.hangs:
                    await take_too_long(harness)
            except asyncio.CancelledError:
                if answer == "raises":
                    raise RuntimeError("the connection was closed") from None
                raise

        async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> int:
            return await ctx.step("a", lambda: ctx.attempt)

    harness = Harness(Hanging)
    async with asyncio.timeout(10):
        with pytest.raises(SetupTimedOut, match=r"setup of workflow hanging did not end within 40 s; nothing was run"):
            await harness.run(identity="x")
    Hanging.hangs = False
    run = await harness.run(identity="x")

    assert (run.status, run.result, run.attempt) == ("success", 1, 1)


@pytest.mark.parametrize("semantics", ("at_least_once", "at_most_once"))
async def test_a_step_that_the_deadline_cuts_off_is_at_most_or_at_least_once_as_declared(semantics: str) -> None:
    async def execute(ctx: RunContext) -> str:
        await ctx.step("a", lambda: 1)
        return await ctx.step("b", body, ctx, semantics=semantics)  # type: ignore[call-overload,no-any-return]

    async def body(ctx: RunContext) -> str:
        if ctx.attempt == 1:
            await take_too_long(harness)
        return "done"

    harness = Harness(scripted(execute, **BRIEF))
    await harness.run(identity="x")
    run = await harness.run(identity="x")

    if semantics == "at_least_once":
        assert (run.result, harness.executions(run.id)["b"]) == ("done", 2)
    else:
        assert (run.error_type, harness.executions(run.id)["b"]) == ("StepInterrupted", 1)


@pytest.mark.parametrize("semantics", ("at_least_once", "at_most_once"))
async def test_no_body_begins_past_the_deadline(semantics: str) -> None:
    async def execute(ctx: RunContext) -> int:
        await ctx.step("a", lambda: 1)
        if ctx.attempt == 1:
            harness.advance(DEADLINE)
        return await ctx.step("b", lambda: ctx.attempt, semantics=semantics)  # type: ignore[call-overload,no-any-return]

    harness = Harness(scripted(execute, **BRIEF))
    released = await harness.deliver(identity="x")
    run = await harness.run(identity="x")

    assert isinstance(released, Released)
    assert released.reason == "the deadline of the invocation"
    assert (run.result, harness.executions(run.id)["b"]) == (2, 1)


async def answers_its_cancellation_with_an_error_of_its_own(harness: Harness, attempt: int) -> str:
    if attempt > 1:
        return "done"
    try:
        await take_too_long(harness)
    except asyncio.CancelledError:
        raise RuntimeError("the connection was closed") from None
    return "never"


async def test_what_execute_raises_when_the_deadline_cancels_it_does_not_fail_the_run() -> None:
    async def execute(ctx: RunContext) -> str:
        return await answers_its_cancellation_with_an_error_of_its_own(harness, ctx.attempt)

    harness = Harness(scripted(execute, **BRIEF))
    released = await harness.deliver(identity="x")
    run = await harness.run(identity="x")

    assert isinstance(released, Released)
    assert released.reason == "the deadline of the invocation"
    assert (run.status, run.result) == ("success", "done")


async def test_what_a_body_raises_when_the_deadline_cancels_it_is_no_failure_of_its_step(events: Events) -> None:
    async def execute(ctx: RunContext) -> str:
        try:
            return await ctx.step("a", answers_its_cancellation_with_an_error_of_its_own, harness, ctx.attempt)
        except Exception:  # noqa: BLE001 - what it would do if the step had failed
            return "compensated"

    harness = Harness(scripted(execute, **BRIEF))
    released = await harness.deliver(identity="x")
    run = await harness.run(identity="x")

    assert isinstance(released, Released)
    assert (run.status, run.result) == ("success", "done")
    (line,) = named(events, "step_cut_off")
    assert line["step"] == "a"
    assert "RuntimeError: the connection was closed" in line["exception"]


@pytest.mark.parametrize("semantics", ("at_least_once", "at_most_once"))
@pytest.mark.parametrize(("timeout", "passed"), ((None, DEADLINE), (timedelta(seconds=15), timedelta(seconds=20))))
async def test_what_a_thread_did_while_the_event_loop_was_blocked_until_its_time_was_up_is_recorded(
    timeout: timedelta | None, passed: timedelta, semantics: Any
) -> None:
    has_begun, may_end, threads = threading.Event(), threading.Event(), list[threading.Thread]()

    def body() -> str:
        threads.append(threading.current_thread())
        has_begun.set()
        may_end.wait(10)
        return "done"

    async def neighbour() -> None:
        if may_end.is_set():  # in an earlier attempt
            return
        while not has_begun.is_set():  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        may_end.set()
        threads[0].join()
        harness.advance(passed)

    async def execute(ctx: RunContext) -> str:
        step = ctx.step("a", body, semantics=semantics, timeout=timeout)
        done, _ = await asyncio.gather(step, neighbour())
        return str(done)

    harness = Harness(scripted(execute, **BRIEF))
    async with asyncio.timeout(20):
        await harness.deliver(identity="x")
        run = await harness.run(identity="x")

    assert (run.status, run.result) == ("success", "done")
    assert harness.executions(run.id) == {"a": 1}
