"""What only Firestore can get wrong of the archive: RPCs, lost answers, the order of its times, the layout."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from google.api_core import exceptions as google
from google.cloud.firestore_v1 import AsyncClient

from autopilot.core.clock import from_microseconds
from autopilot.core.runs.activity import ACTIVITY_KEPT
from autopilot.core.store import BucketSize, RunFilter, RunStart
from autopilot.errors import RunStateConflict, RunSuperseded, StoreUnavailable
from autopilot.models import RunStatus, WorkflowRun
from autopilot.storage.firestore.store import FirestoreStore
from autopilot.testing import ManualClock
from tests.firestore_wire import ImpatientClock, Wire, faults, lost, store_on
from tests.journal import LEASE, OVER, a_step, changed, record, start_of, started, taken_over
from tests.runs import MakeRun

pytestmark = pytest.mark.emulator

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVER = {"since": datetime(2000, 1, 1, tzinfo=UTC), "until": datetime(3000, 1, 1, tzinfo=UTC)}


@pytest.fixture
def store(wire: Wire) -> FirestoreStore:
    return store_on(wire)


def ended(run: WorkflowRun, status: RunStatus = RunStatus.SUCCESS, at: datetime = NOON) -> WorkflowRun:
    return changed(run, status=status, completed_at=at, duration_ms=7, due_at=None)


async def by_status(store: FirestoreStore) -> Counter[str]:
    total: Counter[str] = Counter()
    for bucket in await store.get_activity("digest", **EVER, size=BucketSize.HOUR):
        total.update(bucket.by_status)
    return total


# RPCs


async def test_what_people_ask_takes_few_rpcs(store: FirestoreStore, wire: Wire, make_run: MakeRun) -> None:
    lease = await started(store, make_run())
    await record(store, lease, a_step())
    for ask, rpcs in (
        (lambda: store.find_runs(RunFilter(status=RunStatus.RUNNING)), {"query": 1}),
        (lambda: store.get_run_steps("digest", lease.run_id), {"get": 1, "query": 1}),
        (lambda: store.get_activity("digest", **EVER, size=BucketSize.DAY), {"query": 1}),
        (store.get_last_position, {"query": 1}),
        (lambda: store.read_changes("0~"), {"query": 1}),
        (store.check_connection, {"get": 1}),
        (lambda: store.end_session("a" * 64, expires_at=NOON), {"commit": 1}),
        (lambda: store.has_ended("a" * 64), {"get": 1}),
        (lambda: store.request_cancel("digest", lease.run_id, owner="person"), {"get": 1, "commit": 1}),
        (lambda: store.delete_run("digest", lease.run_id), {"get": 1, "query": 1, "commit": 2}),
    ):
        wire.calls.clear()
        await ask()
        assert dict(wire.calls) == rpcs


async def test_lists_and_changes_neither_read_nor_decode_payloads_and_results(
    store: FirestoreStore, wire: Wire, make_run: MakeRun
) -> None:
    run = make_run(status=RunStatus.PAUSED)
    await store.save_run(run)
    document = AsyncClient(project=wire.project).collection("runs").document(f"digest~{run.id}")
    await document.update({"payload": "{", "result": "{"})
    at_once = FirestoreStore(connect=wire.connect, settled=timedelta(0))

    assert await store.list_runs("digest") == ([run], None)
    assert await store.find_runs(RunFilter()) == ([run], None)
    assert await store.get_paused_runs() == [run]
    assert [change.run for change in await at_once.read_changes("0~")] == [run]
    await store.get_last_position()
    for query in wire.queries:
        fields = {field.field_path for field in query.select.fields}
        assert fields
        assert not fields & {"payload", "result"}
    with pytest.raises(ValueError, match="Expecting property name"):
        await store.get_run("digest", run.id)


async def test_malformed_names_and_empty_ranges_never_reach_firestore(store: FirestoreStore, wire: Wire) -> None:
    assert await store.find_runs(RunFilter(workflow_id="a/b")) == ([], None)
    assert await store.find_runs(RunFilter(since=NOON, until=NOON)) == ([], None)
    assert await store.get_run_steps("demo", "../run") == []
    assert await store.get_activity("a/b", **EVER, size=BucketSize.DAY) == []
    assert await store.delete_run("demo", "a/b") is None
    assert await store.request_cancel("a/b", "run", owner="person") is None
    assert not wire.calls


# Activity


@pytest.mark.parametrize("applied", (True, False))
async def test_activity_counts_once_when_answers_are_lost(wire: Wire, make_run: MakeRun, *, applied: bool) -> None:
    store = store_on(wire)
    run = make_run(status=RunStatus.RUNNING)
    await store.start_run(start_of(run))
    wire.next_fault = faults(lost(applied=applied))
    await store.save_run(ended(run))
    wire.next_fault = faults(lost(applied=applied))
    await store_on(wire).save_run(ended(run, RunStatus.FAILED, NOON + timedelta(hours=2)))

    assert await by_status(store) == {"failed": 1}


async def test_what_a_run_counts_as_is_known_in_other_processes(wire: Wire, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.RUNNING)
    await store_on(wire).start_run(RunStart(run=run, owner="o", incarnation="n", lease_duration=OVER, counter_shards=7))
    await store_on(wire).save_run(ended(run, RunStatus.FAILED))

    lease = await taken_over(store_on(wire), run, reopen=True)

    assert lease.attempt == 2
    assert await by_status(store_on(wire)) == {}


async def test_a_day_has_one_document_for_each_counter_and_says_when_it_expires(
    store: FirestoreStore, wire: Wire, make_run: MakeRun
) -> None:
    for _ in range(12):
        run = make_run(status=RunStatus.RUNNING)
        await store.start_run(RunStart(run=run, owner="o", incarnation="n", lease_duration=LEASE, counter_shards=3))
        await store.save_run(ended(run))
    activity = AsyncClient(project=wire.project).collection("workflows", "digest", "activity")
    documents = {snapshot.id: snapshot.to_dict() async for snapshot in activity.stream()}

    assert documents.keys() == {"20260301~0", "20260301~1", "20260301~2"}
    midnight = NOON.replace(hour=0) + timedelta(days=1)
    assert {document["expires_at"] for document in documents.values() if document} == {midnight + ACTIVITY_KEPT}
    assert await by_status(store) == {"success": 12}


@pytest.mark.parametrize(("size", "left_out"), ((BucketSize.DAY, "hours"), (BucketSize.HOUR, "total")))
async def test_a_chart_reads_a_document_for_each_day_and_of_it_what_it_shows(
    store: FirestoreStore, wire: Wire, make_run: MakeRun, size: BucketSize, left_out: str
) -> None:
    for hour in range(40):
        await store.save_run(ended(make_run(), at=NOON + timedelta(hours=hour)))
    activity = AsyncClient(project=wire.project).collection("workflows", "digest", "activity")
    documents = [snapshot.id async for snapshot in activity.stream()]
    await store.get_activity("digest", **EVER, size=size)

    assert documents == ["20260301~0", "20260302~0", "20260303~0"]
    assert left_out not in {field.field_path for field in wire.queries[-1].select.fields}


async def test_neighbouring_hours_are_left_out(store: FirestoreStore, make_run: MakeRun) -> None:
    for hour in range(-1, 3):
        await store.save_run(ended(make_run(), at=NOON + timedelta(hours=hour)))

    found = await store.get_activity("digest", since=NOON, until=NOON + timedelta(hours=2), size=BucketSize.HOUR)

    assert [bucket.start for bucket in found] == [NOON, NOON + timedelta(hours=1)]


# Cancelling and removing


@pytest.mark.parametrize("applied", (True, False))
async def test_a_cancellation_whose_answer_is_lost_counts_once(wire: Wire, make_run: MakeRun, *, applied: bool) -> None:
    store = store_on(wire)
    lease = await started(store, make_run())
    wire.next_fault = faults(lost(applied=applied))

    run = await store.request_cancel("digest", lease.run_id, owner="person")

    assert run is not None
    assert (run.status, run.attempt) == (RunStatus.CANCELLED, 2)
    assert await store.get_run("digest", lease.run_id) == run
    assert await by_status(store) == {"cancelled": 1}
    assert (await store.get_stats("digest"))["by_status"] == {"cancelled": 1}


async def test_of_two_who_cancel_one_run_one_learns_that_it_is_over(wire: Wire, make_run: MakeRun) -> None:
    lease = await started(store_on(wire), make_run())
    await store_on(wire).request_cancel("digest", lease.run_id, owner="one")

    with pytest.raises(RunStateConflict):
        await store_on(wire).request_cancel("digest", lease.run_id, owner="other")


async def test_an_attempt_is_fenced_off_in_the_commit_that_cancels_its_run(wire: Wire, make_run: MakeRun) -> None:
    run = make_run()
    lease = await started(store_on(wire), run)

    await store_on(wire).request_cancel("digest", run.id, owner="person")

    assert [write.update.name.rpartition("/")[2] for write in wire.commits[-1]][:2] == [
        f"digest~{run.id}",
        f"{lease.incarnation}~fence~1",
    ]
    with pytest.raises(RunSuperseded):
        await record(store_on(wire), lease, a_step())


@pytest.mark.parametrize("applied", (True, False))
async def test_a_removal_whose_answer_is_lost_is_reported_as_one(
    wire: Wire, make_run: MakeRun, *, applied: bool
) -> None:
    store = store_on(wire)
    run = ended(make_run())
    await store.save_run(run)
    wire.next_fault = faults(lost(applied=applied))

    assert await store.delete_run("digest", run.id) == run
    assert await store.get_run("digest", run.id) is None


async def test_a_run_that_is_reopened_while_it_is_being_removed_stays(wire: Wire, make_run: MakeRun) -> None:
    store = store_on(wire)
    run = make_run()
    await started(store, run)
    await store.save_run(ended(run, RunStatus.FAILED))
    wire.meanwhile = [lambda: taken_over(store_on(wire), run, reopen=True)]

    with pytest.raises(RunStateConflict, match="is running"):
        await store.delete_run("digest", run.id)
    assert await store.get_run("digest", run.id) is not None
    assert not wire.meanwhile


async def test_many_steps_and_fences_are_all_removed(store: FirestoreStore, wire: Wire, make_run: MakeRun) -> None:
    run = make_run()
    lease = await started(store, run)
    client = AsyncClient(project=wire.project)
    batch = client.batch()
    for number in range(401):
        batch.set(
            client.document(f"runs/digest~{run.id}/steps/{lease.incarnation}~step~{number:040}~done"), {"n": number}
        )
    await batch.commit()
    await store.request_cancel("digest", run.id, owner="person")

    await store.delete_run("digest", run.id)

    assert await wire.steps_of(run) == {}


async def test_a_removal_that_is_cut_short_leaves_no_run_that_could_be_reopened(wire: Wire, make_run: MakeRun) -> None:
    store = store_on(wire)
    run = make_run()
    lease = await started(store, run)
    await record(store, lease, a_step())
    await store.save_run(ended(run))
    wire.next_fault = faults(None, lost(google.PermissionDenied, applied=False))

    with pytest.raises(StoreUnavailable, match="removing steps"):
        await store.delete_run("digest", run.id)

    wire.next_fault = faults()
    assert await store.get_run("digest", run.id) is None
    assert len(await wire.steps_of(run)) == 1


# Changes


async def test_a_change_is_reported_when_it_is_old_enough_for_those_before_it_to_be_seen(
    wire: Wire, make_run: MakeRun
) -> None:
    now, cautious = store_on(wire), FirestoreStore(connect=wire.connect, settled=timedelta(hours=1))
    await now.save_run(make_run())
    position = await cautious.get_last_position()
    assert await cautious.read_changes("0~") == []

    await now.save_run(make_run())

    assert await cautious.read_changes(position) == []
    assert from_microseconds(int(position.partition("~")[0])) < datetime.now(UTC) - timedelta(minutes=59)
    at_once = FirestoreStore(connect=wire.connect, settled=timedelta(0))
    assert len(await at_once.read_changes(position)) == 2


async def test_changes_of_one_moment_are_all_reported_page_by_page(wire: Wire, make_run: MakeRun) -> None:
    store = FirestoreStore(connect=wire.connect, clock=ImpatientClock(), settled=timedelta(0))
    runs = [make_run() for _ in range(7)]
    for run in runs:
        await store.save_run(run)
    client = AsyncClient(project=wire.project)
    for run in runs:
        await client.document(f"runs/digest~{run.id}").update({"changed_at": NOON})
    met: list[str] = []
    position = "0~"
    while changes := await store.read_changes(position, limit=2):
        met += [change.run.id for change in changes]
        position = changes[-1].position

    assert met == [run.id for run in runs]
    assert await store.get_last_position() == position


async def test_a_change_is_dated_by_the_server(wire: Wire, make_run: MakeRun) -> None:
    store = FirestoreStore(connect=wire.connect, clock=ManualClock(datetime(2001, 1, 1, tzinfo=UTC)))
    await store.save_run(make_run())

    stored = (await AsyncClient(project=wire.project).document("runs/digest~run-0001").get()).to_dict()

    assert stored is not None
    assert stored["changed_at"] > datetime(2026, 1, 1, tzinfo=UTC)
