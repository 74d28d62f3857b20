"""The store away in the middle of a run, and answers that are lost."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

import pytest

from autopilot import RunContext, TriggerType
from autopilot.base_workflow import engine_of
from autopilot.core.clock import SystemClock
from autopilot.core.deadline import seconds_left
from autopilot.core.outcome import Ended, Released, Replayed
from autopilot.core.run_log import use_store
from autopilot.errors import RunStartFailed, StoreUnavailable
from autopilot.testing import Harness, ManualClock
from tests.durable.scripts import FaultyStore, scripted
from tests.equipment import equipped
from tests.log_events import Events, named


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def faulty(clock: ManualClock) -> FaultyStore:
    return FaultyStore(clock)


def harness_of(faulty: FaultyStore, clock: ManualClock, away_in: str = "") -> Harness:
    async def execute(ctx: RunContext) -> list[int]:
        return [await ctx.step(name, body, name) for name in ("a", "b", "c")]

    async def body(name: str) -> int:
        if name == away_in and not has_been_away:
            has_been_away.append(name)
            faulty.away = {"all"}
        return len(name)

    has_been_away: list[str] = []
    return Harness(scripted(execute), store=faulty, clock=clock)


async def test_a_step_that_cannot_be_recorded_ends_the_attempt_and_the_run_goes_on_there_later(
    faulty: FaultyStore, clock: ManualClock, events: Events
) -> None:
    harness = harness_of(faulty, clock, away_in="b")
    ended = await harness.deliver(identity="x")
    faulty.away = set()
    held = await harness.run(identity="x")
    harness.expire_lease()
    run = await harness.run(identity="x")

    assert isinstance(ended, Released)
    assert ended.reason.startswith("step b could not be recorded: the store: record_step: it is away")
    assert (ended.run.status, ended.persisted) == ("running", False)
    assert held.status == "running"  # its release could not be recorded either: the lease must end
    assert (run.status, run.attempt, run.result) == ("success", 2, [1, 1, 1])
    assert harness.executions(run.id) == {"a": 1, "b": 2, "c": 1}
    assert [event["step"] for event in named(events, "step_not_recorded")] == ["b"]
    assert (await harness.stats())["by_status"] == {"success": 1}


async def test_when_only_the_step_failed_the_run_is_free_at_once(faulty: FaultyStore, clock: ManualClock) -> None:
    harness = harness_of(faulty, clock)
    faulty.away = {"record_step"}
    ended = await harness.deliver(identity="x")
    faulty.away = set()
    run = await harness.run(identity="x")

    assert isinstance(ended, Released)
    assert ended.persisted
    assert (run.status, run.attempt) == ("success", 2)


@pytest.fixture
def default_faulty() -> Iterator[FaultyStore]:
    """As the process's own store."""
    faulty = FaultyStore(SystemClock())
    with use_store(faulty):
        yield faulty


async def test_an_attempt_that_ended_like_that_is_saved_by_its_instances_next_invocation(
    default_faulty: FaultyStore,
) -> None:
    async def execute(ctx: RunContext) -> int:
        if ctx.attempt == 1:
            default_faulty.away = {"all"}
        return await ctx.step("a", lambda: 1)

    workflow = scripted(execute)()
    ended = await engine_of(workflow).invoke(TriggerType.MANUAL, {})
    default_faulty.away = set()
    resumed = await engine_of(workflow).resume(ended.run.id)

    assert isinstance(ended, Released)
    assert (resumed.run.status, resumed.run.attempt) == ("success", 2)


async def test_a_step_whose_answer_was_lost_is_not_executed_again(faulty: FaultyStore, clock: ManualClock) -> None:
    harness = harness_of(faulty, clock)
    faulty.losing = {"record_step"}
    ended = await harness.deliver(identity="x")
    run = await harness.run(identity="x")

    assert isinstance(ended, Released)
    assert (run.status, run.result) == ("success", [1, 1, 1])
    assert harness.executions(run.id) == {"a": 1, "b": 1, "c": 1}


async def test_a_start_whose_answer_was_lost_is_gone_on_with_when_its_lease_has_ended(
    faulty: FaultyStore, clock: ManualClock
) -> None:
    harness = harness_of(faulty, clock)
    faulty.losing = {"start_run"}
    with pytest.raises(RunStartFailed):
        await harness.run(identity="x")
    held = await harness.run(identity="x")
    harness.expire_lease()
    run = await harness.run(identity="x")

    assert (held.status, run.status) == ("running", "success")
    assert (await harness.stats())["by_status"] == {"success": 1}


async def test_a_claim_whose_answer_was_lost_costs_a_lease_and_nothing_else(
    faulty: FaultyStore, clock: ManualClock
) -> None:
    harness = harness_of(faulty, clock, away_in="b")
    await harness.run(identity="x")
    harness.expire_lease()
    faulty.away, faulty.losing = set(), {"claim_run"}
    with pytest.raises(StoreUnavailable):
        await harness.run(identity="x")
    held = await harness.run(identity="x")
    harness.expire_lease()
    run = await harness.run(identity="x")

    assert (held.status, run.status, run.attempt) == ("running", "success", 3)
    assert harness.executions(run.id) == {"a": 1, "b": 2, "c": 1}


async def test_an_ending_whose_answer_was_lost_is_answered_from_the_record(
    faulty: FaultyStore, clock: ManualClock
) -> None:
    harness = harness_of(faulty, clock)
    faulty.losing = {"save_run"}
    ended = await harness.deliver(identity="x")
    again = await harness.deliver(identity="x")

    assert isinstance(ended, Ended)
    assert isinstance(again, Replayed)
    assert (ended.persisted, again.run) == (False, ended.run)
    assert (await harness.stats())["by_status"] == {"success": 1}


async def test_a_run_whose_steps_cannot_be_read_is_given_free(faulty: FaultyStore, clock: ManualClock) -> None:
    harness = harness_of(faulty, clock, away_in="b")
    await harness.run(identity="x")
    harness.expire_lease()
    faulty.away = {"read_steps"}
    ended = await harness.deliver(identity="x")
    faulty.away = set()
    run = await harness.run(identity="x")

    assert isinstance(ended, Released)
    assert (ended.reason, ended.persisted) == ("the store: read_steps: it is away", True)
    assert (run.status, run.attempt, run.result) == ("success", 3, [1, 1, 1])


async def test_a_run_whose_invocation_is_cancelled_while_its_steps_are_read_is_given_free(
    faulty: FaultyStore, clock: ManualClock
) -> None:
    harness = harness_of(faulty, clock, away_in="b")
    await harness.run(identity="x")
    harness.expire_lease()
    faulty.away, faulty.silent = set(), {"read_steps"}
    invocation = asyncio.ensure_future(harness.run(identity="x"))
    faulty.while_silent = invocation.cancel
    with pytest.raises(asyncio.CancelledError):
        await invocation
    run = await harness.run(identity="x")

    assert (run.status, run.attempt, run.result) == ("success", 3, [1, 1, 1])


async def test_a_run_whose_start_could_not_be_recorded_ends_where_it_asks_for_a_step(
    faulty: FaultyStore, clock: ManualClock, events: Events
) -> None:
    harness = harness_of(faulty, clock)
    faulty.away = {"start_run"}
    with pytest.raises(
        RunStartFailed, match=r"could not be recorded; its execution was stopped: ctx\.step needs a run"
    ):
        await harness.run()
    faulty.away = set()
    run = await harness.run()

    assert (run.status, await harness.runs()) == ("success", [run])
    assert (await harness.stats())["by_status"] == {"success": 1}
    assert [event["reason"] for event in named(events, "workflow_run_abandoned")] == [
        "ctx.step needs a run that is recorded"
    ]


async def test_code_that_holds_up_the_end_of_an_unrecorded_run_gets_no_result(
    faulty: FaultyStore, clock: ManualClock
) -> None:
    async def execute(ctx: RunContext) -> str:
        try:
            return await ctx.step("it", lambda: "recorded")
        except BaseException:  # noqa: BLE001 - the mistake in question
            return "not recorded"

    faulty.away = {"start_run"}
    with pytest.raises(RunStartFailed):
        await Harness(scripted(execute), store=faulty, clock=clock).run()


async def test_a_run_that_cannot_look_up_the_last_success_is_given_free_and_does_not_fail(
    faulty: FaultyStore, clock: ManualClock
) -> None:
    async def execute(ctx: RunContext) -> list[Any]:
        seen = await ctx.step("a", lambda: 1)
        last = await ctx.last_success()
        return [seen, None if last is None else last.result]

    harness = Harness(scripted(execute), store=faulty, clock=clock)
    faulty.away = {"list_runs"}
    released = [await harness.deliver(identity="x") for _ in range(12)]
    faulty.away = set()
    run = await harness.run(identity="x")

    assert {type(outcome) for outcome in released} == {Released}
    assert (run.status, run.result, run.attempt) == ("success", [1, None], 13)
    assert harness.executions(run.id) == {"a": 1}


async def test_an_unrecorded_run_that_cannot_look_up_the_last_success_is_not_run(
    faulty: FaultyStore, clock: ManualClock
) -> None:
    async def execute(ctx: RunContext) -> None:
        await ctx.last_success()

    harness = Harness(scripted(execute), store=faulty, clock=clock)
    faulty.away = {"start_run", "list_runs"}
    with pytest.raises(RunStartFailed, match="its execution was stopped: the store: list_runs: it is away"):
        await harness.run()
    faulty.away = set()

    assert await harness.runs() == []


async def test_a_commit_is_carried_through_when_its_caller_is_cancelled(
    faulty: FaultyStore, clock: ManualClock
) -> None:
    executions: list[str] = []

    async def execute(ctx: RunContext) -> int:
        step = asyncio.create_task(ctx.step("a", body))
        await faulty.arrived.wait()
        step.cancel()
        faulty.may_answer.set()
        with pytest.raises(asyncio.CancelledError):
            await step
        return await ctx.step("b", body)

    async def body() -> int:
        executions.append("body")
        return len(executions)

    faulty.may_answer.clear()
    harness = Harness(scripted(execute), store=faulty, clock=clock)
    run = await harness.run(identity="x")

    assert (run.status, run.result, executions) == ("success", 2, ["body", "body"])
    assert set(await harness.steps(run.id)) == {"a", "b"}


async def test_a_store_that_never_answers_ends_the_attempt_when_its_invocation_ends(
    faulty: FaultyStore, clock: ManualClock
) -> None:
    async def execute(ctx: RunContext) -> int:
        return await ctx.step("a", body, ctx)

    async def body(ctx: RunContext) -> int:
        if ctx.attempt == 1:
            clock.advance(timedelta(seconds=94))
        return ctx.attempt

    faulty.silent = {"record_step"}
    faulty.while_silent = lambda: clock.advance(timedelta(seconds=3))
    with use_store(faulty):
        engine = engine_of(equipped(scripted(execute, timeout_seconds=100)(), clock=clock))
        ended = await engine.invoke(TriggerType.MANUAL, {})
        resumed = await engine.resume(ended.run.id)

    assert isinstance(ended, Released)
    assert (resumed.run.status, resumed.run.result) == ("success", 1), "the record was there all the same"


async def test_a_result_is_recorded_although_the_process_was_paused_past_the_end_of_its_invocation(
    faulty: FaultyStore, clock: ManualClock
) -> None:
    executions: list[str] = []

    async def execute(ctx: RunContext) -> int:
        return await ctx.step("a", body)

    async def body() -> int:
        executions.append("body")
        clock.advance(timedelta(seconds=500))
        return len(executions)

    harness = Harness(scripted(execute, timeout_seconds=100), store=faulty, clock=clock)
    await harness.deliver(identity="x")
    run = await harness.run(identity="x")

    assert (run.status, run.result, executions) == ("success", 1, ["body"])


class SlowLog:
    """A run log of an author's, for one method that never answers; how long it is waited for is noted."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.left: list[float] = []

    def __getattr__(self, name: str) -> Any:
        async def never(*_: Any, **__: Any) -> None:
            self.left.append(seconds_left())
            self._clock.advance(timedelta(seconds=0.5))
            await asyncio.Event().wait()

        return never


async def test_calls_that_are_never_answered_add_up_to_no_more_than_the_invocation_has(clock: ManualClock) -> None:
    log = SlowLog(clock)
    workflow = equipped(
        scripted(lambda ctx: ctx.last_success(), timeout_seconds=2)(), run_log=cast("Any", log), clock=clock
    )
    began = clock.monotonic()
    await workflow.run(TriggerType.MANUAL, {})

    assert len(log.left) == 4, "statistics, latest run, the last success, the ending"
    assert all(left <= 0.4 for left in log.left)
    assert clock.monotonic() - began <= 2


async def test_the_platforms_limit_is_handed_down_if_it_is_sooner_than_the_manifests(
    faulty: FaultyStore, clock: ManualClock
) -> None:
    left: list[float] = []

    async def execute(ctx: RunContext) -> None:
        left.append(seconds_left())

    with use_store(faulty):
        engine = engine_of(equipped(scripted(execute)(), clock=clock))
        await engine.invoke(TriggerType.MANUAL, {}, request_timeout_seconds=7)

    assert left == [7]
