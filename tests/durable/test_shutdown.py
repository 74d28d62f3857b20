"""Told to end: an attempt stops at its next await, writes down where it stands, and gives its run free."""

import asyncio
import threading
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from autopilot import MapResult, Retry, RunContext, TriggerType
from autopilot.base_workflow import engine_of
from autopilot.core.outcome import Released, Superseded
from autopilot.core.shutdown import CUT_OFF_AFTER_SECONDS, CUT_OFF_WITHIN_SECONDS, Shutdown
from autopilot.core.store import Store
from autopilot.errors import RunStartFailed
from autopilot.testing import Harness, ManualClock
from tests.durable.scripts import scripted
from tests.equipment import equipped
from tests.functions_in_process import BrokenStore
from tests.log_events import Events, named


async def waits_once(ctx: RunContext) -> list[int]:
    async def body() -> int:
        if ctx.attempt == 1:
            await asyncio.Event().wait()
        return 2

    return [await ctx.step("a", lambda: 1), await ctx.step("b", body)]


async def test_a_run_is_given_free_and_goes_on_at_once(events: Events) -> None:
    harness = Harness(scripted(waits_once))
    released = await harness.deliver(identity="x", shut_down_at="before body b")
    run = await harness.run(identity="x")

    assert isinstance(released, Released)
    assert released.reason == "the instance is shut down"
    assert (run.status, run.attempt, run.result) == ("success", 2, [1, 2])
    assert harness.executions(run.id) == {"a": 1, "b": 2}
    (line,) = named(events, "workflow_run_released")
    assert (line["run_id"], line["attempt"], line["reason"]) == (run.id, 1, "the instance is shut down")
    assert (await harness.stats())["by_status"] == {"success": 1}


async def stay(ctx: RunContext) -> int:
    """Does not end in the first attempt."""
    if ctx.attempt == 1:
        await asyncio.Event().wait()
    return ctx.attempt


async def grouped(ctx: RunContext) -> list[int]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ctx.step("b", stay, ctx))]
    return [task.result() for task in tasks]


async def gathered(ctx: RunContext) -> list[int]:
    return list(await asyncio.gather(ctx.step("b", stay, ctx)))


async def gathered_with_exceptions(ctx: RunContext) -> Any:
    await asyncio.gather(ctx.step("b", stay, ctx), return_exceptions=True)
    return await ctx.step("after", lambda: [2])


async def mapped(ctx: RunContext) -> list[int]:
    found: MapResult[int] = await ctx.map("b", stay, [ctx])
    return found.successes


async def swallowing(ctx: RunContext) -> list[int]:
    for key in range(3):
        try:
            return [await ctx.step("b", stay, ctx, key=key)]
        except BaseException:  # noqa: BLE001 - an author's mistake
            continue
    return [2]


async def retrying(ctx: RunContext) -> list[int]:
    return [await ctx.step("b", stay, ctx, retry=Retry(attempts=9))]


@pytest.mark.parametrize(
    "execute", (grouped, gathered, gathered_with_exceptions, mapped, swallowing, retrying), ids=lambda e: e.__name__
)
async def test_whatever_the_authors_code_is_within_the_run_goes_on_elsewhere(execute: Any) -> None:
    harness = Harness(scripted(execute, retry=Retry(attempts=3)))
    async with asyncio.timeout(10):
        held = await harness.deliver(identity="x", shut_down_at=2)
        run = await harness.run(identity="x")

    assert harness.trace.moments[2].startswith("before body b")
    assert isinstance(held, Released)
    assert (run.status, run.attempt, run.result) == ("success", 2, [2])


async def test_a_pause_between_two_tries_is_no_obstacle(default_store: Store) -> None:
    shutdown = Shutdown()

    async def execute(ctx: RunContext) -> str:
        return await ctx.step("b", body, ctx, retry=Retry(attempts=2))

    async def body(ctx: RunContext) -> str:
        if ctx.attempt == 1:
            raise OSError("down")
        return "done"

    class Pausing(ManualClock):
        async def sleep(self, seconds: float) -> None:
            shutdown.begin()
            await asyncio.Event().wait()

    workflow = scripted(execute)
    engine = engine_of(equipped(workflow(), shutdown=shutdown, clock=Pausing()))
    async with asyncio.timeout(10):
        held = await engine.invoke(TriggerType.MANUAL, {})
        resumed = await engine_of(equipped(workflow(), clock=ManualClock())).resume(held.run.id)

    assert isinstance(held, Released)
    assert held.reason == "the instance is shut down"
    assert resumed.run.result == "done"


async def test_an_attempt_that_begins_when_the_process_is_ending_already_ends_too() -> None:
    harness = Harness(scripted(waits_once))
    async with asyncio.timeout(10):
        held = await harness.deliver(identity="x", shut_down_at="before commit start")
        run = await harness.run(identity="x")

    assert isinstance(held, Released)
    assert held.reason == "the instance is shut down"
    assert (run.status, run.attempt) == ("success", 2)


async def test_one_that_ends_while_the_process_is_told_to_is_not_disturbed() -> None:
    async def execute(ctx: RunContext) -> int:
        return await ctx.step("a", lambda: 1)

    harness = Harness(scripted(execute))
    run = await harness.run(identity="x", shut_down_at="before commit end")
    task = asyncio.current_task()

    assert (run.status, run.result) == ("success", 1)
    assert task is not None
    assert task.cancelling() == 0


async def test_after_an_interruption_nobody_thinks_that_the_request_was_cancelled() -> None:
    harness = Harness(scripted(waits_once))
    await harness.run(identity="x", shut_down_at="before body b")
    task = asyncio.current_task()

    assert task is not None
    assert task.cancelling() == 0


async def test_every_attempt_of_the_process_is_given_free(default_store: Store) -> None:
    shutdown, at_work, all_at_work = Shutdown(), [], asyncio.Event()

    async def execute(ctx: RunContext) -> None:
        at_work.append(ctx.run_id)
        if len(at_work) == 5:
            all_at_work.set()
        await asyncio.Event().wait()

    workflow = scripted(execute)
    engines = [engine_of(equipped(workflow(), shutdown=shutdown)) for _ in range(5)]
    attempts = [asyncio.ensure_future(engine.invoke(TriggerType.MANUAL, {})) for engine in engines]
    await all_at_work.wait()
    shutdown.begin()

    outcomes = await asyncio.gather(*attempts)
    assert {isinstance(outcome, Released) and outcome.reason for outcome in outcomes} == {"the instance is shut down"}


async def test_a_body_in_a_thread_is_abandoned(events: Events) -> None:
    may_end = threading.Event()

    async def execute(ctx: RunContext) -> bool:
        return await ctx.step("slow", may_end.wait, 10)

    harness = Harness(scripted(execute))
    async with asyncio.timeout(5):
        held = await harness.deliver(identity="x", shut_down_at="before body slow")
    may_end.set()
    run = await harness.run(identity="x")

    assert isinstance(held, Released)
    assert [event["step"] for event in named(events, "step_abandoned")] == ["slow"]
    assert run.result is True


async def test_what_is_no_attempt_any_more_is_not_interrupted() -> None:
    shutdown = Shutdown()
    interrupted: list[asyncio.Task[Any]] = []

    with shutdown.interrupting(interrupted.append):
        shutdown.begin()
    await asyncio.sleep(0)

    assert interrupted == []


async def test_an_attempt_that_does_not_end_is_cut_off_and_its_run_can_go_on_at_once(
    default_store: Store, events: Events
) -> None:
    clock, at_work, may_end = ManualClock(), asyncio.Event(), asyncio.Event()
    shutdown = Shutdown(clock=clock)

    async def execute(ctx: RunContext) -> list[int]:
        done = [await ctx.step("a", lambda: ctx.attempt)]
        if ctx.attempt == 1:
            at_work.set()
            while not may_end.is_set():
                with suppress(asyncio.CancelledError):  # an author's mistake
                    await may_end.wait()
        return [*done, await ctx.step("b", lambda: ctx.attempt)]

    workflow = scripted(execute)
    engine = engine_of(equipped(workflow(), shutdown=shutdown))
    attempt = asyncio.ensure_future(engine.invoke(TriggerType.MANUAL, {}))
    await at_work.wait()
    shutdown.begin()
    await asyncio.sleep(0)
    is_blocked = await shutdown.cut_off()

    (line,) = named(events, "workflow_run_cut_off")
    resumed = await engine_of(equipped(workflow())).resume(line["run_id"])
    may_end.set()
    late = await attempt

    assert not is_blocked
    assert clock.slept == [CUT_OFF_AFTER_SECONDS]
    assert (line["log_level"], line["attempt"], line["status"]) == ("warning", 1, "running")
    assert (resumed.run.status, resumed.run.attempt, resumed.run.result) == ("success", 2, [1, 2])
    assert isinstance(late, Superseded)
    assert await default_store.get_run("scripted", resumed.run.id) == resumed.run


async def test_what_blocks_its_event_loop_is_cut_off_from_another_thread(default_store: Store, events: Events) -> None:
    shutdown = Shutdown(clock=ManualClock())
    blocked: list[bool] = []

    async def execute(ctx: RunContext) -> int:
        if ctx.attempt == 1:
            shutdown.begin()
            thread = threading.Thread(target=lambda: blocked.append(asyncio.run(shutdown.cut_off())))
            thread.start()
            thread.join()  # no other task gets its turn meanwhile
        return await ctx.step("a", lambda: ctx.attempt)

    workflow = scripted(execute)
    released = await engine_of(equipped(workflow(), shutdown=shutdown)).invoke(TriggerType.MANUAL, {})
    resumed = await engine_of(equipped(workflow())).resume(released.run.id)

    assert blocked == [True]
    assert [event["run_id"] for event in named(events, "workflow_run_cut_off")] == [released.run.id]
    assert isinstance(released, Released)
    assert (resumed.run.status, resumed.run.result) == ("success", 2)


async def test_attempts_that_have_ended_are_not_cut_off(default_store: Store, events: Events) -> None:
    shutdown = Shutdown(clock=ManualClock())
    await engine_of(equipped(scripted(waits_for_nothing)(), shutdown=shutdown)).invoke(TriggerType.MANUAL, {})
    shutdown.begin()

    assert not await shutdown.cut_off()
    assert named(events, "workflow_run_cut_off") == []


async def waits_for_nothing(ctx: RunContext) -> None: ...


@pytest.mark.parametrize("method", ("save_run", None))
async def test_a_store_that_is_away_or_hangs_leaves_the_lease_to_its_end(
    broken_store: BrokenStore, events: Events, method: str | None
) -> None:
    clock, at_work, may_end = ManualClock(), asyncio.Event(), asyncio.Event()
    shutdown = Shutdown(clock=clock)

    async def execute(ctx: RunContext) -> None:
        at_work.set()
        with suppress(asyncio.CancelledError):
            await may_end.wait()
        await may_end.wait()

    engine = engine_of(equipped(scripted(execute)(), shutdown=shutdown))
    attempt = asyncio.ensure_future(engine.invoke(TriggerType.MANUAL, {}))
    await at_work.wait()
    shutdown.begin()
    await asyncio.sleep(0)
    broken_store.away = {method} if method else set()
    broken_store.hanging = set() if method else {"save_run"}
    broken_store.while_hanging = lambda: clock.advance(timedelta(seconds=CUT_OFF_WITHIN_SECONDS))
    assert not await shutdown.cut_off()
    broken_store.away, broken_store.hanging = set(), set()
    may_end.set()
    released = await attempt

    assert len(named(events, "workflow_run_cut_off")) == 1
    assert len(named(events, "run_log_persist_failed")) == (1 if method else 0)
    assert isinstance(released, Released)


async def test_an_unrecorded_run_that_is_interrupted_is_not_answered_as_if_it_were_over(
    broken_store: BrokenStore, default_store: Store
) -> None:
    shutdown, at_work = Shutdown(), asyncio.Event()

    async def execute(ctx: RunContext) -> None:
        at_work.set()
        await asyncio.Event().wait()

    broken_store.away = {"start_run"}
    workflow = scripted(execute)
    attempt = asyncio.ensure_future(engine_of(equipped(workflow(), shutdown=shutdown)).invoke(TriggerType.MANUAL, {}))
    async with asyncio.timeout(10):
        await at_work.wait()
        shutdown.begin()
        with pytest.raises(RunStartFailed, match="its execution was stopped: the instance is shut down"):
            await attempt

    assert await default_store.list_runs(workflow.manifest.name) == ([], None)
