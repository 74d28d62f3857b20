"""What every journal promises of ``start_run``."""

import asyncio
from dataclasses import replace

import pytest

from autopilot.core.runs.limits import PAYLOAD_LIMIT
from autopilot.core.store import StartOutcome, Store
from autopilot.errors import PayloadTooLarge
from autopilot.models import RunStatus
from autopilot.testing import ManualClock
from tests.journal import LEASE, LONG_AGO, LONG_HENCE, start_of
from tests.runs import MakeRun


async def test_a_start_creates_the_run_and_counts_it(store: Store, make_run: MakeRun, clock: ManualClock) -> None:
    run = make_run(status=RunStatus.RUNNING)
    held = run.model_copy(update={"due_at": clock.now() + LEASE})

    outcome = await store.start_run(start_of(run))

    assert outcome == StartOutcome(run=held, created=True)
    assert await store.get_run("digest", run.id) == held
    assert (await store.get_stats("digest"))["by_status"] == {"running": 1}


@pytest.mark.parametrize("status", (RunStatus.SKIPPED, RunStatus.PENDING))
async def test_a_run_that_is_only_recorded_has_no_lease(store: Store, make_run: MakeRun, status: RunStatus) -> None:
    run = make_run(status=status)

    outcome = await store.start_run(start_of(run))

    assert outcome == StartOutcome(run=run, created=True)
    assert await store.get_run("digest", run.id) == run


async def test_of_twenty_starts_at_once_exactly_one_creates_the_run(store: Store, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.RUNNING)
    starts = [start_of(run.model_copy(update={"version": str(owner)}), owner=str(owner)) for owner in range(20)]

    outcomes = await asyncio.gather(*(store.start_run(start) for start in starts))

    assert sum(outcome.created for outcome in outcomes) == 1
    assert len({outcome.run.version for outcome in outcomes}) == 1
    assert (await store.get_stats("digest"))["by_status"] == {"running": 1}


async def test_a_start_that_is_repeated_is_its_own_and_counts_once(store: Store, make_run: MakeRun) -> None:
    start = start_of(make_run(status=RunStatus.RUNNING))

    first = await store.start_run(start)
    again = await store.start_run(start)

    assert again == first
    assert again.created
    assert (await store.get_stats("digest"))["total"] == 1


async def test_a_start_of_a_run_that_is_there_gets_the_run_that_is_there(store: Store, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.RUNNING)
    started = await store.start_run(start_of(run))
    finished = started.run.model_copy(update={"status": RunStatus.SUCCESS, "due_at": None, "result": 42})
    await store.save_run(finished)

    outcome = await store.start_run(start_of(run, owner="second"))

    assert outcome == StartOutcome(run=finished, created=False)
    assert await store.get_run("digest", run.id) == finished
    assert (await store.get_stats("digest"))["by_status"] == {"success": 1}


async def test_saving_a_run_leaves_the_mark_of_its_owner(store: Store, make_run: MakeRun) -> None:
    start = start_of(make_run(status=RunStatus.RUNNING))
    started = await store.start_run(start)
    finished = started.run.model_copy(update={"status": RunStatus.SUCCESS, "due_at": None})
    await store.save_run(finished)

    assert await store.start_run(start) == StartOutcome(run=finished, created=True)


async def test_a_run_that_has_not_expired_is_not_replaced(store: Store, make_run: MakeRun) -> None:
    there = make_run(id="same", expires_at=LONG_HENCE)
    await store.save_run(there)

    outcome = await store.start_run(start_of(make_run(id="same", status=RunStatus.RUNNING)))

    assert outcome == StartOutcome(run=there, created=False)
    assert (await store.get_stats("digest"))["by_status"] == {"success": 1}


async def test_an_expired_run_is_replaced_and_stays_counted(store: Store, make_run: MakeRun) -> None:
    await store.save_run(make_run(id="same", expires_at=LONG_AGO, result="of the old run"))
    start = start_of(make_run(id="same", status=RunStatus.SKIPPED))

    outcome = await store.start_run(start)

    assert outcome == StartOutcome(run=start.run, created=True)
    assert await store.get_run("digest", "same") == start.run
    assert (await store.get_stats("digest"))["by_status"] == {"success": 1, "skipped": 1}


async def test_a_repeated_start_of_a_run_that_has_expired_already_counts_once(store: Store, make_run: MakeRun) -> None:
    start = start_of(make_run(status=RunStatus.SKIPPED, expires_at=LONG_AGO))

    for _ in range(2):
        assert await store.start_run(start) == StartOutcome(run=start.run, created=True)

    assert (await store.get_stats("digest"))["by_status"] == {"skipped": 1}


async def test_an_expired_run_is_replaced_by_one_of_many(store: Store, make_run: MakeRun) -> None:
    await store.save_run(make_run(id="same", expires_at=LONG_AGO))
    run = make_run(id="same", status=RunStatus.RUNNING)

    outcomes = await asyncio.gather(*(store.start_run(start_of(run, owner=str(owner))) for owner in range(10)))

    assert sum(outcome.created for outcome in outcomes) == 1
    assert (await store.get_stats("digest"))["by_status"] == {"success": 1, "running": 1}


async def test_one_id_in_two_workflows_is_two_starts(store: Store, make_run: MakeRun) -> None:
    mine = await store.start_run(start_of(make_run(id="same", workflow_id="mine")))
    theirs = await store.start_run(start_of(make_run(id="same", workflow_id="theirs"), owner="second"))

    assert mine.created
    assert theirs.created


async def test_a_payload_that_is_too_large_starts_nothing(store: Store, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.RUNNING, trigger_data={"text": "x" * PAYLOAD_LIMIT})

    with pytest.raises(PayloadTooLarge):
        await store.start_run(start_of(run))

    assert await store.get_run("digest", run.id) is None
    assert (await store.get_stats("digest"))["total"] == 0


async def test_spread_counters_are_counted_together(store: Store, make_run: MakeRun) -> None:
    for number in range(12):
        run = make_run(status=RunStatus.RUNNING)
        started = await store.start_run(replace(start_of(run, owner=str(number)), counter_shards=5))
        await store.save_run(started.run.model_copy(update={"status": RunStatus.SUCCESS, "due_at": None}))

    assert await store.get_stats("digest") == {"total": 12, "successful": 12, "by_status": {"success": 12}}
