"""Many processes that take the same runs over from each other, on a wire that loses answers."""

import asyncio
import random
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import timedelta

import pytest

from autopilot.core.store import Lease, StepRecord
from autopilot.errors import RunSuperseded
from autopilot.models import RunStatus, StepStatus, WorkflowRun
from tests.firestore_wire import Wire, faults, sometimes, store_on
from tests.journal import OVER, a_step, changed, claimed, record, started
from tests.runs import MakeRun

pytestmark = [pytest.mark.emulator, pytest.mark.slow]


class Driver:
    """One of many processes that take runs over from each other and work on them."""

    def __init__(self, wire: Wire, name: str, runs: list[WorkflowRun], chance: random.Random) -> None:
        self._store = store_on(wire, timedelta(seconds=40))
        self._name = name
        self._runs = runs
        self._chance = chance
        self.recorded: list[tuple[str, StepRecord]] = []
        self.attempts: list[tuple[str, int]] = []
        self.superseded = 0

    async def drive(self, rounds: int) -> None:
        for n in range(rounds):
            run = self._chance.choice(self._runs)
            outcome = await claimed(self._store, run, f"{self._name}.{n}", lease_duration=OVER, reopen=True)
            if outcome.lease is None:
                continue
            self.attempts.append((run.id, outcome.lease.attempt))
            try:
                await self._work(outcome.lease, outcome.run)
            except RunSuperseded:
                self.superseded += 1

    async def _work(self, lease: Lease, run: WorkflowRun) -> None:
        found = await self._store.read_steps(lease)
        self.recorded += [(run.id, step) for step in found if step.status is StepStatus.SUCCESS]
        for key in self._chance.sample("abcde", 3):
            step = a_step(key, attempt=lease.attempt, result=f'"{lease.owner}"')
            if self._chance.random() < 0.3:
                await record(self._store, lease, replace(step, status=StepStatus.STARTED, result=None))
            self.recorded.append((run.id, await record(self._store, lease, step)))
        if self._chance.random() < 0.3:
            await self._store.save_run(changed(run, status=RunStatus.FAILED, due_at=None))


async def test_twenty_processes_with_lost_answers_take_over_and_record_every_step_once(
    wire: Wire, make_run: MakeRun
) -> None:
    runs = [make_run(status=RunStatus.RUNNING) for _ in range(6)]
    for run in runs:
        await started(store_on(wire), run)
    chance = random.Random(4)
    wire.next_fault = sometimes(chance)
    drivers = [Driver(wire, f"driver {n}", runs, chance) for n in range(20)]

    async with asyncio.timeout(50):
        await asyncio.gather(*(driver.drive(6) for driver in drivers))

    wire.next_fault = faults()
    attempts = [attempt for driver in drivers for attempt in driver.attempts]
    assert len(set(attempts)) == len(attempts) > 20
    assert sum(driver.superseded for driver in drivers) > 20
    await each_step_has_one_success(wire, runs, [each for driver in drivers for each in driver.recorded])
    for run in runs:
        await nothing_was_written_behind_a_fence(wire, run)
    stored = [await store_on(wire).get_run("digest", run.id) for run in runs]
    by_status = (await store_on(wire).get_stats("digest"))["by_status"]
    assert by_status == Counter(run.status for run in stored if run is not None)


async def each_step_has_one_success(
    wire: Wire, runs: list[WorkflowRun], recorded: list[tuple[str, StepRecord]]
) -> None:
    successes: dict[tuple[str, str], set[StepRecord]] = defaultdict(set)
    for run_id, step in recorded:
        successes[run_id, step.key].add(step)
    reader = Lease(workflow_id="digest", run_id="", attempt=999, owner="reader", incarnation="incarnation of first")
    for run in runs:
        for step in await store_on(wire).read_steps(replace(reader, run_id=run.id)):
            if step.status is StepStatus.SUCCESS:
                assert successes.pop((run.id, step.key), {step}) == {step}
    assert not successes, "what a driver was given is recorded"


async def nothing_was_written_behind_a_fence(wire: Wire, run: WorkflowRun) -> None:
    found = await wire.steps_of(run)
    fences = {name.rpartition("~")[2]: snapshot for name, snapshot in found.items() if "~fence~" in name}
    steps = [snapshot for name, snapshot in found.items() if "~step~" in name]
    last = await store_on(wire).get_run("digest", run.id)
    assert last is not None
    assert set(fences) == {str(attempt) for attempt in range(1, last.attempt)}
    assert steps
    for step in steps:
        if (fence := fences.get(str(step.get("attempt")))) is not None:
            assert step.update_time < fence.create_time
