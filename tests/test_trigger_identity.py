"""A repeated trigger is the same run; and triggers that lead to no execution."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from autopilot import RunContext, RunStatus, Schedule, Trigger, TriggerType, WorkflowManifest
from autopilot.base_workflow import engine_of
from autopilot.core.outcome import Replayed
from autopilot.core.runs.identity import run_id_of
from autopilot.core.store import Store
from autopilot.errors import PayloadConflict, RunStartFailed, StoreUnavailable
from autopilot.testing import ManualClock
from tests.equipment import equipped
from tests.functions_in_process import BrokenStore
from tests.log_events import Events, named
from tests.run_logs import Digest, ScriptedRunLog, raising, returning, until

TICK = Trigger(identity="key\nmonday")

pytestmark = pytest.mark.usefixtures("events")


class Gate:
    """A workflow's work that goes on when it is told to."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()

    async def __call__(self, ctx: RunContext, payload: dict[str, Any]) -> str:
        await self.is_open.wait()
        return "through"


async def test_a_trigger_without_an_identity_is_a_run_of_its_own(default_store: Store) -> None:
    workflow = Digest()

    runs = [await workflow.run(TriggerType.HTTP, {}) for _ in range(3)]

    assert len({run.id for run in runs}) == 3 == workflow.executed


@pytest.mark.parametrize("work", (returning({"b": 1, "a": 2}), raising(ValueError("no feed"))))
async def test_a_finished_run_is_answered_from_the_record(default_store: Store, work: Any, events: Events) -> None:
    workflow, elsewhere = Digest(work), Digest(work)
    first = await workflow.run(TriggerType.HTTP, {"x": 1, "y": 2}, trigger=TICK)

    again = await workflow.run(TriggerType.HTTP, {"y": 2, "x": 1}, trigger=TICK)
    there = await elsewhere.run(TriggerType.HTTP, {"x": 1, "y": 2}, trigger=TICK)

    assert first == again == there
    assert first.id == run_id_of("digest", "key\nmonday")
    assert (workflow.executed, elsewhere.executed) == (1, 0)
    assert (workflow.total_runs, elsewhere.total_runs) == (1, 1)
    assert (await default_store.get_stats("digest"))["total"] == 1
    assert len(named(events, "workflow_run_completed")) == 1


async def test_of_twenty_at_once_one_is_executed(default_store: Store) -> None:
    gate = Gate()
    instances = [Digest(gate), Digest(gate)]
    outcomes = asyncio.gather(
        *(engine_of(instances[n % 2]).invoke(TriggerType.HTTP, {"n": 1}, trigger=TICK) for n in range(20))
    )
    await until_executed(instances)
    gate.is_open.set()

    found = await outcomes

    assert sum(workflow.executed for workflow in instances) == 1
    assert [isinstance(outcome, Replayed) for outcome in found].count(False) == 1
    assert {outcome.run.id for outcome in found} == {run_id_of("digest", "key\nmonday")}
    assert await default_store.get_stats("digest") == {"total": 1, "successful": 1, "by_status": {"success": 1}}


async def until_executed(instances: list[Digest]) -> None:
    async with asyncio.timeout(10):
        while not any(workflow.executed for workflow in instances):  # noqa: ASYNC110 - a database's thread is waited for
            await asyncio.sleep(0.001)


async def test_one_that_is_still_running_is_told_as_it_stands(default_store: Store) -> None:
    gate = Gate()
    workflow = Digest(gate)
    running = asyncio.create_task(workflow.run(TriggerType.HTTP, {}, trigger=TICK))
    await until_executed([workflow])

    outcome = await engine_of(Digest()).invoke(TriggerType.HTTP, {}, trigger=TICK)
    gate.is_open.set()

    assert isinstance(outcome, Replayed)
    assert outcome.run.status is RunStatus.RUNNING
    assert outcome.run.due_at is not None
    assert (await running).status is RunStatus.SUCCESS


async def test_another_payload_is_a_conflict(default_store: Store) -> None:
    workflow = Digest()
    first = await workflow.run(TriggerType.HTTP, {"n": 1}, trigger=TICK)

    with pytest.raises(PayloadConflict, match=first.id):
        await workflow.run(TriggerType.HTTP, {"n": 2}, trigger=TICK)

    assert (workflow.executed, workflow.total_runs) == (1, 1)
    assert await default_store.get_run("digest", first.id) == first


async def test_the_same_identity_is_another_run_of_another_workflow(default_store: Store) -> None:
    class Other(Digest):
        manifest = WorkflowManifest(name="other")

    runs = [await workflow.run(TriggerType.HTTP, {}, trigger=TICK) for workflow in (Digest(), Other())]

    assert runs[0].id != runs[1].id


class TestWithABareRunLog:
    async def test_a_finished_run_is_found_in_it(self) -> None:
        run_log = ScriptedRunLog()
        first = await Digest(run_log=run_log).run(TriggerType.HTTP, {}, trigger=TICK)
        cold = Digest(run_log=run_log)

        assert await cold.run(TriggerType.HTTP, {}, trigger=TICK) == first
        assert (cold.executed, run_log.saved) == (0, [first])

    async def test_one_at_work_here_is_not_begun_twice(self) -> None:
        run_log, gate = ScriptedRunLog(), Gate()
        workflow = Digest(gate, run_log=run_log)
        running = asyncio.create_task(workflow.run(TriggerType.HTTP, {}, trigger=TICK))
        await until(lambda: workflow.executed == 1)

        outcome = await engine_of(workflow).invoke(TriggerType.HTTP, {}, trigger=TICK)
        with pytest.raises(PayloadConflict):
            await workflow.run(TriggerType.HTTP, {"other": 1}, trigger=TICK)
        gate.is_open.set()

        assert isinstance(outcome, Replayed)
        assert outcome.run.status is RunStatus.RUNNING
        assert (await running).status is RunStatus.SUCCESS
        assert (workflow.executed, workflow.total_runs, len(run_log.saved)) == (1, 1, 1)

    async def test_one_that_is_away_is_logged_and_the_run_goes_on(self, events: Events) -> None:
        run_log = ScriptedRunLog()
        run_log.failing["get_run"] = StoreUnavailable("memory", "reading", "away")

        run = await Digest(run_log=run_log).run(TriggerType.HTTP, {}, trigger=TICK)

        assert run.status is RunStatus.SUCCESS
        assert named(events, "run_log_start_failed")[0]["run_id"] == run.id

    async def test_one_that_could_not_be_saved_is_still_known_here(self) -> None:
        run_log = ScriptedRunLog()
        workflow = Digest(run_log=run_log)
        run_log.failing["save_run"] = StoreUnavailable("memory", "saving", "away")

        first = await workflow.run(TriggerType.HTTP, {}, trigger=TICK)
        outcome = await engine_of(workflow).invoke(TriggerType.HTTP, {}, trigger=TICK)

        assert isinstance(outcome, Replayed)
        assert (outcome.run, outcome.persisted) == (first, False)
        assert workflow.executed == 1


async def test_a_start_that_must_be_recorded_and_is_not_runs_nothing(
    broken_store: BrokenStore,
) -> None:
    broken_store.away = {"start_run"}
    workflow = Digest()

    with pytest.raises(RunStartFailed, match="nothing was run"):
        await engine_of(workflow).invoke(TriggerType.HTTP, {}, trigger=TICK, require_start=True)

    assert (workflow.executed, workflow.total_runs, workflow.recent_runs) == (0, 0, [])


class Scheduled(Digest):
    manifest = WorkflowManifest(
        name="digest", schedules=(Schedule(cron="0 * * * *", max_lateness=timedelta(minutes=5)),)
    )


@pytest.mark.parametrize(("late_by", "status"), ((300, RunStatus.SUCCESS), (301, RunStatus.SKIPPED)))
async def test_a_tick_that_comes_too_late_is_recorded_and_not_executed(
    default_store: Store, clock: ManualClock, late_by: int, status: RunStatus
) -> None:
    workflow = equipped(Scheduled(), clock=clock)
    trigger = Trigger(identity="tick", schedule="default", scheduled_for=clock.now() - timedelta(seconds=late_by))

    run = await workflow.run(TriggerType.SCHEDULE, {}, trigger=trigger)

    assert (run.status, workflow.executed) == (status, int(status is RunStatus.SUCCESS))
    assert await default_store.get_run("digest", run.id) == run
    if status is RunStatus.SKIPPED:
        assert run.error_type == "TooLate"
        assert "came 301 s late; schedule default allows 300 s" in (run.error or "")
        assert await workflow.run(TriggerType.SCHEDULE, {}, trigger=trigger) == run
        assert workflow.total_runs == 0
