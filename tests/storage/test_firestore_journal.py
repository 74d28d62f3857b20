"""What only Firestore can get wrong of claims, fences and steps: RPCs, lost answers, the server's time, the layout."""

import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from google.api_core import exceptions as google
from google.cloud.firestore_v1 import AsyncClient

from autopilot.core.clock import SystemClock
from autopilot.core.store import Lease
from autopilot.errors import RunSuperseded, StoreUnavailable, StoreVersionUnsupported
from autopilot.models import RunStatus, StepStatus
from autopilot.storage.firestore.documents import SCHEMA_VERSION
from autopilot.storage.firestore.store import FirestoreStore
from autopilot.testing import ManualClock
from tests.firestore_wire import PASSING_ERRORS, Wire, faults, lost, store_on
from tests.journal import (
    LEASE,
    LONG_AGO,
    LONG_HENCE,
    OVER,
    a_step,
    changed,
    claimed,
    record,
    start_of,
    started,
    taken_over,
)
from tests.runs import MakeRun

pytestmark = pytest.mark.emulator


@pytest.fixture
def store(wire: Wire) -> FirestoreStore:
    return store_on(wire)


class Meanwhile(SystemClock):
    """Something happens in the first pause between two attempts of a call."""

    def __init__(self, happens: Callable[[], Awaitable[object]]) -> None:
        self._happens = [happens]

    async def sleep(self, seconds: float) -> None:
        if self._happens:
            await self._happens.pop()()


# RPCs


@pytest.mark.parametrize("status", StepStatus)
async def test_a_step_is_one_commit_and_nothing_else(
    store: FirestoreStore, wire: Wire, make_run: MakeRun, status: StepStatus
) -> None:
    lease = await started(store, make_run())
    wire.calls.clear()

    await record(store, lease, a_step(status=status))

    assert dict(wire.calls) == {"commit": 1}


async def test_a_step_that_must_not_be_begun_twice_is_two_commits(
    store: FirestoreStore, wire: Wire, make_run: MakeRun
) -> None:
    lease = await started(store, make_run())
    wire.calls.clear()

    await record(store, lease, a_step(status=StepStatus.STARTED))
    await record(store, lease, a_step())

    assert dict(wire.calls) == {"commit": 2}


async def test_a_continuation_takes_three_rpcs_to_go_on(wire: Wire, make_run: MakeRun) -> None:
    run = make_run()
    await started(store_on(wire), run)
    elsewhere = store_on(wire)
    wire.calls.clear()

    await elsewhere.read_steps(await taken_over(elsewhere, run))

    assert dict(wire.calls) == {"get": 1, "commit": 1, "query": 1}


async def test_a_repeated_trigger_takes_four_rpcs_to_go_on(wire: Wire, make_run: MakeRun) -> None:
    run = make_run()
    await started(store_on(wire), run)
    elsewhere = store_on(wire)
    wire.calls.clear()

    found = await elsewhere.start_run(start_of(run, "second"))
    assert dict(wire.calls) == {"commit": 1, "get": 1}
    lease = await taken_over(elsewhere, run, version=found.version)
    assert dict(wire.calls) == {"commit": 2, "get": 1}
    await elsewhere.read_steps(lease)

    assert dict(wire.calls) == {"commit": 2, "get": 1, "query": 1}


async def test_a_run_that_was_taken_over_ends_with_one_commit(
    store: FirestoreStore, wire: Wire, make_run: MakeRun
) -> None:
    run = make_run()
    await started(store_on(wire), run)
    taken = await claimed(store, run)
    wire.calls.clear()

    await store.save_run(changed(taken.run, status=RunStatus.SUCCESS, due_at=None))

    assert dict(wire.calls) == {"commit": 1}


async def test_a_claim_sends_nothing_of_the_run_that_stays(
    store: FirestoreStore, wire: Wire, make_run: MakeRun
) -> None:
    run = make_run(trigger_data={"text": "x" * 10_000})
    await started(store, run)
    await claimed(store, run)

    claim, fence, *more = wire.commits[-1]

    assert claim.current_document.update_time
    assert set(claim.update_mask.field_paths) == {
        *("attempt", "attempts", "due_at", "idle_claims", "schema"),
        *("owner", "incarnation", "lease_ms", "claimed_from"),
    }
    assert fence.update.name.endswith("/steps/incarnation of first~fence~1")
    assert not more


# Lost answers


@pytest.mark.parametrize("applied", (True, False))
@pytest.mark.parametrize("error", PASSING_ERRORS, ids=lambda error: error.__name__)
async def test_a_claim_that_fails_is_looked_up_and_counts_once(
    store: FirestoreStore, wire: Wire, make_run: MakeRun, error: type[google.GoogleAPICallError], *, applied: bool
) -> None:
    run = make_run(status=RunStatus.FAILED)
    await store.save_run(run)
    wire.next_fault = faults(lost(error, applied=applied))

    taken = await claimed(store, run, reopen=True)

    assert (taken.run.attempt, taken.before) == (2, RunStatus.FAILED)
    assert taken.lease is not None
    assert (await store.get_stats("digest"))["by_status"] == {"running": 1}
    wire.calls.clear()
    await store.save_run(changed(taken.run, status=RunStatus.SUCCESS))
    assert dict(wire.calls) == {"commit": 1}


async def test_a_claim_whose_every_answer_is_lost_is_found_by_the_next_call(wire: Wire, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.CANCELLED)
    await store_on(wire).save_run(run)
    wire.next_fault = lambda: lost(google.PermissionDenied)
    with pytest.raises(StoreUnavailable):
        await claimed(store_on(wire), run, reopen=True)
    wire.next_fault = faults()

    again = await claimed(store_on(wire), run, reopen=True)

    assert (again.run.attempt, again.before) == (2, RunStatus.CANCELLED)
    assert again.lease is not None


async def test_a_claim_that_another_one_overtakes_is_not_taken_for_its_own(wire: Wire, make_run: MakeRun) -> None:
    run = make_run()
    await started(store_on(wire), run)
    slow = store_on(wire, clock=Meanwhile(lambda: taken_over(store_on(wire), run, "quick")))
    wire.next_fault = faults(lost(applied=False))

    outcome = await claimed(slow, run, "slow")

    assert outcome.lease is None
    assert outcome.run.attempt == 2


@pytest.mark.parametrize("status", (StepStatus.STARTED, StepStatus.SUCCESS))
@pytest.mark.parametrize("applied", (True, False))
@pytest.mark.parametrize("error", PASSING_ERRORS, ids=lambda error: error.__name__)
async def test_a_step_whose_commit_fails_is_looked_up_and_recorded_once(
    store: FirestoreStore,
    wire: Wire,
    make_run: MakeRun,
    error: type[google.GoogleAPICallError],
    status: StepStatus,
    *,
    applied: bool,
) -> None:
    lease = await started(store, make_run())
    step = a_step(status=status)
    wire.next_fault = faults(lost(error, applied=applied))

    assert await record(store, lease, step) == step
    assert await store.read_steps(lease) == [step]


@pytest.mark.parametrize("applied", (True, False))
async def test_a_step_whose_answer_is_lost_before_a_claim_is_refused_after_it(
    wire: Wire, make_run: MakeRun, *, applied: bool
) -> None:
    run = make_run()
    taken: list[Lease] = []

    async def claim() -> None:
        taken.append(await taken_over(store_on(wire), run))

    zombie = store_on(wire, clock=Meanwhile(claim))
    lease = await started(zombie, run)
    wire.next_fault = faults(lost(applied=applied))

    with pytest.raises(RunSuperseded) as raised:
        await record(zombie, lease, a_step())

    assert (raised.value.attempt, raised.value.stored_attempt) == (1, 2)
    assert await zombie.read_steps(taken[0]) == ([a_step()] if applied else [])


async def test_an_ending_whose_answer_is_lost_before_a_claim_is_refused_after_it(wire: Wire, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.RUNNING)
    zombie = store_on(wire, clock=Meanwhile(lambda: taken_over(store_on(wire), run)))
    await started(zombie, run)
    wire.next_fault = faults(lost(applied=False))

    with pytest.raises(RunSuperseded):
        await zombie.save_run(changed(run, status=RunStatus.FAILED))

    stored = await zombie.get_run("digest", run.id)
    assert stored is not None
    assert (stored.status, stored.attempt) == (RunStatus.RUNNING, 2)


async def test_a_step_that_the_store_refuses_for_good_is_not_tried_again(
    store: FirestoreStore, wire: Wire, make_run: MakeRun
) -> None:
    lease = await started(store, make_run(id="run-1"))
    wire.next_fault = faults(lost(google.PermissionDenied, applied=False))

    with pytest.raises(StoreUnavailable, match="firestore: recording step check of run run-1: 403 injected"):
        await record(store, lease, a_step())

    assert await record(store, lease, a_step()) == a_step()


async def test_a_predecessor_in_another_process_cannot_save_its_run_over_its_successor(
    wire: Wire, make_run: MakeRun
) -> None:
    old, new = make_run(id="same", status=RunStatus.RUNNING), make_run(id="same", status=RunStatus.RUNNING)
    zombie = store_on(wire)
    await started(zombie, old, "old")
    elsewhere = store_on(wire)
    await elsewhere.save_run(changed(old, status=RunStatus.FAILED, expires_at=LONG_AGO))
    await started(elsewhere, new, "new")

    with pytest.raises(RunSuperseded, match="newer run"):
        await zombie.save_run(changed(old, status=RunStatus.SUCCESS))

    stored = await elsewhere.get_run("digest", "same")
    assert stored is not None
    assert (stored.status, stored.started_at) == (RunStatus.RUNNING, new.started_at)


# The server's time


@pytest.mark.parametrize("year", (2001, 2999))
async def test_a_lease_lasts_by_the_time_of_the_server_whatever_the_process_thinks(
    wire: Wire, make_run: MakeRun, year: int
) -> None:
    store = FirestoreStore(connect=wire.connect, clock=ManualClock(datetime(year, 1, 1, tzinfo=UTC)))
    held, over = make_run(), make_run()
    await started(store, held, lease_duration=LEASE)
    await started(store, over, lease_duration=OVER)

    found = [await store.start_run(start_of(run, "again")) for run in (held, over)]

    assert [outcome.is_due for outcome in found] == [False, True]
    assert (await claimed(store, held)).lease is None
    assert (await claimed(store, over)).lease is not None


@pytest.mark.parametrize("year", (2001, 2999))
async def test_a_released_run_is_free_at_once_whatever_the_process_thinks_the_time_is(
    wire: Wire, make_run: MakeRun, year: int
) -> None:
    clock = ManualClock(datetime(year, 1, 1, tzinfo=UTC))
    store = FirestoreStore(connect=wire.connect, clock=clock)
    run = make_run(status=RunStatus.RUNNING)
    await started(store, run, lease_duration=LEASE)

    await store.save_run(changed(run, due_at=clock.now() - timedelta(seconds=1)))

    lease_duration = (await AsyncClient(project=wire.project).document(f"runs/digest~{run.id}").get()).get("lease_ms")
    assert lease_duration == 0
    assert (await claimed(store_on(wire), run)).lease is not None


async def test_an_attempt_that_ends_does_not_touch_its_lease(
    store: FirestoreStore, wire: Wire, make_run: MakeRun
) -> None:
    run = make_run(status=RunStatus.RUNNING)
    await started(store, run)
    await store.save_run(changed(run, status=RunStatus.SUCCESS))

    assert not {"lease_ms", "claimed_at"} & set(wire.commits[-1][0].update_mask.field_paths)


# The layout


async def test_steps_and_fences_stand_beside_each_other_and_expire(
    store: FirestoreStore, wire: Wire, make_run: MakeRun
) -> None:
    run = make_run()
    first = await started(store, run)
    await record(store, first, a_step("check[é/1]", result="[1]"))
    await record(store, first, a_step("book", StepStatus.STARTED))
    await taken_over(store, run)

    found = await wire.steps_of(run)

    ids = {
        "incarnation of first~fence~1",
        f"incarnation of first~step~{hashlib.sha256(b'book').hexdigest()[:40]}~000001~begun",
        f"incarnation of first~step~{hashlib.sha256('check[é/1]'.encode()).hexdigest()[:40]}~000001~done",
    }
    assert set(found) == ids
    assert all(snapshot.get("schema") == SCHEMA_VERSION for snapshot in found.values())
    fields = next(snapshot.to_dict() for name, snapshot in found.items() if name.endswith("~done"))
    assert (fields["key"], fields["result"], fields["owner"]) == ("check[é/1]", "[1]", "first")
    assert fields["expires_at"] == LONG_HENCE
    fence = found["incarnation of first~fence~1"].to_dict()
    assert (fence["by_attempt"], fence["owner"]) == (2, "second")


async def test_a_fence_outlives_the_longest_run(store: FirestoreStore, wire: Wire, make_run: MakeRun) -> None:
    run = make_run()
    await started(store, run)
    await taken_over(store, run)

    fence = (await wire.steps_of(run))["incarnation of first~fence~1"].to_dict()

    assert fence["expires_at"] - fence["claimed_at"] > timedelta(days=366)


async def test_a_run_that_took_an_expired_ones_place_keeps_nothing_of_its_claims(
    store: FirestoreStore, wire: Wire, make_run: MakeRun
) -> None:
    old, new = make_run(id="same"), make_run(id="same", status=RunStatus.RUNNING)
    await started(store, old, "old")
    taken = await claimed(store, old)
    await store.save_run(changed(taken.run, status=RunStatus.FAILED, expires_at=LONG_AGO))
    await started(store, new, "new")

    stored = (await AsyncClient(project=wire.project).document("runs/digest~same").get()).to_dict()

    assert stored is not None
    assert (stored["owner"], stored["incarnation"], stored["attempt"]) == ("new", "incarnation of new", 1)
    assert not {"claimed_from", "error", "expires_at"} & set(stored)


async def test_steps_of_a_newer_autopilot_are_refused(store: FirestoreStore, wire: Wire, make_run: MakeRun) -> None:
    run = make_run()
    lease = await started(store, run)
    await record(store, lease, a_step())
    (step,) = (await wire.steps_of(run)).values()
    await step.reference.update({"schema": SCHEMA_VERSION + 1})

    with pytest.raises(StoreVersionUnsupported):
        await store.read_steps(lease)
    with pytest.raises(StoreVersionUnsupported):
        await record(store, lease, a_step())
