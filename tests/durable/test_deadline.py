"""The end of an invocation's time."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from autopilot import BaseWorkflow, RunContext, WorkflowManifest
from autopilot.core.outcome import Released
from autopilot.testing import Harness
from tests.durable.scripts import scripted

SHORT = {"timeout_seconds": 1}


async def take_too_long(harness: Harness) -> None:
    """Work for longer than an invocation has."""
    harness.advance(timedelta(seconds=1))
    await asyncio.Event().wait()


async def test_a_run_that_came_further_is_given_free_at_the_deadline_and_goes_on_at_once() -> None:
    async def execute(ctx: RunContext) -> list[int]:
        first = await ctx.step("a", lambda: 1)
        if ctx.attempt == 1:
            await take_too_long(harness)
        return [first, await ctx.step("b", lambda: 2)]

    harness = Harness(scripted(execute, **SHORT))
    released = await harness.deliver(identity="x")
    run = await harness.run(identity="x")

    assert isinstance(released, Released)
    assert released.reason == "the deadline of the invocation"
    assert (released.run.status, released.persisted) == ("running", True)
    assert (run.status, run.attempt, run.result) == ("success", 2, [1, 2])
    assert harness.executions(run.id) == {"a": 1, "b": 1}


async def test_a_run_that_came_no_further_fails_at_the_deadline() -> None:
    async def execute(ctx: RunContext) -> None:
        await ctx.step("a", take_too_long, harness)

    harness = Harness(scripted(execute, **SHORT))
    run = await harness.run(identity="x")

    assert (run.status, run.error_type) == ("failed", "RunDeadlineExceeded")
    assert run.error == "stopped after 0.8 s, the deadline of the invocation"
    assert await harness.get_run(run.id) == run


async def test_an_attempt_that_only_read_what_others_recorded_came_no_further() -> None:
    async def execute(ctx: RunContext) -> None:
        await ctx.step("a", lambda: 1)
        await take_too_long(harness)

    harness = Harness(scripted(execute, **SHORT))
    first = await harness.run(identity="x")
    second = await harness.run(identity="x")

    assert (first.status, second.status, second.error_type) == ("running", "failed", "RunDeadlineExceeded")


async def test_a_run_whose_instance_took_the_time_to_start_does_not_fail_for_it() -> None:
    class SlowToStart(BaseWorkflow):
        manifest = WorkflowManifest(name="slow_to_start", timeout_seconds=10)
        seconds = 8.0

        async def setup(self) -> None:
            harness.advance(timedelta(seconds=self.seconds))

        async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> int:
            return await ctx.step("a", asyncio.sleep, 0, ctx.attempt)

    harness = Harness(SlowToStart)
    released = await harness.deliver(identity="x")
    SlowToStart.seconds = 3.0
    run = await harness.run(identity="x")

    assert isinstance(released, Released)
    assert (released.reason, released.run.status) == ("the deadline of the invocation", "running")
    assert (run.status, run.result) == ("success", 2)


@pytest.mark.parametrize("semantics", ("at_least_once", "at_most_once"))
async def test_a_step_that_the_deadline_cuts_off_is_at_most_or_at_least_once_as_declared(semantics: str) -> None:
    async def execute(ctx: RunContext) -> str:
        await ctx.step("a", lambda: 1)
        return await ctx.step("b", body, ctx, semantics=semantics)  # type: ignore[call-overload,no-any-return]

    async def body(ctx: RunContext) -> str:
        if ctx.attempt == 1:
            await take_too_long(harness)
        return "done"

    harness = Harness(scripted(execute, **SHORT))
    await harness.run(identity="x")
    run = await harness.run(identity="x")

    if semantics == "at_least_once":
        assert (run.result, harness.executions(run.id)["b"]) == ("done", 2)
    else:
        assert (run.error_type, harness.executions(run.id)["b"]) == ("StepInterrupted", 1)


@pytest.mark.parametrize("semantics", ("at_least_once", "at_most_once"))
async def test_no_body_begins_past_the_deadline(semantics: str) -> None:
    async def execute(ctx: RunContext) -> int:
        await ctx.step("a", lambda: 1)
        if ctx.attempt == 1:
            harness.advance(timedelta(seconds=1))
        return await ctx.step("b", lambda: ctx.attempt, semantics=semantics)  # type: ignore[call-overload,no-any-return]

    harness = Harness(scripted(execute, **SHORT))
    released = await harness.deliver(identity="x")
    run = await harness.run(identity="x")

    assert isinstance(released, Released)
    assert released.reason == "the deadline of the invocation"
    assert (run.result, harness.executions(run.id)["b"]) == (2, 1)
