"""What every store promises of each of its methods when the database fails, or is a newer Autopilot's."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from google.cloud.firestore_v1 import AsyncClient

from autopilot.core.store import BucketSize, Lease, RunFilter, Store
from autopilot.errors import StoreUnavailable, StoreVersionUnsupported
from autopilot.models import RunStatus, TriggerType, WorkflowRun
from autopilot.storage.firestore.store import FirestoreStore
from autopilot.storage.sqlite.store import SQLiteStore
from tests.journal import LEASE, LONG_HENCE, a_step, changed, claim_of, record, start_of, started

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVER = {"since": datetime(2000, 1, 1, tzinfo=UTC), "until": datetime(3000, 1, 1, tzinfo=UTC)}


def a_run(run_id: str, status: RunStatus = RunStatus.RUNNING) -> WorkflowRun:
    return WorkflowRun(
        id=run_id,
        workflow_id="digest",
        status=status,
        trigger_type=TriggerType.HTTP,
        started_at=NOON,
        completed_at=NOON,
    )


HELD, ENDED, PAUSED = a_run("held"), a_run("ended", RunStatus.SUCCESS), a_run("paused", RunStatus.PAUSED)
FIRST = Lease(workflow_id="digest", run_id="held", attempt=1, owner="first", incarnation="incarnation of first")

SESSION = "a" * 64

CALLS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "save_run": lambda store: store.save_run(changed(HELD, status=RunStatus.FAILED)),
    "get_run": lambda store: store.get_run("digest", "held"),
    "list_runs": lambda store: store.list_runs("digest"),
    "get_stats": lambda store: store.get_stats("digest"),
    "get_latest_run": lambda store: store.get_latest_run("digest"),
    "get_paused_runs": lambda store: store.get_paused_runs(),
    "start_run": lambda store: store.start_run(start_of(HELD, "second")),
    "claim_run": lambda store: store.claim_run("digest", "held", claim_of("o", lease_duration=LEASE)),
    "read_steps": lambda store: store.read_steps(FIRST),
    "record_step": lambda store: store.record_step(FIRST, a_step(), expires_at=LONG_HENCE),
    "find_runs": lambda store: store.find_runs(RunFilter()),
    "get_run_steps": lambda store: store.get_run_steps("digest", "held"),
    "get_activity": lambda store: store.get_activity("digest", **EVER, size=BucketSize.DAY),
    "delete_run": lambda store: store.delete_run("digest", "ended"),
    "request_cancel": lambda store: store.request_cancel("digest", "held", owner="person"),
    "get_last_position": lambda store: store.get_last_position(),
    "read_changes": lambda store: store.read_changes("0"),
    "end_session": lambda store: store.end_session(SESSION, expires_at=LONG_HENCE),
    "has_ended": lambda store: store.has_ended(SESSION),
    "check_connection": lambda store: store.check_connection(),
}


def test_every_method_of_a_store_is_tried_here() -> None:
    methods = {name for name in dir(Store) if not name.startswith("_")}

    assert methods - {"close"} == set(CALLS)


@pytest.fixture(params=("sqlite", "firestore"))
def store_away(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store whose database cannot be had."""

    def refuse() -> AsyncClient:
        raise OSError("there are no credentials")

    # A folder is not a database.
    return SQLiteStore(tmp_path) if request.param == "sqlite" else FirestoreStore(connect=refuse)


@pytest.mark.parametrize("method", CALLS)
async def test_a_database_that_fails_is_an_unavailable_store(store_away: Store, method: str) -> None:
    with pytest.raises(StoreUnavailable):
        await CALLS[method](store_away)


async def fill(store: Store) -> None:
    """One of each kind of record."""
    await record(store, await started(store, HELD), a_step())
    for run in (ENDED, PAUSED):
        await store.save_run(run)
    await store.end_session(SESSION, expires_at=LONG_HENCE)
    store.close()


@pytest.fixture(params=("sqlite", pytest.param("firestore", marks=pytest.mark.emulator)))
async def newer_store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Store]:
    """A store whose every record a newer Autopilot wrote."""
    opened: Store
    if request.param == "sqlite":
        opened = SQLiteStore(tmp_path / "runs.db")
        await fill(opened)
        with closing(sqlite3.connect(tmp_path / "runs.db")) as file:
            file.execute("PRAGMA user_version = 99")
    else:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", request.getfixturevalue("firestore_emulator"))
        project = f"test-{uuid4().hex[:20]}"
        opened = FirestoreStore(project=project)
        await fill(opened)
        client = AsyncClient(project=project)
        for collection in ("runs", "steps", "counters", "activity", "sessions"):
            async for snapshot in client.collection_group(collection).stream():
                await snapshot.reference.update({"schema": 99})
    yield opened
    opened.close()


@pytest.mark.parametrize("method", [name for name in CALLS if name != "check_connection"])  # which reads no record
async def test_data_of_a_newer_autopilot_is_refused_and_left_as_it_is(newer_store: Store, method: str) -> None:
    with pytest.raises(StoreVersionUnsupported) as raised:
        await CALLS[method](newer_store)

    assert raised.value.found == 99
    with pytest.raises(StoreVersionUnsupported):
        await newer_store.get_run("digest", "ended" if method == "delete_run" else "held")
