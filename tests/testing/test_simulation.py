"""Simulations: sound workflows survive every seed, mistakes are found, and a seed is always the same simulation."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autopilot import BaseWorkflow, Retry, RunContext, StepFailed, WorkflowManifest
from autopilot.core.clock import Clock
from autopilot.testing import MemoryStore, SimulationFailed, simulate
from tests.durable.scripts import scripted


async def in_sequence(ctx: RunContext) -> list[int]:
    return [await ctx.step(name, lambda: 1) for name in ("a", "b", "c")]


async def at_once(ctx: RunContext) -> list[int]:
    async def body(number: int) -> int:
        await asyncio.sleep(0)
        return number

    return await asyncio.gather(*(ctx.step("s", body, number, key=number) for number in range(4)))


async def nested(ctx: RunContext) -> int:
    async def outer() -> int:
        return await ctx.step("inner", lambda: 1) + await ctx.step("other", lambda: 2)

    return await ctx.step("outer", outer)


async def mapped(ctx: RunContext) -> int:
    return len(await ctx.map("m", lambda number: number, range(5), max_concurrency=2))


async def paying(ctx: RunContext) -> str:
    await ctx.step("check", lambda: True)
    paid = await ctx.step("pay", lambda: "paid", semantics="at_most_once")
    return await ctx.step("receipt", lambda: paid)


async def compensating(ctx: RunContext) -> str:
    try:
        await ctx.step("a", lambda: 1 // 0, retry=Retry(attempts=2))
    except StepFailed:
        return await ctx.step("undo", lambda: "undone")
    return "done"


async def failing(ctx: RunContext) -> None:
    await ctx.step("a", lambda: 1)
    await ctx.step("b", lambda: 1 // 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "execute",
    (in_sequence, at_once, nested, mapped, paying, compensating, failing),
    ids=lambda execute: execute.__name__,
)
async def test_a_sound_workflow_survives_every_seed(execute: Any) -> None:
    report = await simulate(scripted(execute), seeds=60)

    assert report.seeds == 60
    assert report.runs > 60, "some have a neighbour"
    assert report.deliveries > report.runs


async def test_a_short_timeout_is_survived_too() -> None:
    await simulate(scripted(in_sequence, timeout_seconds=3), seeds=60)


@pytest.mark.slow
async def test_every_kind_of_trouble_comes() -> None:
    report = await simulate(scripted(paying), seeds=150)

    assert set(report.faults) == {"absent", "clock", "compute", "kill", "lost", "pause", "shut down", "slow"}
    assert report.interrupted > 0
    assert f"{report.runs} runs of 150 seeds" in str(report)


class Order(BaseWorkflow):
    manifest = WorkflowManifest(name="order")

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> Any:
        return await ctx.step("quote", payload["item"].upper)


async def test_payloads_are_drawn() -> None:
    seen: set[str] = set()

    class Noting(Order):
        async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> Any:
            seen.add(await super().execute(ctx, payload))

    await simulate(Noting, [{"item": "tea"}, {"item": "milk"}], seeds=20)
    await simulate(Order, {"item": "tea"}, seeds=3)

    assert seen == {"TEA", "MILK"}
    with pytest.raises(ValueError, match="payloads: there must be one at least"):
        await simulate(Order, [])


def charging(charges: list[str]) -> type[BaseWorkflow]:
    async def execute(ctx: RunContext) -> None:
        await ctx.step("price", lambda: 3)
        charges.append("tea")
        await ctx.step("note", lambda: None)

    return scripted(execute)


async def found(workflow: Any, **options: Any) -> SimulationFailed:
    with pytest.raises(SimulationFailed) as failed:
        await simulate(workflow, **{"seeds": 200} | options)
    return failed.value


async def test_a_charge_outside_of_steps_is_found_with_its_line_and_its_seed_repeats_it() -> None:
    charges: list[str] = []
    first = await found(charging(charges), prepare=charges.clear, neighbours=False)
    second = await found(charging(charges), prepare=charges.clear, neighbours=False, seeds=[first.seed])

    assert (second.seed, second.errors, second.story) == (first.seed, first.errors, first.story)
    assert re.match(r"charges: 'tea': happened [2-9] times, 1 would be right: ", first.errors[0])
    assert "test_simulation.py:" in first.errors[0]
    assert f"seeds=[{first.seed}] repeats it" in str(first)
    assert "trigger 1 is delivered to instance 1" in str(first)


async def test_code_that_catches_the_end_of_its_attempt_is_found_though_it_ends_alike() -> None:
    async def execute(ctx: RunContext) -> None:
        try:
            await ctx.step("a", lambda: None)
        except BaseException:  # noqa: BLE001 - the mistake
            return

    failed = await found(scripted(execute))

    assert failed.errors[0].startswith("the code caught the end of its attempt and went on, at ")
    assert "test_simulation.py:" in failed.errors[0]


async def test_a_step_that_an_item_did_not_await_is_found() -> None:
    async def execute(ctx: RunContext) -> None:
        async def body(number: int) -> None:
            ctx.step("charge", lambda: None)  # type: ignore[unused-coroutine]

        await ctx.map("m", body, [1, 2])

    failed = await found(scripted(execute))

    assert failed.errors[0].startswith("step m[0]/charge was never awaited: it is asked for at ")


async def test_a_body_that_charges_twice_is_found() -> None:
    charges: list[str] = []

    async def execute(ctx: RunContext) -> None:
        await ctx.step("charge", charges.append, "tea")

    failed = await found(scripted(execute), prepare=charges.clear, effects=lambda: charges)

    assert re.search(r"'tea': happened \d times, \d would be right: .* in step charge", str(failed))


async def test_a_result_that_depends_on_the_attempt_is_found() -> None:
    async def execute(ctx: RunContext) -> int:
        await ctx.step("a", lambda: None)
        return ctx.attempt

    assert re.search(
        r"it ended as \('success', \d, None\), not as \('success', 1, None\)", str(await found(scripted(execute)))
    )


async def test_a_step_that_nobody_awaits_is_found() -> None:
    async def execute(ctx: RunContext) -> None:
        ctx.step("a", lambda: None)  # type: ignore[unused-coroutine]

    assert "step a was never awaited: it is asked for at " in str(await found(scripted(execute)))


class CountingAttempts(MemoryStore):
    """A store with a fault: its statistics count every claim as one run more."""

    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)

    async def claim_run(self, workflow_id: str, run_id: str, claim: Any, *, version: object = None) -> Any:
        claimed = await super().claim_run(workflow_id, run_id, claim, version=version)
        self._counts[workflow_id]["success"] = self._counts[workflow_id].get("success", 0) + 1
        return claimed


class ForgettingSteps(MemoryStore):
    """A store with a fault: what was recorded cannot be read."""

    async def read_steps(self, lease: Any) -> list[Any]:
        return []


@pytest.mark.parametrize(
    ("store", "told"),
    (
        (CountingAttempts, "the statistics count"),
        (ForgettingSteps, "its body was begun again after its result was recorded"),
    ),
)
async def test_an_engine_that_is_wrong_is_found(store: Any, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autopilot.testing.simulation.MemoryStore", store)

    assert told in str(await found(scripted(paying)))


PROGRAM = """
import asyncio
from autopilot.testing import SimulationFailed, simulate
from tests.durable.scripts import scripted
from tests.testing.test_simulation import at_once

async def execute(ctx):
    return await at_once(ctx) + [ctx.attempt]

try:
    asyncio.run(simulate(scripted(execute), seeds=200))
except SimulationFailed as failed:
    print(failed.seed, *failed.errors, *failed.story, sep="\\n")
"""


@pytest.mark.slow
def test_a_seed_is_the_same_simulation_in_every_process() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(told) == 1
    assert "it ended as" in told.pop()
