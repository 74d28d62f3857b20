"""Sound workflows of many shapes: neither the crash matrix nor a simulation says anything against them."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from autopilot import Completion, RunContext, StepFailed, StepInterrupted, StepTimeout
from autopilot.testing import CrashMatrixFailed, Harness, crash_matrix, simulate
from tests.durable.scripts import scripted


async def with_a_step_in_finally(ctx: RunContext) -> None:
    try:
        await ctx.step("a", lambda: None)
        await ctx.step("b", lambda: None)
    finally:
        await ctx.step("unlock", lambda: None)


async def raising_again(ctx: RunContext) -> None:
    try:
        await ctx.step("a", lambda: None)
    except BaseException:
        ctx.log.info("failed")
        raise
    await ctx.step("b", lambda: None)


async def gathering_failures(ctx: RunContext) -> list[bool]:
    def body(number: int) -> float:
        return 1 / number

    results = await asyncio.gather(*(ctx.step("s", body, n, key=n) for n in range(3)), return_exceptions=True)
    return [isinstance(result, StepFailed) for result in results]


async def under_a_semaphore(ctx: RunContext) -> list[int]:
    semaphore = asyncio.Semaphore(2)

    async def work(number: int) -> int:
        async with semaphore:
            try:
                await ctx.step("first", lambda: number, key=number)
                return await ctx.step("second", lambda: number, key=number)
            finally:
                ctx.log.info("done")

    results = await asyncio.gather(*map(work, range(3)), return_exceptions=True)
    return [result for result in results if isinstance(result, int)]


async def with_enough_of_a_fan_out(ctx: RunContext) -> bool:
    async def body(number: int) -> int:
        await asyncio.sleep(0)
        return await ctx.step("inner", lambda: number)

    found = await ctx.map("m", body, range(6), max_concurrency=2, completion=Completion(min_successful=2))
    return len(list(found)) >= 2


async def cancelling_its_own_step(ctx: RunContext) -> str:
    task = asyncio.create_task(ctx.step("slow", asyncio.Event().wait))
    await ctx.step("fast", lambda: None)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return "cancelled"
    return "done"


async def sleeping_past_its_timeout(ctx: RunContext) -> str:
    try:
        await ctx.step("slow", ctx.clock.sleep, 3600, timeout=timedelta(seconds=1))
    except StepTimeout:
        return "late"
    return "done"


SOUND = (
    with_a_step_in_finally,
    raising_again,
    gathering_failures,
    under_a_semaphore,
    with_enough_of_a_fan_out,
    cancelling_its_own_step,
    sleeping_past_its_timeout,
)


@pytest.mark.slow
@pytest.mark.parametrize("execute", SOUND, ids=lambda execute: execute.__name__)
async def test_a_sound_workflow_is_not_blamed(execute: Any, caplog: pytest.LogCaptureFixture) -> None:
    await crash_matrix(scripted(execute), second_kills=10)
    await simulate(scripted(execute), seeds=40)

    assert "never retrieved" not in caplog.text, "nobody can have awaited what was killed"


@pytest.mark.slow
@pytest.mark.parametrize("answer", ("paid", "not paid"))
async def test_an_interruption_may_be_handled_in_steps(answer: str) -> None:
    async def execute(ctx: RunContext) -> str:
        try:
            return await ctx.step("pay", lambda: "paid", semantics="at_most_once")
        except StepInterrupted:
            return await ctx.step("ask the bank", lambda: answer)

    await crash_matrix(scripted(execute), interrupted=lambda run: run.result == answer)
    await simulate(scripted(execute), seeds=60, interrupted=lambda run: run.result == answer)
    with pytest.raises(CrashMatrixFailed, match="step ask the bank: its body was begun 1 times more; 0 would be right"):
        await crash_matrix(scripted(execute))


async def test_a_report_says_how_to_accept_the_end_of_an_interrupted_run() -> None:
    async def execute(ctx: RunContext) -> str:
        try:
            return await ctx.step("pay", lambda: "paid", semantics="at_most_once")
        except StepInterrupted:
            return "ask the bank"

    with pytest.raises(CrashMatrixFailed, match=r"cut off in it \(pay\): if it is to end so then, say so with interr"):
        await crash_matrix(scripted(execute))


async def test_a_sleep_ends_with_the_timeout_around_it() -> None:
    harness = Harness(scripted(sleeping_past_its_timeout))
    before = harness.clock.monotonic()

    run = await harness.run()

    assert (run.status, run.result) == ("success", "late")
    assert harness.clock.monotonic() - before == 1
