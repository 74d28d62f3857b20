"""Mistakes that the crash matrix finds, each with the line that made it."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from unittest.mock import Mock

import pytest

from autopilot import RunContext, StepFailed
from autopilot.testing import CrashMatrixFailed, CrashReport, crash_matrix
from tests.durable.scripts import scripted

Execute = Callable[[RunContext], Awaitable[Any]]


async def report_on(execute: Execute, **options: Any) -> CrashReport:
    with pytest.raises(CrashMatrixFailed) as failed:
        await crash_matrix(scripted(execute), second_kills=5, **options)
    return failed.value.report


def line_of(execute: Execute, text: str) -> str:
    lines, first = inspect.getsourcelines(execute)
    return f"test_matrix_finds.py:{first + next(number for number, line in enumerate(lines) if text in line)} in "


async def test_a_charge_outside_of_steps_with_its_line() -> None:
    charges: list[str] = []

    async def execute(ctx: RunContext) -> None:
        await ctx.step("price", lambda: 3)
        charges.append("tea")
        await ctx.step("note", lambda: None)

    report = await report_on(execute, prepare=charges.clear)

    (error,) = {error for point in report.errors for error in point.errors if point.how == "killed"}
    assert error.startswith("charges: 'tea': happened 2 times, 1 would be right: ")
    assert line_of(execute, "charges.append") in error
    assert error.endswith("outside of any step")


@pytest.mark.slow
async def test_a_charge_that_only_the_outcome_shows() -> None:
    charges: list[str] = []

    async def execute(ctx: RunContext) -> None:
        await ctx.step("charge", charges.append, "tea")

    await crash_matrix(scripted(execute), prepare=charges.clear)
    report = await report_on(execute, prepare=charges.clear, outcome=lambda run: charges)

    assert "it ended as ['tea', 'tea'], not as ['tea']" in str(report)


async def test_a_body_that_charges_again_when_it_is_executed_again() -> None:
    charges: list[str] = []

    async def execute(ctx: RunContext) -> None:
        await ctx.step("charge", charges.append, "tea")

    report = await report_on(execute, prepare=charges.clear, effects=lambda: charges)

    assert {point.moment for point in report.errors if point.how == "killed"} == {
        "after body charge",
        "before commit step charge success",
    }
    assert "'tea': happened 2 times, 1 would be right: " in str(report)
    assert str(report).count("in step charge") >= 2
    at_most_once: list[str] = []

    async def better(ctx: RunContext) -> None:
        await ctx.step("charge", at_most_once.append, "tea", semantics="at_most_once")

    await crash_matrix(scripted(better), prepare=at_most_once.clear, effects=lambda: at_most_once)


async def test_a_receiver_that_knows_idempotency_keys_is_charged_once() -> None:
    charges: dict[str, str] = {}

    async def execute(ctx: RunContext) -> None:
        await ctx.step("charge", lambda: charges.setdefault(ctx.idempotency_key, "tea"))

    await crash_matrix(scripted(execute), prepare=charges.clear, effects=lambda: charges)


async def test_a_step_that_nobody_awaited_with_the_place_that_asked_for_it() -> None:
    async def execute(ctx: RunContext) -> None:
        ctx.step("charge", lambda: None)  # type: ignore[unused-coroutine]
        await ctx.step("note", lambda: None)

    report = await report_on(execute)

    assert f"step charge was never awaited: it is asked for at tests/testing/{line_of(execute, 'charge')}" in str(
        report
    )


async def test_code_that_catches_the_end_of_its_attempt_with_its_line() -> None:
    async def execute(ctx: RunContext) -> str:
        try:
            return str(await ctx.step("a", lambda: "a"))
        except BaseException:  # noqa: BLE001 - the mistake
            return "b"

    report = await report_on(execute)

    assert "the code caught the end of its attempt and went on, at " in str(report)
    assert line_of(execute, "except BaseException") in str(report)


async def test_a_step_that_a_body_did_not_await_with_its_place() -> None:
    async def mapped(ctx: RunContext) -> list[int]:
        async def forgetful(number: int) -> int:
            ctx.step("charge", lambda: None)  # type: ignore[unused-coroutine]
            return number

        return list(await ctx.map("m", forgetful, [1, 2]))

    async def caught(ctx: RunContext) -> str:
        async def forgetful() -> None:
            ctx.step("charge", lambda: None)  # type: ignore[unused-coroutine]

        try:
            await ctx.step("outer", forgetful)
        except StepFailed:
            return "failed"
        return "done"

    for execute, key in ((mapped, "m[1]/charge"), (caught, "outer/charge")):
        place = line_of(execute, '"charge"')
        assert f"step {key} was never awaited: it is asked for at tests/testing/{place}" in str(
            await report_on(execute)
        )


async def test_code_that_goes_on_to_another_step_after_the_end_of_its_attempt() -> None:
    async def execute(ctx: RunContext) -> None:
        with suppress(BaseException):
            await ctx.step("a", lambda: None)
        await ctx.step("b", lambda: None)

    report = await report_on(execute)

    assert "the code caught the end of its attempt and went on, at " in str(report)
    assert line_of(execute, "suppress(") in str(report)


async def test_a_body_that_catches_the_end_of_its_attempt() -> None:
    async def execute(ctx: RunContext) -> int:
        async def outer() -> int:
            try:
                return await ctx.step("inner", lambda: 1)
            except BaseException:  # noqa: BLE001 - the mistake
                return 0

        return await ctx.step("outer", outer)

    report = await report_on(execute)

    assert "the code caught the end of its attempt and went on, at " in str(report)
    assert line_of(execute, "except BaseException") in str(report)


async def test_a_return_in_finally_swallows_the_end_of_an_attempt() -> None:
    async def execute(ctx: RunContext) -> int:
        try:
            await ctx.step("a", lambda: None)
        finally:
            return 1  # noqa: B012 - the mistake

    assert line_of(execute, "return 1") in str(await report_on(execute))


async def test_a_result_that_depends_on_chance() -> None:
    results = iter(range(10_000))

    async def execute(ctx: RunContext) -> int:
        return next(results)

    report = await report_on(execute)

    assert report.errors[-1].how == "run again, undisturbed"
    assert "nothing was done to it: it depends on time, on chance, or on what an earlier run left" in str(report)


async def test_a_name_that_is_another_in_each_attempt() -> None:
    async def execute(ctx: RunContext) -> None:
        await ctx.step(f"a{ctx.attempt}", lambda: None)
        await ctx.step("b", lambda: None)

    assert "step a2: its body was begun 1 times more; 0 would be right" in str(await report_on(execute))


async def test_a_call_of_a_mock_outside_of_steps() -> None:
    bank = Mock()

    async def execute(ctx: RunContext) -> None:
        bank.charge("tea")
        await ctx.step("note", lambda: None)

    assert "bank: call.charge('tea'): happened 2 times" in str(await report_on(execute, prepare=bank.reset_mock))


class Counter:
    """A variable of a class counts too."""

    runs = 0


async def test_state_of_a_class_that_lives_on_between_attempts() -> None:
    async def execute(ctx: RunContext) -> None:
        Counter.runs += 1
        await ctx.step("note", lambda: None)

    assert "Counter.runs increased: happened 2 times, 1 would be right" in str(await report_on(execute))


async def test_a_compensation_outside_of_steps_when_the_instance_is_shut_down() -> None:
    refunds: list[str] = []

    async def execute(ctx: RunContext) -> None:
        try:
            await ctx.step("charge", asyncio.sleep, 0)
        except BaseException:
            refunds.append("tea")
            raise

    report = await report_on(execute, prepare=refunds.clear)

    assert {point.how for point in report.errors} == {"shut down", "paused"}, "after a kill no code runs"
    assert "refunds: 'tea': happened 1 times, 0 would be right" in str(report)


@pytest.mark.slow
async def test_what_a_body_does_is_not_taken_for_what_execute_does() -> None:
    calls: list[str] = []

    def failing() -> None:
        calls.append("failing")
        raise OSError

    async def execute(ctx: RunContext) -> None:
        async def body(number: int) -> None:
            await asyncio.sleep(0)
            calls.append(f"asynchronous {number}")

        await asyncio.gather(*(ctx.step("a", body, number, key=number) for number in range(3)))
        await ctx.step("b", lambda: calls.append("in a thread"))
        await ctx.step("c", calls.append, "without a line")
        try:
            await ctx.step("d", failing)
        except StepFailed:
            await ctx.step("undo", calls.append, "undone")

    await crash_matrix(scripted(execute), prepare=calls.clear, second_kills=10)


async def test_an_outcome_that_cannot_be_compared_is_refused() -> None:
    async def execute(ctx: RunContext) -> None: ...

    with pytest.raises(ValueError, match="outcome: it must give values that can be compared"):
        await crash_matrix(scripted(execute), outcome=lambda run: [object()])
