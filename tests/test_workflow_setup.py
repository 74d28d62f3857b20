"""What an instance does at its first invocation: read its past, and an author's own setup."""

import asyncio
from typing import Any

import pytest

from autopilot import RunContext, RunStatus, TriggerType, WorkflowRun
from autopilot.base_workflow import engine_of
from autopilot.errors import StoreUnavailable
from autopilot.models import RunStats
from tests.equipment import equipped
from tests.log_events import Events, named
from tests.run_logs import Digest, ScriptedRunLog, until
from tests.runs import MakeRun

AWAY = StoreUnavailable("memory", "any call", "away")

# Not rendered: the default rendering of a traceback takes its time.
pytestmark = pytest.mark.usefixtures("events")


@pytest.fixture
def run_log() -> ScriptedRunLog:
    return ScriptedRunLog()


class TestHydration:
    async def test_a_cold_instance_knows_its_past_before_its_first_run(
        self, run_log: ScriptedRunLog, make_run: MakeRun
    ) -> None:
        past = [make_run(), make_run(status=RunStatus.FAILED), make_run(status=RunStatus.SKIPPED), make_run()]
        for run in past:
            await run_log.save_run(run)
        seen: list[tuple[int, float, WorkflowRun | None]] = []

        async def work(ctx: RunContext, payload: dict[str, Any]) -> None:
            seen.append((workflow.total_runs, workflow.success_rate, workflow.last_run))

        workflow = Digest(work, run_log=run_log)
        await workflow.run(TriggerType.MANUAL, {})

        assert seen == [(3, 66.7, past[-1])]

    async def test_it_is_logged_with_what_it_found(
        self, run_log: ScriptedRunLog, make_run: MakeRun, events: Events
    ) -> None:
        await run_log.save_run(make_run())
        await run_log.save_run(make_run(status=RunStatus.FAILED))

        await Digest(run_log=run_log).run(TriggerType.MANUAL, {})

        assert named(events, "run_log_hydrated") == [
            {"log_level": "info", "workflow": "digest", "total_runs": 2, "successful_runs": 1}
        ]

    async def test_its_two_reads_are_sent_together(self) -> None:
        both = asyncio.Barrier(2)

        class MeetingRunLog(ScriptedRunLog):
            async def _called(self, method: str) -> None:
                await super()._called(method)
                if method in {"get_stats", "get_latest_run"}:
                    await both.wait()

        run_log = MeetingRunLog()
        async with asyncio.timeout(5):
            await Digest(run_log=run_log).run(TriggerType.MANUAL, {})

        assert sorted(run_log.calls) == ["get_latest_run", "get_stats", "save_run"]

    async def test_it_happens_once_however_many_runs_begin_at_once(self, run_log: ScriptedRunLog) -> None:
        workflow = Digest(run_log=run_log)

        await asyncio.gather(*(workflow.run(TriggerType.MANUAL, {}) for _ in range(20)))

        assert run_log.calls.count("get_stats") == run_log.calls.count("get_latest_run") == 1
        assert workflow.total_runs == 20

    async def test_a_direct_setup_is_not_repeated_by_the_first_run(self, run_log: ScriptedRunLog) -> None:
        workflow = Digest(run_log=run_log)

        await workflow.setup()
        await workflow.run(TriggerType.MANUAL, {})

        assert run_log.calls.count("get_stats") == 1

    @pytest.mark.parametrize("method", ("get_stats", "get_latest_run"))
    async def test_a_failure_of_either_read_is_logged_and_never_blocks(
        self, run_log: ScriptedRunLog, events: Events, method: str
    ) -> None:
        run_log.failing[method] = RuntimeError("not today")

        run = await Digest(run_log=run_log).run(TriggerType.MANUAL, {})

        assert run.status is RunStatus.SUCCESS
        assert named(events, "run_log_hydration_skipped") == [
            {"log_level": "warning", "workflow": "digest", "error": "RuntimeError: not today"}
        ]
        assert not named(events, "run_log_hydrated")

    async def test_the_next_invocation_tries_again_and_counts_exactly(
        self, run_log: ScriptedRunLog, make_run: MakeRun
    ) -> None:
        await run_log.save_run(make_run())
        workflow = Digest(run_log=run_log)
        run_log.failing["get_stats"] = AWAY
        await workflow.run(TriggerType.MANUAL, {})
        assert workflow.total_runs == 1

        run_log.failing.clear()
        await workflow.run(TriggerType.MANUAL, {})

        assert (workflow.total_runs, workflow.success_rate) == (3, 100.0)

    async def test_a_run_log_that_hangs_leaves_the_run_its_time(self, run_log: ScriptedRunLog, events: Events) -> None:
        run_log.hanging = {"get_stats", "save_run"}

        async with asyncio.timeout(5):
            run = await equipped(Digest(), run_log=run_log, clock=run_log.clock).run(TriggerType.MANUAL, {})

        assert run.status is RunStatus.SUCCESS
        (skipped,), (failed,) = named(events, "run_log_hydration_skipped"), named(events, "run_log_persist_failed")
        assert skipped["error"] == "StoreUnavailable: run log: reading the past: no answer within 10 s"
        assert failed["error"] == f"StoreUnavailable: run log: saving run {run.id}: no answer within 10 s"

    async def test_one_that_hangs_is_waited_for_once_by_all_runs_that_begin_at_once(
        self, run_log: ScriptedRunLog, events: Events
    ) -> None:
        run_log.hanging = {"get_stats"}
        workflow = equipped(Digest(), run_log=run_log, clock=run_log.clock)

        await asyncio.gather(*(workflow.run(TriggerType.MANUAL, {}) for _ in range(20)))

        assert run_log.calls.count("get_stats") == 1
        assert len(named(events, "run_log_hydration_skipped")) == 1
        assert workflow.total_runs == 20

    async def test_a_late_one_counts_the_runs_under_way_and_unsaved_once(
        self, run_log: ScriptedRunLog, make_run: MakeRun
    ) -> None:
        await run_log.save_run(make_run())
        run_log.failing = {"get_stats": AWAY, "save_run": AWAY}
        is_released = asyncio.Event()

        async def work(ctx: RunContext, payload: dict[str, Any]) -> None:
            if payload:
                await is_released.wait()

        workflow = Digest(work, run_log=run_log)
        await workflow.run(TriggerType.MANUAL, {})
        under_way = asyncio.create_task(workflow.run(TriggerType.MANUAL, {"wait": True}))
        await until(lambda: workflow.executed == 2)
        del run_log.failing["get_stats"]

        await workflow.run(TriggerType.MANUAL, {})
        assert workflow.total_runs == 3
        run_log.failing.clear()
        is_released.set()
        await under_way
        await workflow.run(TriggerType.MANUAL, {})

        assert workflow.total_runs == 5
        assert engine_of(workflow).history.stats == await run_log.get_stats("digest")

    async def test_what_is_read_while_a_run_is_being_saved_is_read_again(self, run_log: ScriptedRunLog) -> None:
        class SlowToAnswer(ScriptedRunLog):
            """Commits at once and says so late, as a database far away does."""

            answering = asyncio.Event()

            async def save_run(self, run: WorkflowRun) -> None:
                await super().save_run(run)
                await self.answering.wait()

        slow = SlowToAnswer()
        slow.failing["get_stats"] = AWAY
        workflow = Digest(run_log=slow)
        first = asyncio.create_task(workflow.run(TriggerType.MANUAL, {}))
        await until(lambda: bool(slow.runs))
        slow.failing.clear()
        second = asyncio.create_task(workflow.run(TriggerType.MANUAL, {}))
        for _ in range(20):
            await asyncio.sleep(0)
        slow.answering.set()
        await asyncio.gather(first, second)

        assert workflow.total_runs == 2
        assert engine_of(workflow).history.stats == await slow.get_stats("digest")

    async def test_what_is_read_while_a_run_ends_is_read_again(self) -> None:
        class SlowToRead(ScriptedRunLog):
            """Looks at once and answers late, when another run has ended and is saved."""

            def __init__(self) -> None:
                super().__init__()
                self.may_end = asyncio.Event()
                self.first_is_saved = asyncio.Event()

            async def get_stats(self, workflow_id: str) -> RunStats:
                found = await super().get_stats(workflow_id)
                self.may_end.set()
                await self.first_is_saved.wait()
                return found

        run_log = SlowToRead()
        run_log.failing["get_stats"] = AWAY

        async def work(ctx: RunContext, payload: dict[str, Any]) -> None:
            await run_log.may_end.wait()

        workflow = Digest(work, run_log=run_log)
        first = asyncio.create_task(workflow.run(TriggerType.MANUAL, {}))
        first.add_done_callback(lambda _: run_log.first_is_saved.set())
        await until(lambda: workflow.executed == 1)
        run_log.failing.clear()

        await workflow.run(TriggerType.MANUAL, {})

        assert first.done()
        assert workflow.total_runs == 2
        assert engine_of(workflow).history.stats == await run_log.get_stats("digest")


class TestSetup:
    async def test_an_authors_setup_runs_once_on_the_first_invocation(self, run_log: ScriptedRunLog) -> None:
        called: list[int] = []

        class Prepared(Digest):
            async def setup(self) -> None:
                await super().setup()
                called.append(self.total_runs)

        workflow = Prepared(run_log=run_log)
        assert called == []
        run_log.failing["get_stats"] = AWAY
        await workflow.run(TriggerType.MANUAL, {})
        run_log.failing.clear()
        await workflow.run(TriggerType.MANUAL, {})
        await workflow.run(TriggerType.MANUAL, {})

        assert called == [0]
        assert run_log.calls.count("get_stats") == 2

    @pytest.mark.parametrize("error", (ValueError("no model"), SystemExit(3)))
    async def test_one_that_raises_fails_its_run_and_is_called_again(
        self, run_log: ScriptedRunLog, error: BaseException
    ) -> None:
        class Prepared(Digest):
            broken = True

            async def setup(self) -> None:
                await super().setup()
                if self.broken:
                    raise error

        workflow = Prepared(run_log=run_log)
        failed = await workflow.run(TriggerType.MANUAL, {})
        workflow.broken = False
        after = await workflow.run(TriggerType.MANUAL, {})

        assert (failed.status, failed.error_type) == (RunStatus.FAILED, type(error).__name__)
        assert (after.status, workflow.executed) == (RunStatus.SUCCESS, 1)
        assert [run.status for run in run_log.saved] == ["failed", "success"]
