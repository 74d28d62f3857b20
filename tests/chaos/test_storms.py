"""SIGKILL, SIGTERM and SIGSTOP at random, every trigger delivered twice, and on Firestore a network that loses answers.

Each run ends as its code says, whatever its deadline: nothing that happens to a process is the workflow's failure.
"""

import asyncio
from dataclasses import replace
from random import Random

import pytest

from autopilot.models import WorkflowRun
from tests.chaos.conftest import Records, Serve
from tests.chaos.fleet import Fleet
from tests.chaos.ledger import every_run_ended_once_and_right
from tests.chaos.lossy_proxy import lossy_proxy

DISTURBANCES = 8
"""In each test. With 100 of them it is a soak test."""

CALLERS = 8
"""Runs that are under way at once; each trigger is delivered by two callers."""

LONGEST_FREEZE_SECONDS = 5.0
"""Past the lease of a run of three seconds, or not."""

ENDS_WITHIN = 150.0
"""Seconds in which a run of twenty seconds must end: it may wait for several leases."""

TARGETS = pytest.mark.parametrize("target", ("brisk_relay", "steady_relay"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


async def runs_in_a_storm(fleet: Fleet) -> list[WorkflowRun]:
    """The runs of callers who trigger one after the other, until the storm is over, and to the runs' ends."""
    is_over = asyncio.Event()

    async def call(caller: int) -> list[WorkflowRun]:
        runs: list[WorkflowRun] = []
        while not is_over.is_set():
            identity = f"{caller}-{len(runs)}"
            payload = {"steps": fleet.chance.randint(2, 5), "seconds": fleet.chance.uniform(0, 0.1)}
            run, again = await asyncio.gather(
                *(fleet.run_to_end(identity, payload, within=ENDS_WITHIN) for _ in range(2))
            )
            assert run == again
            runs.append(run)
        return runs

    async with asyncio.TaskGroup() as group:
        callers = [group.create_task(call(number)) for number in range(CALLERS)]
        for _ in range(DISTURBANCES):
            await asyncio.sleep(fleet.chance.uniform(0.2, 1.0))  # a random moment is what is tried
            await disturb(fleet)
        is_over.set()
    return [run for caller in callers for run in caller.result()]


async def disturb(fleet: Fleet) -> None:
    """A process is killed or told to end, and replaced; or it is stopped for a while, and goes on."""
    server = fleet.chance.choice(fleet.servers)
    if fleet.chance.random() < 0.6:
        await fleet.replace(server)
        return
    fleet.freeze(server)
    await asyncio.sleep(fleet.chance.uniform(0.5, LONGEST_FREEZE_SECONDS))  # how long is what is tried
    fleet.thaw(server)


@pytest.mark.emulator
@TARGETS
async def test_on_firestore_every_run_ends_as_its_code_says(
    target: str, serve: Serve, firestore: Records, chance: Random
) -> None:
    async with lossy_proxy(firestore.env["FIRESTORE_EMULATOR_HOST"], chance) as (address, proxy):
        lossy = replace(firestore, env={**firestore.env, "FIRESTORE_EMULATOR_HOST": address})
        fleet = await serve(target, lossy)

        runs = await runs_in_a_storm(fleet)

        assert proxy.lost, "no answer was lost"
        assert max(run.attempt for run in runs) > 1, "nothing happened in the middle of a run"
        proxy.loses = 0.0
        await every_run_ended_once_and_right(fleet, firestore, runs)


@TARGETS
async def test_on_one_sqlite_file_every_run_ends_as_its_code_says(target: str, serve: Serve, sqlite: Records) -> None:
    fleet = await serve(target, sqlite)

    runs = await runs_in_a_storm(fleet)

    assert max(run.attempt for run in runs) > 1, "nothing happened in the middle of a run"
    await every_run_ended_once_and_right(fleet, sqlite, runs)
