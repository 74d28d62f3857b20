"""What every journal promises of ``claim_run``, and of what was written before and comes after."""

import asyncio
from datetime import datetime

import pytest

from autopilot.core.store import ClaimOutcome, Lease, Store
from autopilot.errors import RunSuperseded
from autopilot.models import RunAttempt, RunStatus
from autopilot.testing import ManualClock
from tests.journal import LEASE, LONG_AGO, LONG_HENCE, OVER, changed, claim_of, claimed, start_of, started, taken_over
from tests.runs import MakeRun

WAITING = (RunStatus.PENDING, RunStatus.PAUSED, RunStatus.SLEEPING)


async def counts(store: Store) -> dict[str, int]:
    return dict((await store.get_stats("digest"))["by_status"])


def second(clock: ManualClock) -> RunAttempt:
    return RunAttempt(number=2, started_at=clock.now(), revision="revision of second")


async def test_a_run_whose_lease_is_over_is_taken_over_by_its_next_attempt(
    store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    run = make_run(status=RunStatus.RUNNING, trigger_data={"url": "x"}, version="3")
    first = await started(store, run)

    outcome = await claimed(store, run)

    assert outcome == ClaimOutcome(
        run=changed(run, attempt=2, attempts=(second(clock),), due_at=clock.now() + LEASE, idle_claims=1),
        before=RunStatus.RUNNING,
        lease=Lease(workflow_id="digest", run_id=run.id, attempt=2, owner="second", incarnation=first.incarnation),
    )
    assert await store.get_run("digest", run.id) == outcome.run
    assert await counts(store) == {"running": 1}


async def test_a_run_that_is_held_cannot_be_taken(store: Store, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.RUNNING)
    held = (await store.start_run(start_of(run))).run

    for reopen in (False, True):
        outcome = await claimed(store, run, reopen=reopen)

        assert outcome == ClaimOutcome(run=held, before=RunStatus.RUNNING, lease=None)
    assert await store.get_run("digest", run.id) == held


async def test_a_run_that_was_taken_over_is_held_again(store: Store, make_run: MakeRun) -> None:
    run = make_run()
    await started(store, run)
    await taken_over(store, run, "second")

    assert (await claimed(store, run, "third")).lease is None


async def test_a_run_that_is_released_can_be_taken_at_once(store: Store, make_run: MakeRun, clock: ManualClock) -> None:
    run = make_run(status=RunStatus.RUNNING)
    await started(store, run, lease_duration=LEASE)
    first = RunAttempt(number=1, started_at=run.started_at, ended_at=clock.now(), ending="released")
    released = changed(run, due_at=clock.now(), duration_ms=7, attempts=(first,), idle_deadlines=1)
    await store.save_run(released)

    found = await store.start_run(start_of(run, "second"))
    outcome = await claimed(store, run, version=found.version)

    assert (found.run, found.created, found.is_due) == (released, False, True)
    assert outcome.run == changed(released, attempt=2, attempts=(first, second(clock)), due_at=clock.now() + LEASE)
    assert outcome.lease is not None


async def test_a_lease_that_is_saved_anew_is_kept(store: Store, make_run: MakeRun, clock: ManualClock) -> None:
    run = make_run(status=RunStatus.RUNNING)
    await started(store, run, lease_duration=OVER)
    await store.save_run(changed(run, due_at=clock.now() + LEASE))

    assert (await claimed(store, run)).lease is None


async def test_a_run_that_runs_without_a_lease_can_be_taken(store: Store, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.RUNNING)
    await store.save_run(run)

    outcome = await claimed(store, run)

    assert outcome.lease == Lease(
        workflow_id="digest", run_id=run.id, attempt=2, owner="second", incarnation="incarnation of second"
    )


@pytest.mark.parametrize(
    ("due_at", "is_free"),
    ((LONG_AGO, True), (LONG_HENCE, False), (None, False)),
    ids=("past", "future", "none"),
)
@pytest.mark.parametrize("status", WAITING)
async def test_a_waiting_run_can_be_taken_from_its_due_time_on(
    store: Store, make_run: MakeRun, status: RunStatus, due_at: datetime | None, *, is_free: bool
) -> None:
    run = make_run(status=RunStatus.RUNNING)
    await started(store, run, lease_duration=LEASE)
    waiting = changed(run, status=status, due_at=due_at, waiting_for="approval")
    await store.save_run(waiting)

    found = await store.start_run(start_of(run, "again"))
    outcome = await claimed(store, run)

    assert found.is_due is is_free
    assert (outcome.lease is not None) is is_free
    assert outcome.before is status
    assert await counts(store) == ({"running": 1} if is_free else {status: 1})
    if is_free:
        assert (outcome.run.status, outcome.run.attempt, outcome.run.waiting_for) == (RunStatus.RUNNING, 2, None)


async def test_a_start_tells_whether_the_run_that_is_there_can_be_taken(store: Store, make_run: MakeRun) -> None:
    held, over, ended = make_run(), make_run(), make_run()
    await started(store, held, lease_duration=LEASE)
    await started(store, over, lease_duration=OVER)
    await store.save_run(ended)

    found = [await store.start_run(start_of(run, "again")) for run in (held, over, ended)]

    assert [outcome.is_due for outcome in found] == [False, True, False]
    assert not any(outcome.created for outcome in found)


async def test_of_twenty_claims_at_once_exactly_one_succeeds(store: Store, make_run: MakeRun) -> None:
    run = make_run()
    await started(store, run)

    outcomes = await asyncio.gather(*(claimed(store, run, f"owner {n}") for n in range(20)))

    leases = [outcome.lease for outcome in outcomes if outcome.lease is not None]
    assert [lease.attempt for lease in leases] == [2]
    assert {outcome.run.attempt for outcome in outcomes} == {2}
    assert await counts(store) == {"running": 1}


async def test_of_twenty_repeated_triggers_at_once_exactly_one_takes_over(store: Store, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.RUNNING)
    await started(store, run)

    async def triggered(owner: str) -> Lease | None:
        found = await store.start_run(start_of(run, owner))
        return (await claimed(store, run, owner, version=found.version)).lease

    leases = await asyncio.gather(*(triggered(f"owner {n}") for n in range(20)))

    assert [lease.attempt for lease in leases if lease is not None] == [2]


async def test_attempts_only_rise(store: Store, make_run: MakeRun) -> None:
    run = make_run()
    await started(store, run)

    leases = [await taken_over(store, run, f"owner {n}", lease_duration=OVER) for n in range(5)]

    assert [lease.attempt for lease in leases] == [2, 3, 4, 5, 6]
    assert {lease.incarnation for lease in leases} == {"incarnation of first"}


async def test_a_claim_that_is_repeated_is_its_own(store: Store, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.FAILED, error="broken")
    await store.save_run(run)

    first = await claimed(store, run, reopen=True)
    again = await claimed(store, run, reopen=True)

    assert first.lease is not None
    assert (again.run, again.lease) == (first.run, first.lease)
    assert await counts(store) == {"running": 1}


async def test_a_claim_that_is_repeated_after_its_attempt_has_ended_holds_nothing(
    store: Store, make_run: MakeRun
) -> None:
    run = make_run()
    await started(store, run)
    taken = await claimed(store, run)
    ended = changed(taken.run, status=RunStatus.SUCCESS, due_at=None)
    await store.save_run(ended)

    assert await claimed(store, run) == ClaimOutcome(run=ended, before=RunStatus.SUCCESS, lease=None)


@pytest.mark.parametrize("status", (RunStatus.FAILED, RunStatus.CANCELLED))
async def test_a_person_can_reopen_a_run_that_failed_or_was_cancelled(
    store: Store, make_run: MakeRun, clock: ManualClock, status: RunStatus
) -> None:
    run = make_run(status=RunStatus.RUNNING)
    first = await started(store, run, lease_duration=LEASE)
    over = changed(
        run,
        status=status,
        completed_at=clock.now(),
        duration_ms=7,
        result=[1],
        error="broken",
        error_type="ValueError",
        expires_at=LONG_HENCE,
    )
    await store.save_run(over)

    assert (await claimed(store, run)).lease is None
    outcome = await claimed(store, run, reopen=True)

    reopened = changed(
        run,
        attempt=2,
        attempts=(second(clock),),
        due_at=clock.now() + LEASE,
        duration_ms=7,
        reopened_attempt=2,
        round=2,
    )
    assert (outcome.run, outcome.before) == (reopened, status)
    assert outcome.lease is not None
    assert outcome.lease.incarnation == first.incarnation
    assert await store.get_run("digest", run.id) == reopened
    assert await counts(store) == {"running": 1}

    await store.save_run(changed(outcome.run, status=RunStatus.SUCCESS, due_at=None))
    assert await counts(store) == {"success": 1}


@pytest.mark.parametrize("status", (RunStatus.SUCCESS, RunStatus.SKIPPED))
async def test_a_run_that_succeeded_or_was_skipped_is_never_reopened(
    store: Store, make_run: MakeRun, status: RunStatus
) -> None:
    run = make_run(status=status)
    await store.save_run(run)

    outcome = await claimed(store, run, reopen=True)

    assert outcome == ClaimOutcome(run=run, before=status, lease=None)
    assert await store.get_run("digest", run.id) == run


@pytest.mark.parametrize(
    ("workflow_id", "run_id"), (("digest", "unknown"), ("other", "run-0001"), ("../x", "run-0001"), ("digest", "a/b"))
)
async def test_there_is_nothing_to_claim_where_there_is_no_run(
    store: Store, make_run: MakeRun, workflow_id: str, run_id: str
) -> None:
    await started(store, make_run())

    assert await store.claim_run(workflow_id, run_id, claim_of("second", lease_duration=LEASE)) is None


async def test_a_run_that_has_expired_counts_as_absent(store: Store, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.FAILED, expires_at=LONG_AGO)
    await store.save_run(run)

    assert await store.claim_run("digest", run.id, claim_of("second", lease_duration=LEASE, reopen=True)) is None


async def test_what_was_found_before_another_claim_is_no_longer_true(store: Store, make_run: MakeRun) -> None:
    run = make_run()
    await started(store, run)
    found = await store.start_run(start_of(run, "slow"))
    quick = await claimed(store, run, "quick")

    slow = await claimed(store, run, "slow", version=found.version)

    assert slow == ClaimOutcome(run=quick.run, before=RunStatus.RUNNING, lease=None)


async def test_what_was_found_before_the_run_ended_is_no_longer_true(store: Store, make_run: MakeRun) -> None:
    run = make_run()
    await started(store, run)
    found = await store.start_run(start_of(run, "slow"))
    ended = changed(run, status=RunStatus.SUCCESS)
    await store.save_run(ended)

    slow = await claimed(store, run, "slow", version=found.version)

    assert slow == ClaimOutcome(run=ended, before=RunStatus.SUCCESS, lease=None)
    assert await counts(store) == {"success": 1}


async def test_what_was_found_before_the_lease_ended_does_not_hold_a_claim_up(
    store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    run = make_run(status=RunStatus.RUNNING)
    await started(store, run, lease_duration=LEASE)
    found = await store.start_run(start_of(run, "early"))
    await store.save_run(changed(run, due_at=clock.now()))

    assert not found.is_due
    assert (await claimed(store, run, "early", version=found.version)).lease is not None


@pytest.mark.parametrize("status", (RunStatus.RUNNING, RunStatus.SUCCESS, RunStatus.FAILED))
async def test_after_a_claim_the_attempt_before_cannot_save_the_run(
    store: Store, make_run: MakeRun, clock: ManualClock, status: RunStatus
) -> None:
    run = make_run(status=RunStatus.RUNNING)
    await started(store, run)
    taken = await claimed(store, run)

    with pytest.raises(RunSuperseded) as raised:
        await store.save_run(changed(run, status=status, due_at=clock.now(), error="late"))

    assert (raised.value.run_id, raised.value.attempt, raised.value.stored_attempt) == (run.id, 1, 2)
    assert await store.get_run("digest", run.id) == taken.run
    assert (await claimed(store, run, "third")).lease is None
    assert await counts(store) == {"running": 1}


async def test_the_attempt_that_took_over_ends_the_run(store: Store, make_run: MakeRun) -> None:
    run = make_run()
    await started(store, run)
    taken = await claimed(store, run)
    ended = changed(taken.run, status=RunStatus.SUCCESS, due_at=None, result=42)

    await store.save_run(ended)

    assert await store.get_run("digest", run.id) == ended
    assert await counts(store) == {"success": 1}


@pytest.mark.parametrize("attempt", (1, 2), ids=("same attempt", "higher attempt"))
async def test_a_run_cannot_be_saved_over_the_one_that_took_its_place(
    store: Store, make_run: MakeRun, attempt: int
) -> None:
    old = make_run(id="same", status=RunStatus.RUNNING)
    await started(store, old, "old")
    await store.save_run(changed(old, status=RunStatus.FAILED, expires_at=LONG_AGO))
    new = make_run(id="same")
    await started(store, new, "new")
    stored = await store.get_run("digest", "same")

    with pytest.raises(RunSuperseded, match="newer run"):
        await store.save_run(changed(old, attempt=attempt, status=RunStatus.SUCCESS))

    assert await store.get_run("digest", "same") == stored
    assert await counts(store) == {"failed": 1, "running": 1}
