"""The crash matrix: over workflows that survive it, and over some that do not."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from autopilot import (
    BaseWorkflow,
    Completion,
    MapFailed,
    Retry,
    RunContext,
    StepFailed,
    StepInterrupted,
    WorkflowManifest,
)
from autopilot.core.store import Store
from autopilot.models import RunStats, WorkflowRun
from autopilot.storage.sqlite.store import SQLiteStore
from autopilot.testing import CrashMatrixFailed, Harness, InstanceKilled, ManualClock, crash_matrix
from tests.durable.scripts import scripted


async def steps_in_sequence(ctx: RunContext) -> list[int]:
    first = await ctx.step("a", lambda: 1)
    return [first, await ctx.step("b", lambda: first + 1), await ctx.step("c", lambda: 3)]


async def nested(ctx: RunContext) -> int:
    async def outer() -> int:
        return await ctx.step("inner", lambda: 1) + await ctx.step("other", lambda: 2)

    return await ctx.step("outer", outer)


async def mapped(ctx: RunContext) -> list[Any]:
    async def item(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return await ctx.step("double", lambda: number * 2)

    found = await ctx.map("m", item, range(6), max_concurrency=3, completion=Completion(tolerated_failures=1))
    return [found.successes, [failure.index for failure in found.failures]]


async def enough(ctx: RunContext) -> int:
    found = await ctx.map(
        "m", lambda number: number, range(6), max_concurrency=1, completion=Completion(min_successful=2)
    )
    return len(found.successes)


async def paying(ctx: RunContext) -> str:
    await ctx.step("check", lambda: True)
    paid = await ctx.step("pay", lambda: "paid", semantics="at_most_once")
    return await ctx.step("receipt", lambda: paid)


async def failing(ctx: RunContext) -> None:
    await ctx.step("a", lambda: 1)
    await ctx.step("b", lambda: 1 // 0)


async def compensating(ctx: RunContext) -> str:
    try:
        await ctx.step("a", lambda: 1 // 0)
    except StepFailed as failed:
        if failed.caused_by(ZeroDivisionError):
            return await ctx.step("undo", lambda: "undone")
    return "done"


async def retried(ctx: RunContext) -> str:
    async def body() -> str:
        if next(tries) % 3:
            raise OSError("down")
        return "up"

    tries = iter(range(1, 10))
    return await ctx.step("a", body, retry=Retry(attempts=5))


async def failing_in_every_round(ctx: RunContext) -> None:
    await ctx.step("a", lambda: 1)
    await ctx.step("b", failing_with_tries, ctx)


async def failing_with_tries(ctx: RunContext) -> None:
    await ctx.step("c", lambda: 1 // 0, retry=Retry(attempts=2))


async def at_once(ctx: RunContext) -> list[int]:
    async def body(number: int) -> int:
        await asyncio.sleep(0)
        return number

    return await asyncio.gather(*(ctx.step("s", body, number, key=number) for number in range(4)))


async def without_steps(ctx: RunContext) -> int:
    return 1


@pytest.mark.parametrize(
    "execute",
    (steps_in_sequence, nested, mapped, enough, failing, compensating, retried, at_once, without_steps, paying),
    ids=lambda execute: execute.__name__,
)
async def test_it_survives_every_kill(execute: Any) -> None:
    report = await crash_matrix(scripted(execute))

    assert report.errors == []
    assert len(report.points) >= 4
    assert {point.moment for point in report.points} >= {"before commit start", "after commit end"}


@pytest.mark.slow
async def test_a_run_that_its_manifest_retries_survives_every_kill() -> None:
    report = await crash_matrix(scripted(failing_in_every_round, retry=Retry(attempts=3)))

    assert report.undisturbed.round == 3
    assert {"before commit retry", "after commit retry"} <= {point.moment for point in report.points}


async def test_of_steps_in_sequence_at_most_one_body_is_repeated_by_a_kill() -> None:
    report = await crash_matrix(scripted(steps_in_sequence))

    assert max(sum(point.repeated.values()) for point in report.points if point.how == "killed") == 1
    assert max(sum(point.repeated.values()) for point in report.points if point.how == "killed twice") == 2
    assert [str(point) for point in report.points[:5]] == [
        "killed before commit start: success after 2 deliveries",
        "killed after commit start: success after 3 deliveries",
        "killed before body a: success after 3 deliveries",
        "killed after body a: success after 3 deliveries; again: a x1",
        "killed before commit step a success: success after 3 deliveries; again: a x1",
    ]


@pytest.mark.slow
async def test_an_interrupted_step_may_end_the_run_as_the_author_says() -> None:
    async def execute(ctx: RunContext) -> str:
        try:
            return await ctx.step("pay", lambda: "paid", semantics="at_most_once")
        except StepInterrupted:
            return "ask the bank"

    with pytest.raises(CrashMatrixFailed, match="ask the bank"):
        await crash_matrix(scripted(execute))
    report = await crash_matrix(scripted(execute), interrupted=lambda run: run.result == "ask the bank")

    killed = [point for point in report.points if point.how == "killed"]
    assert Counter(point.run.result for point in killed) == {"paid": 6, "ask the bank": 4}
    assert {point.run.result for point in report.points} == {"paid", "ask the bank"}


async def test_what_depends_on_the_time_can_be_left_out() -> None:
    async def execute(ctx: RunContext) -> str:
        await ctx.step("a", lambda: 1)
        return ctx.now().isoformat()

    with pytest.raises(CrashMatrixFailed, match="it ended as"):
        await crash_matrix(scripted(execute))
    await crash_matrix(scripted(execute), outcome=lambda run: run.status)


@pytest.mark.slow
async def test_the_world_is_put_back_before_every_run() -> None:
    stock: list[int] = []

    async def execute(ctx: RunContext) -> int:
        return await ctx.step("take", stock.pop)

    await crash_matrix(scripted(execute), prepare=lambda: stock.__setitem__(slice(None), [1, 1, 1]))


async def test_it_works_without_pytest_and_on_a_thread_of_its_own() -> None:
    report = await asyncio.to_thread(lambda: asyncio.run(crash_matrix(scripted(steps_in_sequence))))

    assert str(report).startswith(
        "scripted: 93 runs (16 killed, 50 killed twice, 16 shut down, 10 paused, 1 run again, undisturbed), "
        "0 with errors\nundisturbed: ('success', [1, 2, 3], None)\n"
    )


@pytest.mark.slow
async def test_any_store_can_be_given(store: Store) -> None:
    report = await crash_matrix(scripted(paying, name="paying"), store=store, second_kills=10)

    assert report.errors == []
    assert (await store.get_stats("paying"))["total"] == len(report.points) + 1


class Unlucky(BaseWorkflow):
    """Does a thing outside of any step: whoever resumes it does that again, and it shows."""

    manifest = WorkflowManifest(name="unlucky")
    done = 0

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> int:
        type(self).done += 1
        await ctx.step("a", lambda: 1)
        return self.done


def reset() -> None:
    Unlucky.done = 0


@pytest.mark.slow
async def test_a_workflow_that_does_things_outside_of_steps_is_caught() -> None:
    with pytest.raises(CrashMatrixFailed) as failed:
        await crash_matrix(Unlucky, prepare=reset)

    report = failed.value.report
    assert {point.moment for point in report.errors if point.how == "killed"} == {
        "after commit step a success",
        "after body a",
        "before body a",
        "before commit step a success",
        "before commit end",
    }
    assert "it ended as ('success', 2, None), not as ('success', 1, None)" in str(failed.value)


class Forgetful(SQLiteStore):
    """A store with a fault, each named as the test that it must fail."""

    def __init__(self, fault: str, clock: ManualClock) -> None:
        super().__init__(":memory:", clock=clock)
        self.fault = fault

    async def record_step(self, lease: Any, step: Any, **options: Any) -> Any:
        if self.fault == "records no start" and step.status == "started":
            return step
        return await super().record_step(lease, step, **options)

    async def read_steps(self, lease: Any) -> list[Any]:
        known = [] if self.fault == "forgets steps" else await super().read_steps(lease)
        return [step for step in known if self.fault != "forgets failures" or step.status != "failed"]

    async def get_stats(self, workflow_id: str) -> RunStats:
        stats = await super().get_stats(workflow_id)
        runs, _ = await super().list_runs(workflow_id, limit=1000)
        if self.fault == "counts attempts":
            stats["by_status"]["success"] = sum(run.attempt for run in runs if run.status == "success")
        return stats

    async def save_run(self, run: WorkflowRun) -> None:
        if self.fault != "forgets endings" or run.attempt == 1:
            await super().save_run(run)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "told"),
    (
        ("forgets steps", "its result was recorded 2 times|its body was begun 1 times more; 0 would be right"),
        ("counts attempts", "the statistics count"),
        ("forgets endings", "it did not end|what is recorded is not what"),
        ("records no start", "at most once|begun"),
    ),
)
async def test_a_store_with_a_fault_is_caught(fault: str, told: str) -> None:
    with pytest.raises(CrashMatrixFailed, match=told):
        await crash_matrix(scripted(paying), store=Forgetful(fault, ManualClock()))


@pytest.mark.slow
async def test_a_store_that_forgets_failures_is_caught() -> None:
    with pytest.raises(CrashMatrixFailed, match="step a: its body was begun 1 times more; 0 would be right"):
        await crash_matrix(scripted(compensating), store=Forgetful("forgets failures", ManualClock()))


async def test_a_kill_runs_nothing_more_of_the_instance_even_if_the_author_catches_everything() -> None:
    async def execute(ctx: RunContext) -> str:
        try:
            await ctx.step("a", lambda: 1)
        except BaseException:  # noqa: BLE001 - an author's mistake
            await ctx.step("b", lambda: 2)
        return "done"

    harness = Harness(scripted(execute))
    with pytest.raises(InstanceKilled):
        await harness.run(identity="x", kill_at="after body a")
    (run,) = await harness.runs()

    assert (run.status, run.error) == ("running", None)
    assert harness.executions(run.id) == {"a": 1}
    assert await harness.steps(run.id) == {}
    assert (await harness.stats())["by_status"] == {"running": 1}


async def test_a_harness_refuses_no_trigger_and_keeps_every_run_apart() -> None:
    harness = Harness(scripted(steps_in_sequence))
    runs = [await harness.run() for _ in range(3)]

    assert [run.id for run in await harness.runs()] == sorted((run.id for run in runs), reverse=True)
    assert {run.status for run in runs} == {"success"}
    harness.advance(timedelta(days=1))
    assert (await harness.run()).started_at == runs[0].started_at + timedelta(days=1)


async def test_the_failed_items_of_a_fan_out_are_no_secret_to_the_matrix() -> None:
    async def execute(ctx: RunContext) -> str:
        try:
            await ctx.map("m", lambda number: 1 // number, [1, 0], max_concurrency=1)
        except MapFailed as error:
            return error.result.failures[0].error or ""
        return ""

    report = await crash_matrix(scripted(execute))

    assert report.undisturbed.result == "integer division or modulo by zero"
