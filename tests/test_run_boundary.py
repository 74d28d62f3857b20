"""Whatever an author's code does, and whatever it is given: the run gets its status, or none exists."""

import asyncio
import math
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict
from typing_extensions import TypedDict

from autopilot import BaseWorkflow, RunContext, RunStatus, TriggerType, WorkflowManifest
from autopilot.core.runs.limits import ERROR_LIMIT, PAYLOAD_LIMIT, RESULT_LIMIT
from autopilot.errors import PayloadError, PayloadInvalid, PayloadTooLarge
from autopilot.testing import ManualClock
from tests.equipment import equipped
from tests.run_logs import Digest, ScriptedRunLog, raising, returning, until

# Not rendered: the default rendering of a traceback takes its time.
pytestmark = pytest.mark.usefixtures("events")


@pytest.fixture
def run_log() -> ScriptedRunLog:
    return ScriptedRunLog()


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text either")


class StopEverything(BaseException):
    """An author's own, outside of Exception."""


class TestWhatExecuteRaises:
    @pytest.mark.parametrize(
        ("error", "text"),
        (
            (ValueError("no feed"), "no feed"),
            (KeyError("url"), "'url'"),
            (TimeoutError("the feed was slow"), "the feed was slow"),
            (SystemExit(3), "3"),
            (StopEverything("now"), "now"),
            (StopAsyncIteration("over"), "over"),
            (ExceptionGroup("both", [ValueError("a"), KeyError("b")]), "both (2 sub-exceptions)"),
            (BaseExceptionGroup("both", [SystemExit(1), KeyboardInterrupt()]), "both (2 sub-exceptions)"),
            (Unreadable(), "(its message cannot be read: RuntimeError)"),
            (ValueError("half a \ud83d"), "half a \\ud83d"),
            (ValueError(), ""),
        ),
        ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
    )
    async def test_any_exception_is_a_failed_run(
        self, run_log: ScriptedRunLog, error: BaseException, text: str
    ) -> None:
        workflow = Digest(raising(error), run_log=run_log)

        run = await workflow.run(TriggerType.MANUAL, {})

        assert (run.status, run.error, run.error_type) == (RunStatus.FAILED, text, type(error).__name__)
        assert run_log.saved == [run]
        assert workflow.success_rate == 0.0

    async def test_a_long_error_is_cut_and_says_so(self, run_log: ScriptedRunLog) -> None:
        run = await Digest(raising(ValueError("ü" * 10_000)), run_log=run_log).run(TriggerType.MANUAL, {})

        assert run.error is not None
        assert ERROR_LIMIT - 1 <= len(run.error.encode()) <= ERROR_LIMIT == 8192
        assert run.error.endswith("ü\n... [cut: 20,000 bytes in all]")

    async def test_a_cancellation_is_recorded_and_raised_again(self, run_log: ScriptedRunLog) -> None:
        async def work(ctx: RunContext, payload: dict[str, Any]) -> None:
            await asyncio.Event().wait()

        workflow = Digest(work, run_log=run_log)
        running = asyncio.create_task(workflow.run(TriggerType.MANUAL, {}))
        await until(lambda: workflow.executed == 1)

        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

        [run] = run_log.saved
        assert (run.status, workflow.last_run) == (RunStatus.CANCELLED, run)
        assert run.completed_at is not None

    async def test_a_cancellation_while_the_ending_is_written_does_not_lose_it(self, run_log: ScriptedRunLog) -> None:
        class Slow(ScriptedRunLog):
            is_released = asyncio.Event()
            is_saving = False

            async def save_run(self, run: Any) -> None:
                self.is_saving = True
                await self.is_released.wait()
                await super().save_run(run)

        slow = Slow()
        workflow = Digest(run_log=slow)
        running = asyncio.create_task(workflow.run(TriggerType.MANUAL, {}))
        await until(lambda: slow.is_saving)
        running.cancel()
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.sleep(0)
        slow.is_released.set()
        with pytest.raises(asyncio.CancelledError):
            await running

        assert [run.status for run in slow.runs.values()] == [RunStatus.SUCCESS]

    async def test_a_keyboard_interrupt_is_recorded_and_raised_again(self, run_log: ScriptedRunLog) -> None:
        with pytest.raises(KeyboardInterrupt):
            await Digest(raising(KeyboardInterrupt()), run_log=run_log).run(TriggerType.MANUAL, {})

        assert [run.status for run in run_log.saved] == [RunStatus.CANCELLED]

    async def test_execute_is_stopped_at_the_deadline(self, run_log: ScriptedRunLog, clock: ManualClock) -> None:
        cleaned: list[str] = []

        async def work(ctx: RunContext, payload: dict[str, Any]) -> None:
            try:
                clock.advance(timedelta(minutes=9))
                await asyncio.Event().wait()
            finally:
                cleaned.append("up")

        run = await equipped(Digest(work), run_log=run_log, clock=clock).run(TriggerType.MANUAL, {})

        assert (run.status, run.error_type, cleaned) == (RunStatus.FAILED, "RunDeadlineExceeded", ["up"])
        assert "the deadline of the invocation" in (run.error or "")


class Point(BaseModel):
    x: int
    y: int = 2


class Place(BaseModel):
    name: str
    at: Point = Point(x=1)


class Located(BaseWorkflow[Place, Point]):
    manifest = WorkflowManifest(name="located")
    result: Any = None

    async def execute(self, ctx: RunContext, payload: Place) -> Point:
        self.given = payload
        result: Point = payload.at if self.result is None else self.result
        return result


class TestPayloads:
    async def test_a_typed_one_is_validated_and_recorded_as_it_was_sent(self, run_log: ScriptedRunLog) -> None:
        workflow = Located(run_log=run_log)

        run = await workflow.run(TriggerType.MANUAL, {"name": "here", "at": {"x": "7"}})

        assert workflow.given == Place(name="here", at=Point(x=7))
        assert run.trigger_data == {"name": "here", "at": {"x": "7"}}
        assert run.result == {"x": 7, "y": 2}

    @pytest.mark.parametrize(
        ("payload", "told"),
        (
            ({}, "name: Field required"),
            ({"name": 5}, "name: Input should be a valid string"),
            ({"name": "here", "nmae": 1}, "nmae: Extra inputs are not permitted"),
            ({"name": "here", "at": {"x": 1, "z": 3}}, "at.z: Extra inputs are not permitted"),
            ([], "payload of workflow located: the payload must be a JSON object"),
            ("text", "payload of workflow located: the payload must be a JSON object"),
            ({"name": math.nan}, "payload of workflow located: Out of range float values are not JSON compliant"),
            ({"name": 1e999}, "payload of workflow located: Out of range float values are not JSON compliant"),
            ({"name": "\ud800"}, "payload of workflow located: a string in it is not valid Unicode"),
            ({"name": nested(100_000)}, "payload of workflow located: it is nested too deeply"),
            ({"name": nested(300)}, "recursion limit exceeded"),
            ({"name": 10**5000}, "payload of workflow located: Exceeds the limit"),
            ({"name": {1, 2}}, "payload of workflow located: Object of type set is not JSON serializable"),
            ({"name": b"x"}, "payload of workflow located: Object of type bytes is not JSON serializable"),
            (
                {"name": "here", 1: "a", "1": "b"},
                "payload of workflow located: two keys of an object are the same as JSON",
            ),
        ),
    )
    async def test_one_that_does_not_fit_is_refused_before_a_run_exists(
        self, run_log: ScriptedRunLog, payload: Any, told: str
    ) -> None:
        workflow = Located(run_log=run_log)

        with pytest.raises(PayloadInvalid) as caught:
            await workflow.run(TriggerType.MANUAL, payload)

        assert told in str(caught.value)
        assert (run_log.saved, workflow.recent_runs, workflow.total_runs) == ([], [], 0)

    @pytest.mark.parametrize("payload", ({"a": nested(300)}, {"a": math.inf}, {"a": "\udfff"}, 5, [1]))
    async def test_an_untyped_workflow_refuses_what_is_not_json_too(
        self, run_log: ScriptedRunLog, payload: Any
    ) -> None:
        workflow = Digest(run_log=run_log)

        with pytest.raises(PayloadInvalid):
            await workflow.run(TriggerType.MANUAL, payload)

        assert (workflow.executed, run_log.saved) == (0, [])

    async def test_refusals_never_quote_what_was_sent(self, run_log: ScriptedRunLog) -> None:
        with pytest.raises(PayloadInvalid) as caught:
            await Located(run_log=run_log).run(TriggerType.MANUAL, {"name": ["s3cret"], "at": {"x": "t0ken"}})

        assert "s3cret" not in f"{caught.value} {caught.value.details}"
        assert "t0ken" not in f"{caught.value} {caught.value.details}"

    async def test_one_over_the_limit_is_too_large(self, run_log: ScriptedRunLog) -> None:
        workflow = Digest(run_log=run_log)
        fits = {"a": "x" * (PAYLOAD_LIMIT - len('{"a":""}'))}

        await workflow.run(TriggerType.MANUAL, fits)
        with pytest.raises(PayloadTooLarge, match="262,145 bytes of JSON; the limit is 262,144"):
            await workflow.run(TriggerType.MANUAL, {"a": fits["a"] + "x"})

        assert len(run_log.saved) == 1

    async def test_what_its_defaults_add_does_not_count(self, run_log: ScriptedRunLog) -> None:
        class Wordy(BaseModel):
            text: str = "x" * PAYLOAD_LIMIT

        class Workflow(BaseWorkflow[Wordy, int]):
            manifest = WorkflowManifest(name="wordy")

            async def execute(self, ctx: RunContext, payload: Wordy) -> int:
                return len(payload.text)

        run = await Workflow(run_log=run_log).run(TriggerType.MANUAL, {})

        assert (run.trigger_data, run.result) == ({}, PAYLOAD_LIMIT)

    @pytest.mark.parametrize(
        ("payload", "recorded"),
        (
            (None, {}),
            (MappingProxyType({"a": 1}), {"a": 1}),
            ({1: "a", "b": 2, None: 3}, {"1": "a", "b": 2, "null": 3}),
            ({"a": 10**40, "b": [0.1, [[]], {}]}, {"a": 10**40, "b": [0.1, [[]], {}]}),
            ({"": 0, "a.b": 1, "__x__": 2, "ü": "😀"}, {"": 0, "a.b": 1, "__x__": 2, "ü": "😀"}),
        ),
    )
    async def test_any_json_object_is_taken(
        self, run_log: ScriptedRunLog, payload: Any, recorded: dict[str, Any]
    ) -> None:
        async def echo(ctx: RunContext, payload: dict[str, Any]) -> Any:
            return payload

        run = await Digest(echo, run_log=run_log).run(TriggerType.MANUAL, payload)

        assert run.trigger_data == recorded == run.result

    async def test_what_execute_does_to_its_payload_is_not_recorded(self, run_log: ScriptedRunLog) -> None:
        async def work(ctx: RunContext, payload: dict[str, Any]) -> None:
            payload["list"].append("mine")

        run = await Digest(work, run_log=run_log).run(TriggerType.MANUAL, {"list": []})

        assert run.trigger_data == {"list": []}

    async def test_a_type_that_allows_unknown_fields_gets_them(self, run_log: ScriptedRunLog) -> None:
        class Open(BaseModel):
            model_config = ConfigDict(extra="allow")

        class Workflow(BaseWorkflow[Open, dict[str, Any]]):
            manifest = WorkflowManifest(name="open")

            async def execute(self, ctx: RunContext, payload: Open) -> dict[str, Any]:
                return payload.model_extra or {}

        run = await Workflow(run_log=run_log).run(TriggerType.MANUAL, {"more": 1})

        assert run.result == {"more": 1}

    async def test_other_types_than_models_do_as_well(self, run_log: ScriptedRunLog) -> None:
        class Word(TypedDict):
            word: str

        class Workflow(BaseWorkflow[Word]):
            manifest = WorkflowManifest(name="words")

            async def execute(self, ctx: RunContext, payload: Word) -> Any:
                return payload["word"]

        workflow = Workflow(run_log=run_log)

        assert (await workflow.run(TriggerType.MANUAL, {"word": "hello"})).result == "hello"
        with pytest.raises(PayloadError, match="word: Field required"):
            await workflow.run(TriggerType.MANUAL, {})


class TestResults:
    @pytest.mark.parametrize(
        "result", (None, True, 0, -1.5, "text", [], {}, [1, [2, {"three": 3}]], 2**80, {"ü": "😀\x00"}, nested(200))
    )
    async def test_any_json_is_recorded_as_it_is(self, run_log: ScriptedRunLog, result: Any) -> None:
        run = await Digest(returning(result), run_log=run_log).run(TriggerType.MANUAL, {})

        assert (run.status, run.result) == (RunStatus.SUCCESS, result)

    async def test_a_model_is_recorded_as_json(self, run_log: ScriptedRunLog) -> None:
        run = await Digest(returning(Point(x=1)), run_log=run_log).run(TriggerType.MANUAL, {})

        assert run.result == {"x": 1, "y": 2}

    @pytest.mark.parametrize(
        ("result", "told"),
        (
            (object(), "Object of type object is not JSON serializable"),
            ({"when": {1, 2}}, "Object of type set is not JSON serializable"),
            (math.nan, "Out of range float values"),
            ([1e999], "Out of range float values"),
            ("\ud800", "not valid Unicode"),
            (nested(100_000), "nested"),
            (nested(300), "nested more than 200 deep"),
            pytest.param(10**5000, "Exceeds the limit", id="a huge integer"),
            ({(1, 2): 3}, "keys must be"),
        ),
    )
    async def test_one_that_is_not_json_fails_the_run(self, run_log: ScriptedRunLog, result: Any, told: str) -> None:
        run = await Digest(returning(result), run_log=run_log).run(TriggerType.MANUAL, {})

        assert (run.status, run.result, run.error_type) == (RunStatus.FAILED, None, "ResultInvalid")
        assert told in (run.error or "")
        assert run_log.saved == [run]

    async def test_one_that_refers_to_itself_fails_the_run(self, run_log: ScriptedRunLog) -> None:
        circle: list[Any] = []
        circle.append(circle)

        run = await Digest(returning(circle), run_log=run_log).run(TriggerType.MANUAL, {})

        assert (run.status, run.error_type) == (RunStatus.FAILED, "ResultInvalid")

    async def test_one_of_another_type_than_declared_fails_the_run(self, run_log: ScriptedRunLog) -> None:
        workflow = Located(run_log=run_log)
        workflow.result = {"x": "far"}

        run = await workflow.run(TriggerType.MANUAL, {"name": "here"})

        assert (run.status, run.error_type) == (RunStatus.FAILED, "ResultInvalid")
        assert "x: Input should be a valid integer" in (run.error or "")
        assert "far" not in (run.error or "")

    async def test_one_over_the_limit_fails_the_run_which_is_saved_without_it(self, run_log: ScriptedRunLog) -> None:
        fits = "x" * (RESULT_LIMIT - 2)
        workflow = Digest(returning(fits), run_log=run_log)
        assert (await workflow.run(TriggerType.MANUAL, {})).status is RunStatus.SUCCESS

        workflow.work = returning(fits + "x")
        run = await workflow.run(TriggerType.MANUAL, {})

        assert (run.status, run.error_type, run.result) == (RunStatus.FAILED, "ResultTooLarge", None)
        assert run_log.saved[-1] == run

    async def test_what_is_changed_after_the_run_is_not_its_result(self, run_log: ScriptedRunLog) -> None:
        mine = {"list": [1]}

        run = await Digest(returning(mine), run_log=run_log).run(TriggerType.MANUAL, {})
        mine["list"].append(2)

        assert run.result == {"list": [1]}
