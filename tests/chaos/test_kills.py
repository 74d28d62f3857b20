"""SIGKILL and SIGTERM at random moments, while triggers come again until their runs have ended."""

import asyncio
from itertools import count

import pytest

from autopilot.models import WorkflowRun
from tests.chaos.conftest import Records, Serve
from tests.chaos.fleet import Fleet
from tests.chaos.ledger import every_run_ended_once_and_right

ENDS = 5
"""In each test, SIGTERM included. With 200 of them it is a soak test."""

CALLERS = 20
"""Runs that are under way at once."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60 + 10 * ENDS)]


async def runs_while_processes_end(fleet: Fleet) -> list[WorkflowRun]:
    """All runs of callers who trigger one after the other, until the last process was ended, and to the runs' ends."""
    is_over = asyncio.Event()

    async def call(caller: int) -> list[WorkflowRun]:
        runs = []
        for number in count():
            payload = {"steps": fleet.chance.randint(3, 6), "seconds": fleet.chance.uniform(0, 0.1)}
            runs.append(await fleet.run_to_end(f"{caller}-{number}", payload))
            if is_over.is_set():
                break
        return runs

    async with asyncio.TaskGroup() as group:
        callers = [group.create_task(call(number)) for number in range(CALLERS)]
        for _ in range(ENDS):
            await asyncio.sleep(fleet.chance.uniform(0.3, 1.5))  # a random moment is what is tried
            await fleet.replace(fleet.chance.choice(fleet.servers))
        is_over.set()
    return [run for caller in callers for run in caller.result()]


@pytest.mark.emulator
async def test_on_firestore_every_run_ends_once_and_nothing_is_counted_or_recorded_twice(
    serve: Serve, firestore: Records
) -> None:
    fleet = await serve("relay", firestore)

    runs = await runs_while_processes_end(fleet)

    assert max(run.attempt for run in runs) > 1, "no process was ended in the middle of a run"
    await every_run_ended_once_and_right(fleet, firestore, runs)


async def test_on_one_sqlite_file_every_run_ends_once_and_nothing_is_counted_or_recorded_twice(
    serve: Serve, sqlite: Records
) -> None:
    fleet = await serve("relay", sqlite)

    runs = await runs_while_processes_end(fleet)

    assert max(run.attempt for run in runs) > 1, "no process was ended in the middle of a run"
    await every_run_ended_once_and_right(fleet, sqlite, runs)
