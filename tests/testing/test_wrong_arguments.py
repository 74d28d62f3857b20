"""What a test hands to the kit by mistake: it is told what is wrong, and does not pass without having tested anything."""

from collections.abc import Callable
from typing import Any

import pytest

from autopilot import RunContext
from autopilot.testing import CrashMatrixFailed, Harness, crash_matrix, simulate
from tests.durable.scripts import scripted


async def execute(ctx: RunContext) -> None:
    await ctx.step("a", lambda: None)


async def asynchronous(*_: Any) -> list[str]:
    return []


Workflow = scripted(execute)


@pytest.mark.parametrize("run", (crash_matrix, simulate))
@pytest.mark.parametrize("name", ("prepare", "outcome", "effects", "interrupted"))
async def test_functions_are_plain(run: Callable[..., Any], name: str) -> None:
    with pytest.raises(TypeError, match=f"^{name}: it must be a function, not a list"):
        await run(Workflow, **{name: ["a"]})
    if name != "interrupted":  # which nothing calls here
        with pytest.raises(TypeError, match=f"^{name}: it must be a plain function, not an asynchronous one"):
            await run(Workflow, **{name: asynchronous})


@pytest.mark.parametrize("run", (crash_matrix, simulate, lambda workflow: Harness(workflow).run()))
async def test_a_workflow_is_made_for_each_attempt(run: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="workflow: it must be a class, or a function that makes an instance, and not"):
        await run(Workflow())


@pytest.mark.parametrize("effects", (object, lambda: (number for number in range(3))))
async def test_effects_that_cannot_be_looked_into_are_refused(effects: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"effects: a (object|generator) cannot be looked into; give a list"):
        await crash_matrix(Workflow, effects=effects)


async def test_the_values_of_a_dict_are_effects() -> None:
    paid: dict[int, str] = {}

    async def pays(ctx: RunContext) -> None:
        await ctx.step("pay", lambda: paid.update({len(paid): "tea"}))

    with pytest.raises(CrashMatrixFailed, match="'tea': happened 2 times, 1 would be right"):
        await crash_matrix(scripted(pays), prepare=paid.clear, effects=paid.values, second_kills=0)


async def test_a_simulation_needs_a_seed() -> None:
    with pytest.raises(ValueError, match="seeds: there must be one at least"):
        await simulate(Workflow, seeds=0)


@pytest.mark.parametrize("moment", ("after step a", "body a", "before commit a", "after commit step a", "before"))
async def test_a_moment_that_no_run_has_is_refused(moment: str) -> None:
    harness = Harness(Workflow)

    with pytest.raises(ValueError, match=r"is no moment: it is 'before' or 'after', then 'body <step>'"):
        await harness.run(kill_at=moment)
    with pytest.raises(ValueError, match="is no moment"):
        await harness.pause(pause_at=moment)
