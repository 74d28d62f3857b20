"""What is SQLite's own: its file, its locks, its thread. What every store promises is in tests/contract."""

# ruff: noqa: ASYNC240 - a test may wait for its own small files

import asyncio
import gc
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from autopilot.core.clock import to_microseconds
from autopilot.core.runs.activity import ACTIVITY_KEPT
from autopilot.core.runs.cursor import RunPosition
from autopilot.core.store import BucketSize, Lease, RunFilter, RunStart, StartOutcome, Store
from autopilot.errors import CursorInvalid, StoreUnavailable, StoreVersionUnsupported
from autopilot.models import RunStatus, TriggerType
from autopilot.storage.sqlite import rows, schema
from autopilot.storage.sqlite.activity import (
    ADD_TO_ACTIVITY,
    DELETE_OLD_ACTIVITY,
    GET_ACTIVITY,
    GET_DURATIONS,
    HAS_OLD_ACTIVITY,
)
from autopilot.storage.sqlite.database import Database
from autopilot.storage.sqlite.schema import SCHEMA_VERSION
from autopilot.storage.sqlite.store import SQLiteStore
from autopilot.testing import ManualClock
from tests.journal import LONG_HENCE, OVER, a_step, changed, claimed, start_of
from tests.runs import MakeRun
from tests.storage.conftest import OpenStore

EVER = {"since": datetime(2000, 1, 1, tzinfo=UTC), "until": datetime(3000, 1, 1, tzinfo=UTC)}


async def total(store: Store) -> int:
    return (await store.get_stats("digest"))["total"]


def test_one_store_serves_several_threads_and_event_loops(path: Path, make_run: MakeRun) -> None:
    runs = [make_run() for _ in range(40)]
    with closing(SQLiteStore(path)) as store:

        async def save_tenth(number: int) -> None:
            await asyncio.gather(*(store.save_run(run) for run in runs[number * 10 : number * 10 + 10]))

        threads = [threading.Thread(target=asyncio.run, args=(save_tenth(number),)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert asyncio.run(total(store)) == 40


def test_one_store_serves_event_loops_one_after_the_other(path: Path, make_run: MakeRun) -> None:
    with closing(SQLiteStore(path)) as store:
        for _ in range(3):
            asyncio.run(store.save_run(make_run()))

        assert asyncio.run(total(store)) == 3


async def test_nothing_is_made_before_the_first_use(path: Path, open_store: OpenStore) -> None:
    before = set(threading.enumerate())

    store = open_store(path)

    assert not path.exists()
    assert set(threading.enumerate()) <= before
    assert await store.get_latest_run("digest") is None
    assert path.exists()


async def test_commits_are_on_the_disk_when_they_are_acknowledged(database: Database) -> None:
    def pragma(name: str) -> Callable[[sqlite3.Connection], object]:
        return lambda connection: connection.execute(f"PRAGMA {name}").fetchone()[0]

    assert await database.read("looking", pragma("journal_mode")) == "wal"
    assert await database.read("looking", pragma("synchronous")) == 2  # FULL


async def test_a_closed_store_opens_again(path: Path, open_store: OpenStore, make_run: MakeRun) -> None:
    store = open_store(path)
    await store.save_run(make_run())
    store.close()
    store.close()

    await store.save_run(make_run())

    assert await total(store) == 2


async def test_closing_leaves_one_file_and_no_thread(path: Path, open_store: OpenStore, make_run: MakeRun) -> None:
    before = set(threading.enumerate())
    store = open_store(path)
    await store.save_run(make_run())
    (thread,) = set(threading.enumerate()) - before

    store.close()

    assert not thread.is_alive()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


async def test_a_store_that_is_dropped_ends_its_thread(path: Path, make_run: MakeRun) -> None:
    before = set(threading.enumerate())
    store = SQLiteStore(path)
    await store.save_run(make_run())
    (thread,) = set(threading.enumerate()) - before

    del store
    gc.collect()

    assert not thread.is_alive()


async def test_after_an_error_of_the_database_the_next_call_has_a_new_connection(database: Database) -> None:
    await database.read("marking the connection", lambda connection: connection.execute("CREATE TEMP TABLE mark (x)"))

    with pytest.raises(StoreUnavailable, match="no such table: nowhere"):
        await database.read("failing", lambda connection: connection.execute("SELECT * FROM nowhere"))

    with pytest.raises(StoreUnavailable, match="no such table: mark"):
        await database.read("looking", lambda connection: connection.execute("SELECT * FROM mark"))


async def test_a_newer_database_is_refused_and_both_versions_are_said(path: Path, open_store: OpenStore) -> None:
    store = open_store(path)
    await store.get_paused_runs()
    store.close()
    with closing(sqlite3.connect(path)) as newer:
        newer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()

    with pytest.raises(StoreVersionUnsupported) as raised:
        await store.get_paused_runs()

    assert (raised.value.found, raised.value.supported) == (SCHEMA_VERSION + 1, SCHEMA_VERSION)
    store.close()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    ("CREATE TABLE contacts (name TEXT)", "PRAGMA user_version = 1", "PRAGMA application_id = 77"),
)
async def test_the_database_of_another_application_is_refused_and_not_touched(
    path: Path, open_store: OpenStore, make_run: MakeRun, statement: str
) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute(statement)
    before = path.read_bytes()

    with pytest.raises(StoreUnavailable, match=r"runs\.db.*another application"):
        await open_store(path).save_run(make_run())

    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


async def test_a_file_that_is_no_database_is_refused_and_not_touched(
    path: Path, open_store: OpenStore, make_run: MakeRun
) -> None:
    path.write_bytes(b"Dear diary, " * 1000)

    with pytest.raises(StoreUnavailable, match="it is not an SQLite database"):
        await open_store(path).save_run(make_run())

    assert path.read_bytes() == b"Dear diary, " * 1000


async def test_a_damaged_database_is_unavailable_and_mended_by_its_repair(
    path: Path, open_store: OpenStore, make_run: MakeRun
) -> None:
    store = open_store(path)
    run = make_run()
    await store.save_run(run)
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))

    with pytest.raises(StoreUnavailable, match="it is damaged"):
        await store.get_run("digest", run.id)

    path.write_bytes(whole)
    assert await store.get_run("digest", run.id) == run


async def test_a_path_that_is_a_directory_is_refused(tmp_path: Path, open_store: OpenStore) -> None:
    with pytest.raises(StoreUnavailable, match="Is a directory"):
        await open_store(tmp_path).get_paused_runs()


async def test_a_folder_that_is_a_file_is_refused(path: Path, open_store: OpenStore) -> None:
    path.write_text("a file")

    with pytest.raises(StoreUnavailable, match=r"runs\.db"):
        await open_store(path / "folder" / "runs.db").get_paused_runs()


async def test_a_run_expires_at_the_microsecond_of_the_stores_clock(
    path: Path, open_store: OpenStore, make_run: MakeRun, clock: ManualClock
) -> None:
    store = open_store(path)
    old = make_run(id="same", expires_at=clock.now() + timedelta(days=1))
    await store.save_run(old)
    start = RunStart(run=make_run(id="same"), owner="me", incarnation="n", lease_duration=timedelta(minutes=1))
    clock.advance(timedelta(days=1) - timedelta(microseconds=1))
    assert await store.start_run(start) == StartOutcome(run=old, created=False)

    clock.advance(timedelta(microseconds=1))

    assert await store.start_run(start) == StartOutcome(run=start.run, created=True)


async def test_opening_removes_finished_runs_that_have_expired(
    path: Path, open_store: OpenStore, make_run: MakeRun, clock: ManualClock
) -> None:
    store = open_store(path)
    expired = make_run(expires_at=clock.now() + timedelta(days=1))
    unfinished = make_run(expires_at=clock.now() + timedelta(days=1), status=RunStatus.PAUSED)
    kept = make_run(expires_at=clock.now() + timedelta(days=3))
    for run in (expired, unfinished, kept):
        await store.save_run(run)
    clock.advance(timedelta(days=2))
    assert await store.get_run("digest", expired.id) == expired

    store.close()

    assert await store.list_runs("digest") == ([kept, unfinished], None)
    assert await total(store) == 3, "statistics are of a lifetime"


async def test_opening_removes_no_more_than_a_bounded_number(
    path: Path, open_store: OpenStore, make_run: MakeRun
) -> None:
    store = open_store(path)
    await store.save_run(make_run(expires_at=datetime(2001, 1, 1, tzinfo=UTC)))
    store.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(runs)")]
        copied = ", ".join("'copy-' || value" if column == "id" else column for column in columns)
        series = "WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 1499)"
        connection.execute(f"{series} INSERT INTO runs SELECT {copied} FROM runs, n")

    counts = []
    for _ in range(2):
        await store.get_paused_runs()
        with closing(sqlite3.connect(path)) as connection:
            counts += connection.execute("SELECT count(*) FROM runs").fetchone()
        store.close()

    assert counts == [500, 0]


def find_runs_queries() -> list[str]:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    filters = [
        RunFilter(workflow_id=workflow, status=status, trigger_type=trigger, since=since, until=until)
        for workflow, status, trigger, since, until in product(
            (None, "digest"), (None, RunStatus.FAILED), (None, TriggerType.HTTP), (None, at), (None, at)
        )
    ]
    return [
        rows.find_runs_query(wanted, after=after, limit=10)[0]
        for wanted, after in product(filters, (None, RunPosition(at, "digest", "run-1")))
    ]


@pytest.fixture
def empty_file() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        schema.migrate(connection, "a new file")
        yield connection


def test_every_list_of_runs_is_entered_at_its_place_in_an_index_and_read_from_there(
    empty_file: sqlite3.Connection,
) -> None:
    queries = find_runs_queries()

    plans = explain(empty_file, queries)

    for statement in queries:
        (plan,) = plans[statement]
        assert "USING INDEX" in plan, f"{statement}: {plan}"
        where = statement.partition(" WHERE ")[2].partition(" ORDER BY ")[0]
        compared = [term.partition(" ")[0].strip("(,") for term in where.split(" AND ")] if where else []
        assert all(f"{column}=?" in plan for column in compared if column != "started_at"), f"{statement}: {plan}"
        bounds = sum(column == "started_at" for column in compared)
        assert len(re.findall("[<>]", plan)) == bounds, f"{statement}: {plan}"


def test_every_other_statement_that_reads_is_served_by_an_index(empty_file: sqlite3.Connection) -> None:
    statements = [
        rows.GET_RUN,
        rows.GET_COUNTS,
        rows.GET_CHANGES,
        rows.HAS_EXPIRED,
        rows.HAS_EXPIRED_STEPS,
        rows.DELETE_RUN,
        rows.DELETE_STEPS,
        GET_DURATIONS,
        *ADD_TO_ACTIVITY.values(),
        HAS_OLD_ACTIVITY,
        DELETE_OLD_ACTIVITY,
    ]

    plans = explain(empty_file, [*statements, GET_ACTIVITY])
    assert "(workflow_id=? AND size=? AND start>? AND start<?)" in plans[GET_ACTIVITY][0]

    for statement, plan in plans.items():
        assert all("INDEX" in step or "PRIMARY KEY" in step or "LIST SUBQUERY" in step for step in plan), (
            f"{statement}: {plan}"
        )
        assert not any("TEMP B-TREE" in step for step in plan), f"{statement}: {plan}"


def explain(database: sqlite3.Connection, statements: list[str]) -> dict[str, list[str]]:
    """The steps of the plan of each statement."""
    return {
        statement: [
            step[3] for step in database.execute(f"EXPLAIN QUERY PLAN {statement}", (None,) * statement.count("?"))
        ]
        for statement in statements
    }


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that connections made from here on have executed, but for the setting of their patience."""
    statements: list[str] = []
    connect = sqlite3.connect

    def watched(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(lambda text: None if "busy_timeout" in text else statements.append(text))
        return connection

    monkeypatch.setattr(sqlite3, "connect", watched)
    return statements


async def test_every_call_takes_few_statements(
    path: Path, open_store: OpenStore, make_run: MakeRun, executed: list[str]
) -> None:
    run = make_run(status=RunStatus.RUNNING)
    start = start_of(run, lease_duration=OVER)
    store = open_store(path)
    await store.check_connection()
    ended = changed(run, status=RunStatus.FAILED, completed_at=run.started_at, attempt=2)
    lease = Lease(workflow_id="digest", run_id=run.id, attempt=2, owner="second", incarnation=start.incarnation)
    for call, statements in (
        (lambda: store.start_run(start), 5),
        (lambda: store.start_run(start), 4),
        (lambda: claimed(store, run), 5),
        (lambda: store.record_step(lease, a_step(), expires_at=LONG_HENCE), 4),
        (lambda: store.read_steps(lease), 1),
        (lambda: store.save_run(ended), 13),
        (lambda: store.save_run(ended), 3),
        (lambda: store.get_run("digest", run.id), 1),
        (lambda: store.get_stats("digest"), 1),
        (lambda: store.get_latest_run("digest"), 1),
        (store.get_paused_runs, 1),
        (lambda: store.find_runs(RunFilter()), 1),
        (lambda: store.get_run_steps("digest", run.id), 1),
        (lambda: store.get_activity("digest", **EVER, size=BucketSize.DAY), 1),
        (lambda: store.read_changes("0"), 2),
        (lambda: store.end_session("a" * 64, expires_at=LONG_HENCE), 3),
        (lambda: store.has_ended("a" * 64), 1),
        (lambda: claimed(store, run, "retry", reopen=True, lease_duration=OVER), 11),
        (lambda: store.request_cancel("digest", run.id, owner="person"), 11),
        (lambda: store.delete_run("digest", run.id), 5),
    ):
        executed.clear()
        await call()
        assert len(executed) == statements, executed


async def test_lists_and_changes_neither_read_nor_decode_payloads_and_results(
    path: Path, open_store: OpenStore, make_run: MakeRun, executed: list[str]
) -> None:
    run = make_run(status=RunStatus.PAUSED)
    store = open_store(path)
    await store.save_run(run)
    with closing(sqlite3.connect(path, isolation_level=None)) as broken:
        broken.execute("UPDATE runs SET trigger_data = '{', result = '{'")
    executed.clear()

    assert await store.list_runs("digest") == ([run], None)
    assert await store.find_runs(RunFilter()) == ([run], None)
    assert await store.get_paused_runs() == [run]
    assert [change.run for change in await store.read_changes("0")] == [run]
    assert [text for text in executed if "trigger_data" in text or "result" in text] == []
    with pytest.raises(ValueError, match="Expecting property name"):
        await store.get_run("digest", run.id)


def modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())}


async def test_a_new_file_is_for_its_owner_alone(tmp_path: Path, open_store: OpenStore, make_run: MakeRun) -> None:
    before = os.umask(0)
    try:
        store = open_store(tmp_path / "kept" / "runs.db")
        await store.save_run(make_run())
    finally:
        os.umask(before)

    assert modes(tmp_path / "kept") == {"kept": 0o700, "runs.db": 0o600, "runs.db-wal": 0o600, "runs.db-shm": 0o600}


async def test_what_others_could_read_in_our_own_folder_is_closed_to_them_and_elsewhere_left_alone(
    tmp_path: Path, open_store: OpenStore, make_run: MakeRun
) -> None:
    for folder in (tmp_path / ".autopilot", tmp_path / "shared"):
        folder.mkdir()
        store = open_store(folder / "runs.db")
        await store.save_run(make_run())
        for path in (*folder.iterdir(), folder):
            path.chmod(0o777 if path is folder else 0o666)
        await open_store(folder / "runs.db").save_run(make_run())

    names = ("runs.db", "runs.db-wal", "runs.db-shm")
    assert modes(tmp_path / ".autopilot") == {".autopilot": 0o700} | dict.fromkeys(names, 0o600)
    assert modes(tmp_path / "shared") == {"shared": 0o777} | dict.fromkeys(names, 0o666)


async def test_opening_removes_activity_that_is_too_old_to_be_kept(
    path: Path, open_store: OpenStore, make_run: MakeRun, clock: ManualClock
) -> None:
    store = open_store(path)
    await store.save_run(make_run())
    clock.advance(timedelta(days=1))
    await store.save_run(make_run())
    store.close()
    clock.advance(ACTIVITY_KEPT - timedelta(hours=1))

    store = open_store(path)
    (hour,) = await store.get_activity("digest", **EVER, size=BucketSize.HOUR)
    (day,) = await store.get_activity("digest", **EVER, size=BucketSize.DAY)

    assert (hour.start, day.start) == (datetime(2026, 3, 2, 12, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC))


async def test_activity_of_the_third_version_is_summed_to_hours_and_days(
    path: Path, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour = to_microseconds(datetime(2026, 3, 1, 12, tzinfo=UTC))
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        monkeypatch.setattr(schema, "SCHEMA_VERSION", 3)
        schema.migrate(old, "the old file")
        monkeypatch.undo()
        old.executemany(
            "INSERT INTO activity VALUES ('digest', ?, ?, ?, ?)",
            [
                (hour, "success", 48, 2),
                (hour, "failed", 48, 1),
                (hour + 3_600_000_000, "success", 1024, 1),
                (hour, "skipped", -1, 3),
            ],
        )

    store = open_store(path)
    hours = await store.get_activity("digest", **EVER, size=BucketSize.HOUR)
    days = await store.get_activity("digest", **EVER, size=BucketSize.DAY)

    assert [(bucket.start.hour, bucket.by_status, bucket.duration_ms["p50"]) for bucket in hours] == [
        (12, {"success": 2, "failed": 1, "skipped": 3}, 49),
        (13, {"success": 1}, 1087),
    ]
    assert [(bucket.start.hour, bucket.by_status, bucket.duration_ms) for bucket in days] == [
        (0, {"success": 3, "failed": 1, "skipped": 3}, {"p50": 49, "p95": 1087, "max": 1087})
    ]


async def test_a_file_of_an_earlier_version_is_brought_up_to_date_and_keeps_its_runs(
    path: Path, open_store: OpenStore, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(status=RunStatus.FAILED)
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        monkeypatch.setattr(schema, "SCHEMA_VERSION", 2)
        schema.migrate(old, "the old file")
        monkeypatch.undo()
        values = rows.run_row(run)
        columns = rows.PUT_RUN.partition("(")[2].partition(", changed)")[0].split(", ")
        known = {row[1] for row in old.execute("PRAGMA table_info(runs)")}
        kept = {column: value for column, value in zip(columns, values, strict=True) if column in known}
        marks = ", ".join("?" for _ in kept)
        old.execute(f"INSERT INTO runs ({', '.join(kept)}) VALUES ({marks})", (*kept.values(),))
        old.execute("INSERT INTO run_counts VALUES ('digest', 'failed', 1)")
    store = open_store(path)
    position = await store.get_last_position()

    assert await store.find_runs(RunFilter(status=RunStatus.FAILED)) == ([run], None)
    assert await store.read_changes(position) == []
    await store.save_run(run.model_copy(update={"status": RunStatus.RUNNING, "attempt": 2}))
    assert await store.get_activity("digest", **EVER, size=BucketSize.DAY) == []
    assert [change.run.id for change in await store.read_changes(position)] == [run.id]


async def test_a_position_of_another_database_is_refused(
    path: Path, tmp_path: Path, open_store: OpenStore, make_run: MakeRun
) -> None:
    store, other = open_store(path), open_store(tmp_path / "other.db")
    for _ in range(3):
        await store.save_run(make_run())
    await other.save_run(make_run())

    with pytest.raises(CursorInvalid, match="another database"):
        await other.read_changes(await store.get_last_position())
