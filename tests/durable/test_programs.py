"""Any program out of steps ends the same under any schedule of kills."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, currently_in_test_context, event, given, note, settings, strategies as st
from structlog.testing import capture_logs

from autopilot.models import StepStatus, WorkflowRun
from autopilot.testing import Harness, InstanceKilled, ManualClock
from tests.durable.programs import (
    FOR_GOOD,
    Attempt,
    CountingStore,
    Each,
    Inside,
    Node,
    Program,
    Together,
    Work,
    World,
    at_once,
    most_bodies,
    nodes,
)
from tests.durable.scripts import scripted

KILLS = st.lists(st.integers(0, 40), max_size=5)


class Outcome:
    """One run of a program, with what the world counted."""

    def __init__(self, run: WorkflowRun, world: World, kills: list[str]) -> None:
        self.run = run
        self.world = world
        self.kills = kills
        self.was_cut_off = any(record.status is StepStatus.INTERRUPTED for record in world.store.last.values())


async def run_of(node: Node, attempts: int, kills: list[int]) -> Outcome:
    """A run whose instances are killed at moments with these numbers, one after the other, until it ends."""
    clock = ManualClock()
    world = World(CountingStore(clock))
    workflow = scripted(Program(node, world).execute, retry=at_once(attempts), max_idle_claims=100)
    harness = Harness(workflow, store=world.store, clock=clock)
    run: WorkflowRun | None = None
    killed: list[str] = []
    while run is None:
        world.begin_instance()
        try:
            run = await harness.run(identity="x", kill_at=kills[len(killed)] if len(killed) < len(kills) else None)
        except InstanceKilled as death:
            killed.append(death.moment)
            harness.expire_lease()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        world.errors += [f"left after an instance: {task}" for task in left]
    world.begin_instance()
    assert run.status.is_terminal
    assert await harness.get_run(run.id) == run
    return Outcome(run, world, killed)


def check(outcome: Outcome, node: Node, attempts: int) -> None:
    """What holds of every run, whatever became of its instances."""
    world = outcome.world
    assert world.errors + world.store.errors == []
    for (key, round_, status), count in world.store.taken.items():
        if status is StepStatus.SUCCESS:
            assert count == 1, f"{key} was recorded {count} times in round {round_}"
            assert world.store.count(key, status) == 1
    most = dict(most_bodies(node, (len(outcome.kills) + 1) * attempts))
    assert {key: count for key, count in world.begun.items() if count > most[key]} == {}


def ends_the_same(node: Node, attempts: int, kills: list[int]) -> None:
    async def both() -> list[Outcome]:
        outcomes = [await run_of(node, attempts, []), await run_of(node, attempts, kills)]
        for outcome in outcomes:
            outcome.world.store.close()
        return outcomes

    with capture_logs():
        undisturbed, killed = asyncio.run(both())
    if currently_in_test_context():
        note(f"undisturbed: {outcome_of(undisturbed.run)}\nkilled at {killed.kills}: {outcome_of(killed.run)}")
        event(f"{len(killed.kills)} kills, {undisturbed.run.status}, {undisturbed.run.round} rounds")
    check(undisturbed, node, attempts)
    check(killed, node, attempts)
    if not (undisturbed.was_cut_off or killed.was_cut_off):
        assert outcome_of(killed.run) == outcome_of(undisturbed.run)


def outcome_of(run: WorkflowRun) -> Any:
    return run.status.value, run.result, run.error_type, run.round


quick = settings(
    max_examples=40,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=(HealthCheck.too_slow,),
)


SICK, WELL = Work(fails=1), Work()
FOUND = (
    # What generated programs have found, in the words of tests/durable/test_compensation.py.
    (Together("collect", (SICK, Together("collect", (WELL,)))), 2, [6]),
    (Together("collect", (Each((SICK,), 1, tolerant=False), Inside(Inside(Work(once=True))))), 2, [19]),
    (Attempt(Work(fails=FOR_GOOD), Work(flaky=1, tries=2), "go on"), 2, [7]),
    (Inside(Inside(Each((Work(once=True),), 1, tolerant=False))), 1, [6]),
    (Inside(Each((Work(fails=FOR_GOOD), Inside(WELL), Work(ticks=1)), 2, tolerant=False)), 3, [1, 36]),
)


@pytest.mark.parametrize(("node", "attempts", "kills"), FOUND)
def test_what_generated_programs_have_found_stays_right(node: Node, attempts: int, kills: list[int]) -> None:
    ends_the_same(node, attempts, kills)


@pytest.mark.slow
@given(node=nodes(), attempts=st.integers(1, 3), kills=KILLS)
@quick
def test_any_program_ends_the_same_under_any_schedule_of_kills(node: Node, attempts: int, kills: list[int]) -> None:
    ends_the_same(node, attempts, kills)


@pytest.mark.slow
@pytest.mark.timeout(600)
@given(node=nodes(depth=4), attempts=st.integers(1, 3), kills=KILLS)
@settings(quick, max_examples=500)
def test_any_larger_program_does_so_too(node: Node, attempts: int, kills: list[int]) -> None:
    ends_the_same(node, attempts, kills)
