"""Who may work on a run: leases, fences, takeovers, and how they end."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from autopilot import BaseWorkflow, RunContext, Trigger, TriggerType
from autopilot.base_workflow import engine_of
from autopilot.core.outcome import Outcome, Released, Replayed, Superseded
from autopilot.errors import PayloadConflict, RunNotFound, RunStateConflict
from autopilot.models import StepStatus
from autopilot.storage.sqlite.store import SQLiteStore
from autopilot.testing import Harness, InstanceKilled, ManualClock
from tests.durable.scripts import scripted
from tests.log_events import Events, named
from tests.runs import without_values


async def two_steps(ctx: RunContext) -> list[int]:
    return [await ctx.step("a", lambda: 1), await ctx.step("b", lambda: 2)]


async def killed(harness: Harness, moment: str, identity: str = "x") -> None:
    with pytest.raises(InstanceKilled):
        await harness.run(identity=identity, kill_at=moment)


async def test_while_the_lease_lasts_the_trigger_is_told_that_the_run_is_at_work() -> None:
    harness = Harness(scripted(two_steps, timeout_seconds=100))
    await killed(harness, "after body b")
    harness.advance(timedelta(seconds=101))
    held = await harness.deliver(identity="x")

    assert isinstance(held, Replayed)
    assert held.run.status == "running"
    assert held.run.due_at == harness.clock.now() + timedelta(seconds=1)

    harness.advance(timedelta(seconds=1))
    run = await harness.run(identity="x")

    assert (run.status, run.attempt, run.result) == ("success", 2, [1, 2])
    assert harness.executions(run.id) == {"a": 1, "b": 2}


async def test_a_lease_outlasts_the_deadline_so_that_an_attempt_can_still_write_its_ending() -> None:
    others: list[Outcome] = []

    async def execute(ctx: RunContext) -> None:
        await ctx.step("a", lambda: 1)
        harness.advance(timedelta(seconds=101))  # a second more than the invocation has
        others.append(await harness.deliver(identity="x"))

    harness = Harness(scripted(execute, timeout_seconds=100))
    released = await harness.deliver(identity="x")

    assert isinstance(released, Released)
    assert released.persisted
    assert all(isinstance(other, Replayed) for other in others), "the run was taken from an attempt that was ending"


async def test_of_many_triggers_of_an_orphaned_run_at_once_one_goes_on() -> None:
    harness = Harness(scripted(two_steps))
    await killed(harness, "after body a")
    harness.expire_lease()
    outcomes = await asyncio.gather(*(harness.deliver(identity="x") for _ in range(20)))

    at_work = [outcome for outcome in outcomes if not isinstance(outcome, Replayed)]
    assert len(at_work) == 1
    assert harness.executions(at_work[0].run.id) == {"a": 2, "b": 1}
    assert (await harness.stats())["by_status"] == {"success": 1}


async def test_of_many_first_triggers_at_once_one_executes() -> None:
    harness = Harness(scripted(two_steps))
    outcomes = await asyncio.gather(*(harness.deliver(identity="x") for _ in range(50)))

    assert len({outcome.run.id for outcome in outcomes}) == 1
    assert harness.executions(outcomes[0].run.id) == {"a": 1, "b": 1}
    assert (await harness.stats())["by_status"] == {"success": 1}


class Zombie(BaseWorkflow):
    """Its first attempt stands still in the body of ``b`` until it is let go."""

    manifest = scripted(two_steps).manifest

    def __init__(self) -> None:
        super().__init__()
        self.is_asleep, self.may_wake = asyncio.Event(), asyncio.Event()

    async def execute(self, ctx: RunContext, payload: dict[str, int]) -> list[int]:
        first = await ctx.step("a", lambda: 1)
        second = await ctx.step("b", self.b, ctx.attempt)
        return [first, second, await ctx.step("c", lambda: ctx.attempt)]

    async def b(self, attempt: int) -> int:
        if attempt == 1:
            self.is_asleep.set()
            await self.may_wake.wait()
        return attempt


async def zombie_and_successor(events: Events) -> tuple[Harness, Outcome, Outcome]:
    sleeper, harness = Zombie(), Harness(Zombie)
    # Its process stands still, and with it the clock by which it would end at its deadline.
    asleep = Harness(lambda: sleeper, store=harness.store, clock=ManualClock())
    asleep.trace = harness.trace
    zombie = asyncio.ensure_future(asleep.deliver(identity="x"))
    await sleeper.is_asleep.wait()
    harness.expire_lease()
    successor = await harness.deliver(identity="x")
    sleeper.may_wake.set()
    return harness, await zombie, successor


async def test_a_step_that_returns_after_its_lease_changes_nothing(events: Events) -> None:
    harness, zombie, successor = await zombie_and_successor(events)

    assert (successor.run.status, successor.run.result) == ("success", [1, 2, 2])
    assert isinstance(zombie, Superseded)
    assert await harness.get_run(successor.run.id) == successor.run
    assert (await harness.stats())["by_status"] == {"success": 1}
    step = (await harness.steps(successor.run.id))["b"]
    assert (step.result, step.attempt) == ("2", 2)
    assert harness.executions(successor.run.id) == {"a": 1, "b": 2, "c": 1}
    assert [event["stored_attempt"] for event in named(events, "workflow_run_superseded")] == [2]
    assert named(events, "workflow_run_released") == []


@pytest.mark.parametrize("jump", (timedelta(days=-400), timedelta(days=20)), ids=("back", "forward"))
async def test_a_run_survives_a_clock_that_is_set_while_it_works(jump: timedelta) -> None:
    clock = ManualClock()

    async def execute(ctx: RunContext) -> list[int]:
        first = await ctx.step("a", lambda: 1)
        clock.jump(clock.now() + jump)
        return [first, await ctx.step("b", lambda: 2)]

    harness = Harness(scripted(execute), clock=clock)
    run = await harness.run()

    assert (run.status, run.result, run.duration_ms) == ("success", [1, 2], 0)
    assert run.completed_at == clock.now()


async def test_an_orphan_is_taken_over_once_the_clock_that_went_back_has_come_there_again() -> None:
    harness = Harness(scripted(two_steps))
    await killed(harness, "after body b")
    harness.clock.jump(harness.clock.now() - timedelta(hours=1))
    harness.expire_lease()
    held = await harness.run(identity="x")
    harness.advance(timedelta(hours=1))
    run = await harness.run(identity="x")

    assert (held.status, run.status, run.attempt) == ("running", "success", 2)


async def test_a_run_under_the_identity_of_an_expired_one_sees_none_of_its_steps() -> None:
    values = iter(range(100))

    async def execute(ctx: RunContext) -> list[int]:
        return [await ctx.step("a", lambda: next(values)), await ctx.step("b", lambda: next(values))]

    harness = Harness(scripted(execute, retention=timedelta(days=1), max_age=timedelta(days=300)))
    first = await harness.run(identity="x")
    harness.advance(timedelta(days=2))
    await killed(harness, "after body b")
    harness.expire_lease()
    second = await harness.run(identity="x")

    assert first.id == second.id
    assert (first.result, second.result) == ([0, 1], [2, 4])
    assert second.attempt == 2
    assert (await harness.stats())["total"] == 2


async def test_an_orphan_with_another_payload_is_refused() -> None:
    harness = Harness(scripted(two_steps))
    await killed(harness, "after body b")
    harness.expire_lease()

    with pytest.raises(PayloadConflict):
        await harness.run({"other": 1}, identity="x")


async def test_a_run_that_is_taken_over_again_and_again_without_a_new_step_ends_as_a_crash_loop() -> None:
    harness = Harness(scripted(two_steps, max_idle_claims=3))
    for _ in range(4):
        await killed(harness, "after body b")
        harness.expire_lease()
    run = await harness.run(identity="x")

    assert (run.status, run.error_type) == ("failed", "CrashLoop")
    assert harness.executions(run.id) == {"a": 1, "b": 4}
    assert (await harness.stats())["by_status"] == {"failed": 1}


async def test_a_new_step_begins_the_count_of_a_crash_loop_anew_and_so_does_a_persons_retry() -> None:
    harness = Harness(scripted(two_steps, max_idle_claims=2))
    for moment in ("after body a", "after body a", "after body b", "after body b", "after body b"):
        await killed(harness, moment)
        harness.expire_lease()
    failed = await harness.run(identity="x")
    run = await harness.retry(failed.id)

    assert (failed.error_type, run.status, run.result) == ("CrashLoop", "success", [1, 2])


async def test_a_crash_loop_is_not_tried_again_by_the_runs_own_policy() -> None:
    harness = Harness(scripted(two_steps, max_idle_claims=1, retry={"attempts": 5}))
    for _ in range(2):
        await killed(harness, "before body a")
        harness.expire_lease()
    run = await harness.run(identity="x")

    assert (run.error_type, harness.clock.slept) == ("CrashLoop", [])


async def test_a_run_older_than_its_max_age_is_not_gone_on_with() -> None:
    harness = Harness(scripted(two_steps, max_age=timedelta(hours=1)))
    await killed(harness, "after body b")
    harness.advance(timedelta(hours=2))
    run = await harness.run(identity="x")

    assert (run.status, run.error_type) == ("failed", "RunTooOld")
    assert harness.executions(run.id) == {"a": 1, "b": 1}


async def test_resuming_goes_on_with_an_orphan_and_leaves_every_other_run_as_it_is() -> None:
    harness = Harness(scripted(two_steps))
    await killed(harness, "after body b")
    (orphan,) = await harness.runs()
    held = await harness.resume(orphan.id)
    harness.expire_lease()
    run = await harness.resume(orphan.id)
    again = await harness.resume(orphan.id)

    assert (held.status, run.status) == ("running", "success")
    assert again == run
    assert harness.executions(run.id) == {"a": 1, "b": 2}


async def test_a_run_that_does_not_exist_cannot_be_resumed_or_retried() -> None:
    harness = Harness(scripted(two_steps))

    for call in (harness.resume, harness.retry):
        for run_id in ("none", "", "../x", "x" * 500):
            with pytest.raises(RunNotFound):
                await call(run_id)


async def test_only_a_run_that_failed_or_was_cancelled_can_be_retried() -> None:
    harness = Harness(scripted(two_steps))
    succeeded = await harness.run(identity="y")
    await killed(harness, "after body b")
    (orphan,) = await harness.runs(status=succeeded.status.RUNNING)

    for run_id in (succeeded.id, orphan.id):
        with pytest.raises(RunStateConflict):
            await harness.retry(run_id)


async def test_a_retry_moves_the_statistics_and_counts_no_run_more() -> None:
    is_well = False

    async def execute(ctx: RunContext) -> int:
        return await ctx.step("a", lambda: 1 if is_well else 1 // 0)

    harness = Harness(scripted(execute))
    failed = await harness.run()
    before = await harness.stats()
    is_well = True
    run = await harness.retry(failed.id)

    assert (before["by_status"], (await harness.stats())["by_status"]) == ({"failed": 1}, {"success": 1})
    assert (run.error, run.error_type, run.reopened_attempt, run.started_at) == (None, None, 2, failed.started_at)


async def test_durations_add_up_over_attempts() -> None:
    clock = ManualClock()

    async def execute(ctx: RunContext) -> None:
        clock.advance(timedelta(seconds=2))
        await ctx.step("a", lambda: 1 if ctx.attempt > 1 else 1 // 0)
        clock.advance(timedelta(seconds=3))

    harness = Harness(scripted(execute), clock=clock)
    failed = await harness.run()
    clock.advance(timedelta(hours=1))
    run = await harness.retry(failed.id)

    assert (failed.duration_ms, run.duration_ms) == (2000, 7000)


@pytest.mark.usefixtures("default_store")
async def test_the_instance_that_resumes_its_own_run_counts_and_lists_it_once() -> None:
    async def execute(ctx: RunContext) -> int:
        return await ctx.step("a", lambda: 1 if ctx.attempt > 1 else 1 // 0)

    workflow = scripted(execute)()
    failed = await workflow.run(TriggerType.MANUAL, trigger=Trigger(identity="x"))
    outcome = await engine_of(workflow).retry(failed.id)

    assert workflow.recent_runs == [without_values(outcome.run)]
    assert workflow.last_run == without_values(outcome.run)
    assert (workflow.total_runs, workflow.success_rate) == (1, 100.0)


async def test_a_cold_instance_that_resumes_counts_the_run_once() -> None:
    instances: list[BaseWorkflow] = []
    workflow = scripted(two_steps)

    def made() -> BaseWorkflow:
        instances.append(workflow())
        return instances[-1]

    harness = Harness(made)
    await killed(harness, "after body b")
    harness.expire_lease()
    await harness.run(identity="x")

    assert (instances[-1].total_runs, instances[-1].success_rate) == (1, 100.0)


async def test_steps_that_nobody_can_need_any_more_are_removed_with_time(tmp_path: object) -> None:
    path = f"{tmp_path}/runs.db"
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    workflow = scripted(two_steps, retention=timedelta(days=1), max_age=timedelta(days=1))
    store = SQLiteStore(path, clock=clock)
    harness = Harness(workflow, store=store, clock=clock)
    run = await harness.run()
    assert set(await harness.steps(run.id)) == {"a", "b"}
    assert {step.status for step in (await harness.steps(run.id)).values()} == {StepStatus.SUCCESS}

    clock.advance(timedelta(days=3))
    store.close()

    assert await harness.steps(run.id) == {}
