"""What every archive promises of ``get_activity``."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from autopilot.core.store import ActivityBucket, BucketSize, RunStart, Store
from autopilot.models import RunStatus, WorkflowRun
from tests.journal import claim_of
from tests.runs import MakeRun

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


async def hours(
    store: Store, since: datetime = NOON - DAY, until: datetime = NOON + DAY, workflow_id: str = "digest"
) -> list[ActivityBucket]:
    return await store.get_activity(workflow_id, since=since, until=until, size=BucketSize.HOUR)


async def statuses(store: Store) -> dict[datetime, dict[str, int]]:
    return {bucket.start: bucket.by_status for bucket in await hours(store)}


def ended(run: WorkflowRun, status: RunStatus = RunStatus.SUCCESS, at: datetime = NOON, **fields: Any) -> WorkflowRun:
    return run.model_copy(update={"status": status, "completed_at": at, "duration_ms": 7} | fields)


async def test_a_run_counts_in_the_hour_in_which_it_ended(store: Store, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.RUNNING, started_at=NOON - 2 * HOUR)
    await store.save_run(run)
    assert await hours(store) == []

    await store.save_run(ended(run, at=NOON + timedelta(minutes=59, seconds=59)))

    assert await statuses(store) == {NOON: {"success": 1}}


async def test_saving_a_run_again_counts_nothing_twice(store: Store, make_run: MakeRun) -> None:
    run = ended(make_run())

    for _ in range(3):
        await store.save_run(run)

    assert await statuses(store) == {NOON: {"success": 1}}


@pytest.mark.parametrize("status", (RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.SKIPPED, RunStatus.CANCELLED))
async def test_every_way_to_end_counts(store: Store, make_run: MakeRun, status: RunStatus) -> None:
    await store.save_run(ended(make_run(), status))

    assert await statuses(store) == {NOON: {status.value: 1}}


async def test_a_run_that_is_recorded_as_over_counts_from_its_start(store: Store, make_run: MakeRun) -> None:
    run = ended(make_run(), RunStatus.SKIPPED)

    for _ in range(2):
        await store.start_run(RunStart(run=run, owner="o", incarnation="n", lease_duration=HOUR, counter_shards=3))

    assert await statuses(store) == {NOON: {"skipped": 1}}


async def test_another_ending_of_a_run_moves_what_it_counts_as(store: Store, make_run: MakeRun) -> None:
    run = ended(make_run())
    await store.save_run(run)

    await store.save_run(ended(run, RunStatus.FAILED, NOON + HOUR, duration_ms=400))

    (bucket,) = await hours(store)
    assert (bucket.start, bucket.by_status) == (NOON + HOUR, {"failed": 1})
    assert bucket.duration_ms["max"] == pytest.approx(400, rel=0.1)


@pytest.mark.parametrize("status", (RunStatus.SKIPPED, RunStatus.CANCELLED))
async def test_a_run_whose_duration_does_not_count_leaves_those_of_others(
    store: Store, make_run: MakeRun, status: RunStatus
) -> None:
    await store.save_run(ended(make_run(), duration_ms=7))

    await store.save_run(ended(make_run(), status))

    (bucket,) = await hours(store)
    assert bucket.by_status == {"success": 1, status.value: 1}
    assert bucket.duration_ms == {"p50": 7, "p95": 7, "max": 7}


async def test_a_run_that_is_reopened_counts_no_more_until_it_ends_again(store: Store, make_run: MakeRun) -> None:
    failed, other = ended(make_run(), RunStatus.FAILED), ended(make_run(), RunStatus.FAILED)
    await store.save_run(failed)
    await store.save_run(other)

    claim = await store.claim_run("digest", failed.id, claim_of("o", lease_duration=HOUR, reopen=True))
    assert claim is not None
    assert await statuses(store) == {NOON: {"failed": 1}}

    await store.save_run(ended(claim.run, RunStatus.SUCCESS, NOON + 3 * HOUR))
    assert await statuses(store) == {NOON: {"failed": 1}, NOON + 3 * HOUR: {"success": 1}}


async def test_a_run_whose_activity_was_all_there_was_leaves_none_when_it_is_reopened(
    store: Store, make_run: MakeRun
) -> None:
    run = ended(make_run(), RunStatus.FAILED)
    await store.save_run(run)

    await store.save_run(run.model_copy(update={"status": RunStatus.RUNNING, "attempt": 2, "completed_at": None}))

    assert await hours(store) == []


async def test_days_are_from_midnight_to_midnight_and_are_the_sum_of_their_hours(
    store: Store, make_run: MakeRun
) -> None:
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    last = midnight + DAY - timedelta(microseconds=1)
    for at, status in (
        (midnight, RunStatus.SUCCESS),
        (NOON, RunStatus.FAILED),
        (last, RunStatus.SUCCESS),
        (midnight + DAY, RunStatus.FAILED),
    ):
        await store.save_run(ended(make_run(), status, at))

    days = await store.get_activity("digest", since=NOON, until=NOON + HOUR, size=BucketSize.DAY)
    more = await store.get_activity("digest", since=NOON, until=NOON + DAY, size=BucketSize.DAY)

    assert [(day.start, day.by_status) for day in days] == [(midnight, {"success": 2, "failed": 1})]
    assert [(day.start, day.by_status) for day in more] == [
        (midnight, {"success": 2, "failed": 1}),
        (midnight + DAY, {"failed": 1}),
    ]


async def test_buckets_are_whole_in_order_and_those_that_have_a_part_in_the_time(
    store: Store, make_run: MakeRun
) -> None:
    for hour in (3, 1, 2, 0):
        await store.save_run(ended(make_run(), at=NOON + hour * HOUR + timedelta(minutes=1)))

    found = await hours(store, NOON + HOUR + timedelta(minutes=30), NOON + 3 * HOUR)

    assert [bucket.start for bucket in found] == [NOON + HOUR, NOON + 2 * HOUR]
    assert await hours(store, NOON + HOUR, NOON + HOUR) == []
    assert await hours(store, NOON + HOUR, NOON) == []


async def test_all_of_time_can_be_asked_for(store: Store, make_run: MakeRun) -> None:
    await store.save_run(ended(make_run()))
    ever = {"since": datetime.min.replace(tzinfo=UTC), "until": datetime.max.replace(tzinfo=UTC)}

    for size in BucketSize:
        (bucket,) = await store.get_activity("digest", **ever, size=size)
        assert bucket.by_status == {"success": 1}


async def test_percentiles_of_durations_are_at_most_a_tenth_off(store: Store, make_run: MakeRun) -> None:
    durations = [round(1.1**n) for n in range(100)]
    for number, duration in enumerate(durations):
        status = RunStatus.FAILED if number % 3 else RunStatus.SUCCESS
        await store.save_run(ended(make_run(), status, duration_ms=duration))

    (bucket,) = await hours(store)

    assert bucket.duration_ms["p50"] == pytest.approx(durations[49], rel=0.1)
    assert bucket.duration_ms["p95"] == pytest.approx(durations[94], rel=0.1)
    assert bucket.duration_ms["max"] == pytest.approx(durations[-1], rel=0.1)


async def test_what_was_skipped_or_cancelled_has_no_part_in_the_durations(store: Store, make_run: MakeRun) -> None:
    for status in (RunStatus.SKIPPED, RunStatus.CANCELLED):
        await store.save_run(ended(make_run(), status, duration_ms=5000))
    await store.save_run(ended(make_run(), duration_ms=None))
    assert [bucket.duration_ms for bucket in await hours(store)] == [{}]

    await store.save_run(ended(make_run(), duration_ms=12))

    assert [bucket.duration_ms for bucket in await hours(store)] == [{"p50": 12, "p95": 12, "max": 12}]


async def test_workflows_have_activity_of_their_own(store: Store, make_run: MakeRun) -> None:
    await store.save_run(ended(make_run(workflow_id="mine")))

    assert len(await hours(store, workflow_id="mine")) == 1
    assert await hours(store, workflow_id="theirs") == []
    assert await hours(store, workflow_id="../mine") == []


async def test_twenty_runs_that_end_at_once_with_spread_counters_are_counted_exactly(
    store: Store, make_run: MakeRun
) -> None:
    runs = [make_run(status=RunStatus.RUNNING) for _ in range(20)]

    async def execute(run: WorkflowRun, number: int) -> None:
        start = RunStart(run=run, owner=f"o{number}", incarnation="n", lease_duration=HOUR, counter_shards=4)
        outcome = await store.start_run(start)
        status = RunStatus.FAILED if number % 4 == 0 else RunStatus.SUCCESS
        await store.save_run(ended(outcome.run, status, due_at=None))

    await asyncio.gather(*(execute(run, number) for number, run in enumerate(runs)))

    assert await statuses(store) == {NOON: Counter(success=15, failed=5)}


async def test_removing_a_run_leaves_its_activity(store: Store, make_run: MakeRun) -> None:
    run = ended(make_run())
    await store.save_run(run)

    await store.delete_run("digest", run.id)

    assert await statuses(store) == {NOON: {"success": 1}}
