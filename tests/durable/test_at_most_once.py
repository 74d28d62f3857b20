"""Steps that are begun at most once."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from autopilot import Retry, RunContext, StepInterrupted
from autopilot.core.store import Lease, StepRecord
from autopilot.models import StepStatus
from autopilot.testing import Harness, InstanceKilled, ManualClock
from autopilot.testing.clock import ManualTimeout
from tests.durable.scripts import FaultyStore, scripted


async def pay(ctx: RunContext) -> str:
    return await ctx.step("pay", lambda: "paid", semantics="at_most_once")


async def killed(harness: Harness, moment: str) -> None:
    with pytest.raises(InstanceKilled):
        await harness.run(identity="x", kill_at=moment)
    harness.expire_lease()


async def test_its_start_is_recorded_before_its_body_begins() -> None:
    harness = Harness(scripted(pay))
    run = await harness.run()

    assert run.result == "paid"
    moments = harness.trace.moments
    assert moments.index("after commit step pay started") < moments.index("before body pay")


@pytest.mark.parametrize(
    "moment",
    ("after commit step pay started", "before body pay", "after body pay", "before commit step pay success"),
)
async def test_cut_off_by_a_crash_it_is_sealed_and_never_begun_again(moment: str) -> None:
    harness = Harness(scripted(pay))
    await killed(harness, moment)
    begun = harness.executions((await harness.runs())[0].id)["pay"]
    run = await harness.run(identity="x")

    assert (run.status, run.error_type) == ("failed", "StepInterrupted")
    assert harness.executions(run.id)["pay"] == begun <= 1
    assert (await harness.steps(run.id))["pay"].status is StepStatus.INTERRUPTED
    assert "before commit step pay interrupted" in harness.trace.moments


@pytest.mark.parametrize("moment", ("before commit step pay started", "after commit step pay success"))
async def test_a_crash_before_it_began_or_after_it_ended_does_not_interrupt_it(moment: str) -> None:
    harness = Harness(scripted(pay))
    await killed(harness, moment)
    run = await harness.run(identity="x")

    assert (run.status, harness.executions(run.id)["pay"]) == ("success", 1)


async def test_an_author_can_handle_the_interruption_and_every_later_attempt_meets_it_again() -> None:
    async def execute(ctx: RunContext) -> str:
        try:
            return await pay(ctx)
        except StepInterrupted:
            return await ctx.step("ask", lambda: "asked the bank")

    harness = Harness(scripted(execute))
    await killed(harness, "after body pay")
    with pytest.raises(InstanceKilled):
        await harness.run(identity="x", kill_at="after commit step ask success")
    harness.expire_lease()
    run = await harness.run(identity="x")

    assert (run.status, run.result) == ("success", "asked the bank")
    assert harness.executions(run.id) == {"pay": 1, "ask": 1}


async def test_a_raised_exception_is_definite_and_may_be_tried_again() -> None:
    failing = [True, True, False]

    async def execute(ctx: RunContext) -> str:
        return await ctx.step("pay", body, semantics="at_most_once", retry=Retry(attempts=3))

    def body() -> str:
        if failing.pop(0):
            raise OSError("refused")
        return "paid"

    harness = Harness(scripted(execute))
    run = await harness.run()

    assert run.result == "paid"
    assert harness.trace.commits.count("step pay started") == 3
    assert (await harness.steps(run.id))["pay"].tries == 3


async def test_a_timeout_interrupts_it() -> None:
    async def execute(ctx: RunContext) -> None:
        await ctx.step(
            "pay",
            pay_slowly,
            semantics="at_most_once",
            timeout=timedelta(seconds=7),
            retry=Retry(attempts=3),
        )

    async def pay_slowly() -> None:
        harness.advance(timedelta(seconds=7))
        await asyncio.Event().wait()

    harness = Harness(scripted(execute))
    run = await harness.run()

    assert (run.status, run.error_type) == ("failed", "StepInterrupted")
    assert harness.executions(run.id)["pay"] == 1
    assert (await harness.steps(run.id))["pay"].status is StepStatus.INTERRUPTED


async def test_only_a_persons_retry_begins_it_again() -> None:
    harness = Harness(scripted(pay))
    await killed(harness, "after body pay")
    failed = await harness.run(identity="x")
    run = await harness.retry(failed.id)

    assert (run.status, run.result, harness.executions(run.id)["pay"]) == ("success", "paid", 2)


async def test_a_timeout_of_the_authors_own_interrupts_it_for_the_next_attempt() -> None:
    async def execute(ctx: RunContext) -> None:
        async with asyncio.timeout(0.01):
            await ctx.step("pay", asyncio.Event().wait, semantics="at_most_once")

    harness = Harness(scripted(execute, retry=Retry(attempts=2)))
    run = await harness.run()

    assert (run.status, run.error_type) == ("failed", "StepInterrupted")
    assert harness.executions(run.id)["pay"] == 1


async def test_no_body_begins_when_recording_its_start_took_the_rest_of_the_time() -> None:
    class StoodStill(ManualClock):
        """The clock of a process that was paused: time has passed, and no timer has run yet."""

        def timeout(self, seconds: float | None) -> ManualTimeout:
            return super().timeout(None)

    class Slow(FaultyStore):
        async def record_step(self, lease: Lease, step: StepRecord, **options: Any) -> StepRecord:
            recorded = await super().record_step(lease, step, **options)
            if step.status is StepStatus.STARTED:
                clock.advance(timedelta(seconds=100))
            return recorded

    clock = StoodStill()
    harness = Harness(scripted(pay, timeout_seconds=100), store=Slow(clock), clock=clock)
    run = await harness.run(identity="x")

    assert harness.executions(run.id)["pay"] == 0
