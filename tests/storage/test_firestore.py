"""What only Firestore can get wrong: RPCs, lost answers, clients and loops, the layout. The rest is the contract's."""

import asyncio
import gc
import os
import random
import socket
import subprocess
import sys
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from google.api_core import exceptions as google
from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore_v1 import AsyncClient

from autopilot.core.store import BucketSize, Lease, RunFilter, RunStart
from autopilot.errors import StoreUnavailable, StoreVersionUnsupported
from autopilot.models import RunStatus, TriggerType, WorkflowRun
from autopilot.storage.firestore.clients import LoopClients
from autopilot.storage.firestore.documents import SCHEMA_VERSION
from autopilot.storage.firestore.queries import STORE_QUERIES
from autopilot.storage.firestore.store import FirestoreStore
from autopilot.testing import ManualClock
from tests.firestore_wire import PASSING_ERRORS, Fault, Wire, failure, sometimes, store_on

pytestmark = pytest.mark.emulator

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(days=1)


@pytest.fixture
def store(wire: Wire) -> Iterator[FirestoreStore]:
    store = store_on(wire)
    yield store
    store.close()


def a_run(run_id: str = "run-1", status: RunStatus = RunStatus.RUNNING, **fields: Any) -> WorkflowRun:
    given = {"trigger_type": TriggerType.HTTP, "trigger_data": {"url": "x"}, "started_at": NOW} | fields
    return WorkflowRun(id=run_id, workflow_id="demo", status=status, **given)


def a_start(run: WorkflowRun, owner: str = "owner-1", counter_shards: int = 0) -> RunStart:
    return RunStart(
        run=run,
        owner=owner,
        incarnation="incarnation-1",
        lease_duration=timedelta(minutes=10),
        counter_shards=counter_shards,
    )


def ended(run: WorkflowRun, status: RunStatus = RunStatus.SUCCESS, **fields: Any) -> WorkflowRun:
    return run.model_copy(update={"status": status, "completed_at": NOW, "duration_ms": 7} | fields)


async def document_of(wire: Wire, path: str) -> dict[str, Any]:
    found = (await AsyncClient(project=wire.project).document(path).get()).to_dict()
    assert found is not None
    return found


async def recount(wire: Wire) -> Counter[str]:
    runs = AsyncClient(project=wire.project).collection("runs")
    return Counter([snapshot.get("status") async for snapshot in runs.stream()])


# RPCs


async def test_a_run_is_two_commits_and_nothing_else(store: FirestoreStore, wire: Wire) -> None:
    outcome = await store.start_run(a_start(a_run()))
    await store.save_run(ended(outcome.run))

    assert dict(wire.calls) == {"commit": 2}


async def test_hydration_is_two_reads_of_which_one_is_of_a_single_run(store: FirestoreStore, wire: Wire) -> None:
    await asyncio.gather(store.get_stats("demo"), store.get_latest_run("demo"))

    assert dict(wire.calls) == {"query": 2}
    assert sorted(query.limit or 0 for query in wire.queries) == [0, 1]


async def test_saving_the_same_run_again_sends_nothing(store: FirestoreStore, wire: Wire) -> None:
    run = ended(a_run())
    await store.save_run(run)
    wire.calls.clear()

    await store.save_run(run)

    assert not wire.calls


async def test_saving_the_same_run_again_from_another_process_only_looks(store: FirestoreStore, wire: Wire) -> None:
    run = ended(a_run(), error="x" * 10_000, result={"rows": [[1, [2]], []]})
    await store.save_run(run)
    wire.calls.clear()

    elsewhere = store_on(wire)
    await elsewhere.save_run(run)
    await elsewhere.save_run(run)

    assert dict(wire.calls) == {"get": 1}


async def test_what_a_run_was_given_is_not_sent_again_when_it_ends(store: FirestoreStore, wire: Wire) -> None:
    outcome = await store.start_run(a_start(a_run(trigger_data={"text": "x" * 10_000})))
    await store.save_run(ended(outcome.run, due_at=None))

    finish = wire.commits[-1][0]

    assert set(finish.update_mask.field_paths) == {"status", "completed_at", "duration_ms", "due_at", "schema"}
    assert await store.get_run("demo", "run-1") == ended(outcome.run, due_at=None)


async def test_a_record_that_differs_only_in_its_large_parts_is_written(store: FirestoreStore, wire: Wire) -> None:
    run = ended(a_run())
    for result in ("x" * 10_000, "y" * 10_000, None):
        await store.save_run(run.model_copy(update={"result": result}))
        saved = await store.get_run("demo", "run-1")

        assert saved is not None
        assert saved.result == result


async def test_malformed_names_never_reach_firestore(store: FirestoreStore, wire: Wire) -> None:
    assert await store.get_run("demo", "../run") is None
    assert await store.get_run("a/b", "run") is None
    assert await store.get_latest_run("A" * 1500) is None
    assert await store.list_runs("a/b") == ([], None)
    assert (await store.get_stats("ü"))["total"] == 0
    assert not wire.calls


# Commits


async def test_counters_change_only_beside_a_guarded_write_of_the_run(store: FirestoreStore, wire: Wire) -> None:
    outcome = await store.start_run(a_start(a_run()))
    await store.save_run(ended(outcome.run))
    await store_on(wire).save_run(ended(outcome.run, RunStatus.FAILED))
    await store.save_run(ended(a_run("run-2")))

    assert len(wire.commits) == 4
    for run_write, *counts in wire.commits:
        guard = run_write.current_document
        assert guard.exists is False or guard.update_time
        for counted in counts:
            changed = {transform.field_path.partition(".")[0] for transform in counted.update_transforms}
            assert changed in ({"counts", "schema"}, {"total", "hours", "schema"})
    assert [len(writes) for writes in wire.commits] == [2, 3, 3, 3]  # a run that is over has activity, too


@pytest.mark.parametrize("applied", (True, False))
@pytest.mark.parametrize("error", PASSING_ERRORS, ids=lambda error: error.__name__)
async def test_a_commit_that_fails_is_looked_up_and_counts_once(
    store: FirestoreStore, wire: Wire, error: type[google.GoogleAPICallError], *, applied: bool
) -> None:
    faults = [Fault(failure(error), applied), None, Fault(failure(error), applied)]
    wire.next_fault = lambda: faults.pop(0) if faults else None
    if applied:
        del faults[1]

    outcome = await store.start_run(a_start(a_run()))
    await store.save_run(ended(outcome.run))

    assert not faults
    assert outcome.created
    assert (await store.get_stats("demo"))["by_status"] == {"success": 1}
    assert wire.calls["commit"] == (2 if applied else 4)


async def test_a_refusal_that_stays_is_not_tried_again(store: FirestoreStore, wire: Wire) -> None:
    wire.next_fault = lambda: Fault(failure(google.PermissionDenied, "no role"), applied=False)

    with pytest.raises(StoreUnavailable, match=r"firestore: starting run run-1: .*no role"):
        await store.start_run(a_start(a_run()))

    assert dict(wire.calls) == {"commit": 1}


async def test_the_reason_of_the_last_try_is_named_when_the_deadline_is_over(wire: Wire) -> None:
    wire.next_fault = lambda: Fault(failure(google.ServiceUnavailable, "on holiday"), applied=False)

    clock = ManualClock()
    store = FirestoreStore(connect=wire.connect, clock=clock, deadline=timedelta(seconds=9), deadline_clock=clock)

    with pytest.raises(StoreUnavailable, match=r"no success within 9 s; the last try: 503 on holiday"):
        await store.save_run(a_run())

    assert len(clock.slept) > 5
    assert all(pause <= 2 for pause in clock.slept)


async def test_a_cancelled_save_leaves_the_next_one_exact(store: FirestoreStore, wire: Wire) -> None:
    outcome = await store.start_run(a_start(a_run()))
    wire.next_fault = lambda: Fault(asyncio.CancelledError(), applied=True)
    with pytest.raises(asyncio.CancelledError):
        await store.save_run(ended(outcome.run))
    wire.next_fault = lambda: None
    wire.calls.clear()

    await store.save_run(ended(outcome.run))

    assert dict(wire.calls) == {"get": 1}
    assert (await store.get_stats("demo"))["by_status"] == {"success": 1}


async def test_of_many_starts_at_once_one_creates_the_run(wire: Wire) -> None:
    outcomes = await asyncio.gather(
        *(store_on(wire).start_run(a_start(a_run(), owner=f"owner-{n}")) for n in range(20))
    )

    assert sum(outcome.created for outcome in outcomes) == 1
    assert len({outcome.run.model_dump_json() for outcome in outcomes}) == 1
    assert (await store_on(wire).get_stats("demo"))["total"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("shards", (0, 10))
async def test_twenty_writers_with_lost_answers_count_every_run_once(wire: Wire, shards: int) -> None:
    chance = random.Random(20)  # the same each time: only the order of the answers decides what fails
    wire.next_fault = sometimes(chance)
    statuses = list(RunStatus)

    async def write(writer: int) -> None:
        store = store_on(wire)
        for _ in range(12):
            run = a_run(f"run-{chance.randrange(40)}")
            if chance.random() < 0.5:
                await store.start_run(a_start(run, owner=f"owner-{writer}", counter_shards=shards))
            else:
                await store.save_run(run.model_copy(update={"status": chance.choice(statuses)}))
            if chance.random() < 0.3:
                store.close()

    async with asyncio.timeout(50):
        await asyncio.gather(*(write(writer) for writer in range(20)))

    wire.next_fault = lambda: None
    assert (await store_on(wire).get_stats("demo"))["by_status"] == await recount(wire)


async def test_spread_counters_are_read_in_one_go_without_knowing_their_number(wire: Wire) -> None:
    starter = store_on(wire)
    for n in range(12):
        outcome = await starter.start_run(a_start(a_run(f"run-{n}"), counter_shards=10))
        await store_on(wire).save_run(ended(outcome.run, RunStatus.FAILED))
    await starter.save_run(ended(a_run("unspread")))
    wire.calls.clear()

    assert (await store_on(wire).get_stats("demo"))["by_status"] == {"failed": 12, "success": 1}
    assert dict(wire.calls) == {"query": 1}
    counters = AsyncClient(project=wire.project).collection("workflows/demo/counters")
    counts = [snapshot.get("counts") async for snapshot in counters.stream()]
    assert len(counts) > 2
    assert all(count >= 0 for of_document in counts for count in of_document.values())


# The layout


async def test_a_finished_run_keeps_its_claim_and_loses_its_due_time(store: FirestoreStore, wire: Wire) -> None:
    outcome = await store.start_run(a_start(a_run()))
    running = await document_of(wire, "runs/demo~run-1")
    await store.save_run(ended(outcome.run, due_at=None))
    finished = await document_of(wire, "runs/demo~run-1")

    claim = {
        "owner": "owner-1",
        "incarnation": "incarnation-1",
        "lease_ms": 600_000,
        "counter": "0",
        "schema": SCHEMA_VERSION,
    }
    assert claim.items() <= running.items()
    assert claim.items() <= finished.items()
    assert finished["claimed_at"] == running["claimed_at"]
    assert running["due_at"] == outcome.run.due_at
    assert "due_at" not in finished


async def test_a_run_is_stored_under_names_that_queries_know(store: FirestoreStore, wire: Wire) -> None:
    await store.save_run(ended(a_run(), result=[[1], 2**70]))

    stored = await document_of(wire, "runs/demo~run-1")

    assert (stored["workflow"], stored["run"], stored["status"]) == ("demo", "run-1", "success")
    assert (stored["payload"], stored["result"]) == ('{"url":"x"}', "[[1],1180591620717411303424]")
    assert stored["started_at"] == NOW


async def test_an_expired_run_gives_way_by_the_time_of_the_server_and_stays_counted(wire: Wire) -> None:
    past, future = datetime(2001, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC)
    store = FirestoreStore(connect=wire.connect, clock=ManualClock(past - timedelta(days=365)))
    for run_id, expires_at in (("gone", past), ("kept", future)):
        await store.save_run(ended(a_run(run_id), error="old", expires_at=expires_at))

    again = {run_id: await store.start_run(a_start(a_run(run_id), "owner-2")) for run_id in ("gone", "kept")}

    assert {run_id: outcome.created for run_id, outcome in again.items()} == {"gone": True, "kept": False}
    assert await store.get_run("demo", "gone") == again["gone"].run
    assert (await store.get_stats("demo"))["by_status"] == {"success": 2, "running": 1}


@pytest.mark.parametrize("path", ("runs/demo~run-1", "workflows/demo/counters/0", "workflows/demo/activity/20260301~0"))
async def test_data_of_a_newer_autopilot_is_refused(store: FirestoreStore, wire: Wire, path: str) -> None:
    await store.save_run(ended(a_run()))
    await AsyncClient(project=wire.project).document(path).update({"schema": SCHEMA_VERSION + 1})

    with pytest.raises(StoreVersionUnsupported, match=f"version {SCHEMA_VERSION + 1}.*up to {SCHEMA_VERSION}"):
        await asyncio.gather(
            store_on(wire).save_run(ended(a_run(), RunStatus.FAILED)),
            store_on(wire).get_stats("demo"),
            store_on(wire).get_activity("demo", since=NOW, until=LATER, size=BucketSize.HOUR),
        )


async def test_counting_never_takes_a_newer_schema_back(store: FirestoreStore, wire: Wire) -> None:
    await store.save_run(ended(a_run()))
    counter = AsyncClient(project=wire.project).document("workflows/demo/counters/0")
    await counter.update({"schema": SCHEMA_VERSION + 1})

    await store.save_run(ended(a_run("run-2")))

    assert (await document_of(wire, "workflows/demo/counters/0"))["schema"] == SCHEMA_VERSION + 1


async def test_pages_meet_every_run_of_one_microsecond_once(store: FirestoreStore) -> None:
    starts = [NOW + timedelta(microseconds=n % 3) for n in range(14)]
    runs = [ended(a_run(f"run-{n}", started_at=at)) for n, at in enumerate(starts)]
    await asyncio.gather(*map(store.save_run, runs))

    met, cursor = await store.list_runs("demo", limit=3)
    while cursor:
        page, cursor = await store.list_runs("demo", limit=3, start_after=cursor)
        met += page

    newest_first = sorted(runs, key=lambda run: (run.started_at, run.id), reverse=True)
    assert [run.id for run in met] == [run.id for run in newest_first]


async def test_every_query_that_is_sent_is_one_that_indexes_are_derived_from(store: FirestoreStore, wire: Wire) -> None:
    for n in range(3):
        await store.save_run(a_run(f"run-{n}", RunStatus.PAUSED))
    for workflow, status, trigger, since, until in product(
        (None, "demo"), (None, RunStatus.PAUSED), (None, TriggerType.HTTP), (None, NOW), (None, LATER)
    ):
        wanted = RunFilter(workflow_id=workflow, status=status, trigger_type=trigger, since=since, until=until)
        _, cursor = await store.find_runs(wanted, limit=1)
        await store.find_runs(wanted, limit=1, start_after=cursor)
    await store.get_latest_run("demo")
    await store.get_paused_runs()
    await store.read_steps(Lease(workflow_id="demo", run_id="run-1", attempt=2, owner="o", incarnation="n"))
    await store.read_changes(await store.get_last_position())
    await store.get_activity("demo", since=NOW, until=LATER, size=BucketSize.DAY)

    assert {shape_of(query) for query in wire.queries} == {
        (query.collection, query.equal, query.order) for query in STORE_QUERIES
    }


def shape_of(sent: Any) -> tuple[str, tuple[str, ...], tuple[tuple[str, str], ...]]:
    filters = sent.where.composite_filter.filters or [sent.where] * ("where" in sent)
    equal = [each.field_filter.field.field_path for each in filters if each.field_filter.op.name == "EQUAL"]
    order = tuple((order.field.field_path, order.direction.name) for order in sent.order_by)
    ranges = {each.field_filter.field.field_path for each in filters} - {*equal}
    assert ranges <= {order[0][0]}, "a range is read from the index of the order only if it is of the same field"
    return sent.from_[0].collection_id, tuple(equal), order


# Clients, loops, processes


@pytest.mark.slow
@pytest.mark.parametrize("listens", (False, True), ids=("dead", "silent"))
async def test_a_server_that_does_not_answer_is_unavailable_within_the_deadline(
    monkeypatch: pytest.MonkeyPatch, *, listens: bool
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", f"127.0.0.1:{server.getsockname()[1]}")
        store = FirestoreStore(project="nobody", deadline=timedelta(seconds=0.3))
        begun = time.monotonic()

        for call in (store.save_run(a_run()), store.get_stats("demo"), store.start_run(a_start(a_run()))):
            with pytest.raises(StoreUnavailable, match=r"within 0\.3 s"):
                await call

        assert time.monotonic() - begun < 3


async def test_credentials_that_cannot_be_had_make_the_store_unavailable() -> None:
    def connect() -> AsyncClient:
        raise OSError("Project was not passed and could not be determined from the environment.")

    with pytest.raises(StoreUnavailable, match="Project was not passed"):
        await FirestoreStore(connect=connect).get_stats("demo")


def test_one_store_serves_one_event_loop_after_the_other(store: FirestoreStore) -> None:
    for n in range(3):
        asyncio.run(store.save_run(ended(a_run(f"run-{n}"))))

    assert asyncio.run(store.get_stats("demo"))["total"] == 3


def test_the_clients_of_event_loops_that_have_ended_are_dropped() -> None:
    clients = LoopClients(lambda: AsyncClient(project="p", credentials=AnonymousCredentials()))  # type: ignore[no-untyped-call]

    async def client() -> "weakref.ref[AsyncClient]":
        return weakref.ref(clients.current())

    earlier, latest = [asyncio.run(client()) for _ in range(2)]
    gc.collect()

    assert earlier() is None
    assert latest() is not None


async def test_a_closed_store_opens_again(store: FirestoreStore, wire: Wire) -> None:
    await store.save_run(ended(a_run()))
    store.close()

    assert await store.get_run("demo", "run-1") == ended(a_run())
    assert wire.connections == 2


FORK = """
import asyncio, os, sys
from datetime import timedelta
from autopilot.errors import StoreUnavailable
from autopilot.storage.firestore.store import FirestoreStore

store = FirestoreStore(project=sys.argv[1], deadline=timedelta(seconds=10))
if sys.argv[2] == "connected":
    asyncio.run(store.get_stats("demo"))
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
try:
    print(asyncio.run(store.get_stats("demo"))["total"], flush=True)
except StoreUnavailable as error:
    print(error, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize(
    ("parent", "said"),
    (("constructed", "0\n"), ("connected", "firestore: reading statistics of demo: process")),
)
def test_a_store_that_was_made_before_a_fork_works_and_one_that_was_connected_says_so(
    wire: Wire, parent: str, said: str
) -> None:
    printed = run_python(FORK, wire.project, parent)

    assert printed.startswith(said)


@pytest.mark.parametrize(
    "imported", ("import autopilot.storage", "from autopilot.core.run_log import *; get_run_log_service()")
)
def test_whoever_does_not_use_firestore_does_not_pay_for_its_import(imported: str) -> None:
    driver = ("google.cloud.", "google.api_core", "google.auth", "grpc")  # google.cloud itself is there at every start

    printed = run_python(f"{imported}\nimport sys; print([name for name in sys.modules if name.startswith({driver})])")

    assert printed == "[]\n"


def run_python(code: str, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUTOPILOT_")}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env=environment,
        check=True,
    )
    return done.stdout
