"""BaseWorkflow, sentence by sentence of its contract: the run, its records and its events."""

import asyncio
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, ValidationError

from autopilot import BaseWorkflow, RunContext, RunStatus, TriggerType, WorkflowManifest, WorkflowRun
from autopilot.base_workflow import engine_of
from autopilot.core import run_log as run_log_module
from autopilot.core.run_log import get_run_log_service, reset_run_log_service
from autopilot.core.runs.history import RECENT_RUNS
from autopilot.errors import ConfigInvalid, RunSuperseded, StoreUnavailable, WorkflowInvalid
from autopilot.models import RunStats
from autopilot.testing import ManualClock
from tests.equipment import equipped
from tests.log_events import Events, named
from tests.run_logs import Digest, ScriptedRunLog, raising, returning
from tests.runs import without_values

AWAY = StoreUnavailable("memory", "any call", "away")

# Not rendered: the default rendering of a traceback takes its time.
pytestmark = pytest.mark.usefixtures("events")


@pytest.fixture
def run_log() -> ScriptedRunLog:
    return ScriptedRunLog()


class TestARun:
    async def test_a_success_is_saved_once_as_it_ends(self, run_log: ScriptedRunLog, clock: ManualClock) -> None:
        async def work(ctx: RunContext, payload: dict[str, Any]) -> dict[str, Any]:
            clock.advance(timedelta(milliseconds=1500))
            return {"said": payload["word"]}

        began = clock.now()
        workflow = equipped(Digest(work), run_log=run_log, clock=clock, new_id=lambda: "run-1")

        run = await workflow.run(TriggerType.HTTP, {"word": "hello"})

        assert run_log.saved == [run]
        assert workflow.recent_runs == [without_values(run)]
        assert run.model_dump(exclude={"fingerprint", "payload_hash", "expires_at"}, exclude_none=True) == {
            "id": "run-1",
            "workflow_id": "digest",
            "status": RunStatus.SUCCESS,
            "trigger_type": TriggerType.HTTP,
            "trigger_data": {"word": "hello"},
            "started_at": began,
            "completed_at": began + timedelta(milliseconds=1500),
            "duration_ms": 1500,
            "result": {"said": "hello"},
            "round": 1,
            "failed_steps": (),
            "idle_claims": 0,
            "idle_deadlines": 0,
            "attempt": 1,
            "attempts": (
                {
                    "number": 1,
                    "started_at": began,
                    "ended_at": began + timedelta(milliseconds=1500),
                    "ending": RunStatus.SUCCESS,
                },
            ),
            "version": "1",
        }
        assert run.expires_at == run.completed_at + timedelta(days=90) if run.completed_at else False

    async def test_a_failure_is_a_run_and_not_an_exception(self, run_log: ScriptedRunLog) -> None:
        run = await Digest(raising(LookupError("no feed")), run_log=run_log).run(TriggerType.MANUAL, {})

        assert (run.status, run.error, run.error_type) == (RunStatus.FAILED, "no feed", "LookupError")
        assert run.completed_at is not None
        assert run_log.saved == [run]

    async def test_the_log_tells_saving_before_completion(self, events: Events) -> None:
        class TellingRunLog(ScriptedRunLog):
            async def save_run(self, run: WorkflowRun) -> None:
                await super().save_run(run)
                events.append({"event": "saved"})

        run = await Digest(run_log=TellingRunLog()).run(TriggerType.MANUAL, {})

        assert [event["event"] for event in events] == ["run_log_hydrated", "saved", "workflow_run_completed"]
        told = named(events, "workflow_run_completed")[0]
        assert told.items() >= {
            ("log_level", "info"),
            ("workflow", "digest"),
            ("run_id", run.id),
            ("status", "success"),
            ("duration_ms", run.duration_ms),
        }

    async def test_a_failed_run_is_one_error_with_its_exception(self, run_log: ScriptedRunLog, events: Events) -> None:
        error = LookupError("no feed")

        await Digest(raising(error), run_log=run_log).run(TriggerType.MANUAL, {})

        errors = [event for event in events if event["log_level"] == "error"]
        assert [event["event"] for event in errors] == ["workflow_run_completed"]
        assert errors[0]["exception"].endswith(traceback.format_exception_only(error)[-1].rstrip())

    @pytest.mark.parametrize("result", (None, "done"))
    async def test_a_failing_save_is_logged_kept_and_made_good_by_the_next_invocation(
        self, run_log: ScriptedRunLog, events: Events, result: Any
    ) -> None:
        workflow = Digest(returning(result), run_log=run_log)
        run_log.failing["save_run"] = AWAY
        first = await workflow.run(TriggerType.MANUAL, {})
        assert named(events, "run_log_persist_failed") == [
            {
                "log_level": "warning",
                "workflow": "digest",
                "run_id": first.id,
                "error": "StoreUnavailable: memory: any call: away",
            }
        ]
        assert [event["event"] for event in events][-2:] == ["run_log_persist_failed", "workflow_run_completed"]

        run_log.failing.clear()
        second = await workflow.run(TriggerType.MANUAL, {})
        third = await workflow.run(TriggerType.MANUAL, {})

        assert run_log.saved == [first, first, second, third]
        assert workflow.total_runs == 3
        assert engine_of(workflow).history.stats == await run_log.get_stats("digest")

    async def test_each_of_many_at_once_is_saved_once(self, run_log: ScriptedRunLog) -> None:
        workflow = Digest(run_log=run_log)

        async def later(turns: int) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            await workflow.run(TriggerType.MANUAL, {})

        await asyncio.gather(*(later(turns) for turns in range(20)))

        assert len(run_log.saved) == len({run.id for run in run_log.saved}) == 20

    async def test_a_superseded_one_counts_nothing_and_is_not_saved_again(
        self, run_log: ScriptedRunLog, events: Events
    ) -> None:
        workflow = equipped(Digest(), run_log=run_log, new_id=lambda: "run-1")
        run_log.failing["save_run"] = RunSuperseded("run-1", 1, 2)
        await workflow.run(TriggerType.MANUAL, {})
        run_log.failing.clear()

        assert named(events, "workflow_run_superseded") == [
            {"log_level": "warning", "workflow": "digest", "run_id": "run-1", "attempt": 1, "stored_attempt": 2}
        ]
        assert (workflow.total_runs, workflow.recent_runs) == (0, [])
        await workflow.run(TriggerType.MANUAL, {})
        assert len(run_log.saved) == 2

    async def test_a_superseded_one_that_failed_is_no_error_in_the_log(
        self, run_log: ScriptedRunLog, events: Events
    ) -> None:
        run_log.failing["save_run"] = RunSuperseded("run-1", 1, 2)
        workflow = equipped(Digest(raising(ValueError("too late"))), run_log=run_log, new_id=lambda: "run-1")

        await workflow.run(TriggerType.MANUAL, {})

        (completed,) = named(events, "workflow_run_completed")
        assert (completed["log_level"], completed["superseded"]) == ("info", True)
        assert "exception" not in completed

    async def test_a_bare_run_log_needs_nothing_else(self, events: Events) -> None:
        class Bare:
            async def save_run(self, run: WorkflowRun) -> None: ...
            async def get_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None: ...
            async def get_stats(self, workflow_id: str) -> RunStats:
                return RunStats(total=7, successful=5, by_status={})

            async def get_latest_run(self, workflow_id: str) -> WorkflowRun | None: ...
            async def get_paused_runs(self) -> list[WorkflowRun]:
                return []

            async def list_runs(
                self, workflow_id: str, *, limit: int = 50, start_after: str | None = None, status: Any = None
            ) -> tuple[list[WorkflowRun], str | None]:
                return [], None

        workflow = Digest(run_log=Bare())
        await workflow.run(TriggerType.MANUAL)

        assert (workflow.total_runs, workflow.success_rate) == (8, 75.0)
        assert not [event for event in events if event["log_level"] != "info"]


class TestTheView:
    async def test_it_holds_a_hundred_runs_newest_first_without_payloads_and_results(
        self, run_log: ScriptedRunLog
    ) -> None:
        workflow = Digest(run_log=run_log)

        runs = [await workflow.run(TriggerType.MANUAL, {"n": n}) for n in range(RECENT_RUNS + 5)]

        assert RECENT_RUNS == 100
        assert workflow.recent_runs == [without_values(run) for run in runs[:4:-1]]
        assert workflow.last_run == without_values(runs[-1])
        assert workflow.total_runs == 105

    async def test_no_runs_are_a_rate_of_zero(self, run_log: ScriptedRunLog) -> None:
        workflow = Digest(run_log=run_log)

        assert (workflow.total_runs, workflow.success_rate, workflow.last_run) == (0, 0.0, None)

    async def test_a_rate_has_one_decimal(self, run_log: ScriptedRunLog) -> None:
        workflow = Digest(run_log=run_log)
        await workflow.run(TriggerType.MANUAL, {})
        workflow.work = raising(ValueError())
        await workflow.run(TriggerType.MANUAL, {})
        await workflow.run(TriggerType.MANUAL, {})

        assert workflow.success_rate == 33.3

    async def test_skipped_runs_are_kept_and_not_in_the_total(self, run_log: ScriptedRunLog) -> None:
        class Disabled(Digest):
            manifest = WorkflowManifest(name="digest", enabled=False)

        workflow = Disabled(run_log=run_log)
        run = await workflow.run(TriggerType.SCHEDULE, {})

        assert (run.status, run.error_type, run.duration_ms) == (RunStatus.SKIPPED, "WorkflowDisabled", 0)
        assert (workflow.executed, run_log.saved) == (0, [run])
        assert (workflow.total_runs, workflow.success_rate, workflow.last_run) == (0, 0.0, run)
        assert engine_of(workflow).history.stats["by_status"] == {"skipped": 1}


class TestTheDefaultStore:
    async def test_run_log_and_journal_are_those_of_the_settings(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: Events
    ) -> None:
        monkeypatch.setenv("AUTOPILOT_SQLITE_PATH", str(tmp_path / "runs.db"))
        reset_run_log_service()
        try:
            during: list[RunStats] = []

            async def work(ctx: RunContext, payload: dict[str, Any]) -> None:
                during.append(await get_run_log_service().get_stats("digest"))

            run = await Digest(work).run(TriggerType.MANUAL, {})
            cold = Digest()
            await cold.setup()

            assert during == [{"total": 1, "successful": 0, "by_status": {"running": 1}}]
            assert await get_run_log_service().get_run("digest", run.id) == run
            assert cold.last_run == without_values(run)
            assert (cold.total_runs, cold.success_rate) == (1, 100.0)
        finally:
            reset_run_log_service()

    async def test_it_is_looked_up_through_its_module_at_each_use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        workflow = Digest()
        logs = [ScriptedRunLog(), ScriptedRunLog()]
        monkeypatch.setattr(run_log_module, "get_run_journal", raising_at_once)

        for log in logs:
            monkeypatch.setattr(run_log_module, "get_run_log_service", lambda log=log: log)
            await workflow.run(TriggerType.MANUAL, {})

        assert [len(log.saved) for log in logs] == [1, 1]

    async def test_a_failed_start_is_logged_and_the_run_goes_on(
        self, run_log: ScriptedRunLog, monkeypatch: pytest.MonkeyPatch, events: Events
    ) -> None:
        monkeypatch.setattr(run_log_module, "get_run_log_service", lambda: run_log)
        monkeypatch.setattr(run_log_module, "get_run_journal", raising_at_once)

        run = await Digest().run(TriggerType.MANUAL, {})

        assert run.status is RunStatus.SUCCESS
        assert named(events, "run_log_start_failed") == [
            {
                "log_level": "warning",
                "workflow": "digest",
                "run_id": run.id,
                "error": "StoreUnavailable: memory: any call: away",
            }
        ]
        assert run_log.saved == [run]


def raising_at_once() -> Any:
    raise AWAY


class TestTheEdges:
    def test_several_event_loops_one_after_the_other(self, run_log: ScriptedRunLog) -> None:
        workflow = Digest(run_log=run_log)

        async def several() -> None:
            await asyncio.gather(*(workflow.run(TriggerType.MANUAL, {}) for _ in range(3)))

        for _ in range(3):
            asyncio.run(several())

        assert workflow.total_runs == 9

    @pytest.mark.parametrize("hanging", (set(), {"get_stats", "save_run"}))
    async def test_nothing_of_ours_outlives_the_run(self, run_log: ScriptedRunLog, hanging: set[str]) -> None:
        run_log.hanging = hanging

        await equipped(Digest(), run_log=run_log, clock=run_log.clock).run(TriggerType.MANUAL, {})

        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_a_missing_configuration_value_is_told_before_a_run_exists(self, run_log: ScriptedRunLog) -> None:
        class DigestConfig(BaseModel):
            webhook: str

        class Configured(Digest):
            Config: ClassVar[type[BaseModel]] = DigestConfig

        workflow = Configured(run_log=run_log)
        with pytest.raises(ConfigInvalid, match=r"webhook: Field required \(set DIGEST_WEBHOOK\)"):
            await workflow.run(TriggerType.MANUAL, {})

        assert (run_log.saved, workflow.recent_runs) == ([], [])

    async def test_a_configuration_is_read_for_each_run(
        self, run_log: ScriptedRunLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class DigestConfig(BaseModel):
            limit: int = 5

        class Configured(Digest):
            Config: ClassVar[type[BaseModel]] = DigestConfig

        async def work(ctx: RunContext, payload: dict[str, Any]) -> Any:
            return ctx.config.limit

        workflow = Configured(work, run_log=run_log)
        before = await workflow.run(TriggerType.MANUAL, {})
        monkeypatch.setenv("DIGEST_LIMIT", "7")
        after = await workflow.run(TriggerType.MANUAL, {})

        assert (before.result, after.result) == (5, 7)

    def test_a_class_that_cannot_work_is_refused_when_it_is_made(self) -> None:
        class Nameless(BaseWorkflow):
            async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> Any: ...

        class Idle(BaseWorkflow):
            manifest = WorkflowManifest(name="idle")

        class Blocking(BaseWorkflow):
            manifest = WorkflowManifest(name="blocking")

            def execute(self, ctx: RunContext, payload: dict[str, Any]) -> Any: ...

        for cls, reason in ((Nameless, "manifest"), (Idle, "async def execute"), (Blocking, "async def execute")):
            with pytest.raises(WorkflowInvalid, match=reason):
                cls()

    @pytest.mark.parametrize(
        ("field", "value"),
        (
            ("after_last_attempt", "pause"),
            ("overlap", "queue"),
            ("pause_after_failures", 3),
        ),
    )
    def test_a_manifest_has_no_field_for_what_does_not_work_yet(self, field: str, value: Any) -> None:
        with pytest.raises(ValidationError, match=f"{field}\n  Extra inputs are not permitted"):
            WorkflowManifest.model_validate({"name": "ambitious", field: value})

    async def test_execute_is_told_of_its_run(self, run_log: ScriptedRunLog, clock: ManualClock) -> None:
        seen: list[Any] = []

        async def work(ctx: RunContext, payload: dict[str, Any]) -> Any:
            seen.extend((ctx.run_id, ctx.workflow_id, ctx.attempt, ctx.trigger_type, ctx.started_at, ctx.now()))
            seen.append(await ctx.last_success())

        workflow = equipped(Digest(work), run_log=run_log, clock=clock)
        first = await workflow.run("http", {})  # type: ignore[arg-type]
        assert seen == [first.id, "digest", 1, TriggerType.HTTP, first.started_at, clock.now(), None]

        workflow.work = raising(ValueError())
        clock.advance(timedelta(seconds=1))
        await workflow.run(TriggerType.MANUAL, {})
        workflow.work = work
        clock.advance(timedelta(seconds=1))
        await workflow.run(TriggerType.MANUAL, {})

        assert seen[-1] == first
