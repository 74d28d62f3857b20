"""What a run costs in calls of the store."""

import pytest

from autopilot import RunContext
from autopilot.testing import Harness, InstanceKilled, ManualClock
from tests.durable.scripts import FaultyStore, scripted

HYDRATION = {"get_stats": 1, "get_latest_run": 1}
"""Of every cold instance."""


async def five_steps(ctx: RunContext) -> None:
    for name in "abcd":
        await ctx.step(name, lambda: 1)
    await ctx.step("e", lambda: 1, semantics="at_most_once")


@pytest.fixture
def harness() -> Harness:
    clock = ManualClock()
    return Harness(scripted(five_steps), store=FaultyStore(clock), clock=clock)


def calls(harness: Harness) -> dict[str, int]:
    """Of the one cold instance since the last look, its reading of the past apart."""
    store = harness.store
    assert isinstance(store, FaultyStore)
    found = dict(store.calls - type(store.calls)(HYDRATION))
    store.calls.clear()
    return found


async def test_a_run_is_two_commits_a_step_one_and_an_at_most_once_step_two(harness: Harness) -> None:
    await harness.run(identity="x")

    assert calls(harness) == {"start_run": 1, "record_step": 6, "save_run": 1}


async def test_a_repeated_trigger_of_a_finished_run_is_one_call(harness: Harness) -> None:
    await harness.run(identity="x")
    calls(harness)
    await harness.run(identity="x")

    assert calls(harness) == {"start_run": 1}


async def test_a_resume_by_the_same_trigger_is_a_look_a_claim_a_query_and_what_is_left_to_do(harness: Harness) -> None:
    with pytest.raises(InstanceKilled):
        await harness.run(identity="x", kill_at="after body d")
    harness.expire_lease()
    calls(harness)
    await harness.run(identity="x")

    assert calls(harness) == {"start_run": 1, "claim_run": 1, "read_steps": 1, "record_step": 3, "save_run": 1}


async def test_a_continuation_of_a_run_with_every_step_recorded_is_a_claim_a_query_and_the_ending(
    harness: Harness,
) -> None:
    with pytest.raises(InstanceKilled):
        await harness.run(identity="x", kill_at="before commit end")
    harness.expire_lease()
    (run,) = await harness.runs()
    calls(harness)
    await harness.resume(run.id)

    assert calls(harness) == {"claim_run": 1, "read_steps": 1, "save_run": 1}


async def test_a_thousand_steps_are_resumed_with_one_query_and_none_is_executed() -> None:
    async def execute(ctx: RunContext) -> int:
        return sum([await ctx.step("s", one, key=number) for number in range(1000)])

    async def one() -> int:
        return 1

    clock = ManualClock()
    harness = Harness(scripted(execute), store=FaultyStore(clock), clock=clock)
    with pytest.raises(InstanceKilled):
        await harness.run(identity="x", kill_at="before commit end")
    harness.expire_lease()
    calls(harness)
    run = await harness.run(identity="x")

    assert run.result == 1000
    assert calls(harness) == {"start_run": 1, "claim_run": 1, "read_steps": 1, "save_run": 1}
    assert set(harness.executions(run.id).values()) == {1}
