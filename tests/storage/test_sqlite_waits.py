"""How long a call to the SQLite file waits: for its turn, for locks, for the disk; and what a cancellation leaves."""

# ruff: noqa: ASYNC240 - a test may wait for its own small files

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from autopilot import RunContext, TriggerType
from autopilot.base_workflow import engine_of
from autopilot.core.clock import SystemClock
from autopilot.core.deadline import deadline
from autopilot.core.outcome import Released
from autopilot.core.run_log import use_store
from autopilot.core.store import Store
from autopilot.errors import RunStartFailed, StoreUnavailable
from autopilot.storage.sqlite.database import Database
from autopilot.storage.sqlite.store import SQLiteStore
from autopilot.testing import ManualClock
from tests.durable.scripts import scripted
from tests.runs import MakeRun
from tests.storage.conftest import OpenStore


async def total(store: Store) -> int:
    return (await store.get_stats("digest"))["total"]


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Another connection, which holds the write lock until the end, or until its transaction is over."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


class Holding:
    """A call that holds the thread of a database until it is let go."""

    def __init__(self, database: Database) -> None:
        self._begun, self._go_on = threading.Event(), threading.Event()
        self.call = asyncio.create_task(database.read("holding the thread", self._hold))

    def _hold(self, _: sqlite3.Connection) -> bool:
        self._begun.set()
        return self._go_on.wait(30)

    async def begun(self) -> None:
        """Return when it has the thread; by then every task that was ready has made its call."""
        assert await asyncio.to_thread(self._begun.wait, 30)

    def let_go(self) -> None:
        self._go_on.set()


# Locks


async def test_a_locked_database_is_unavailable_until_the_lock_is_gone(
    path: Path, open_store: OpenStore, make_run: MakeRun, clock: ManualClock
) -> None:
    store = open_store(path)
    run = make_run()
    await store.save_run(run)
    with locked(path):
        saving = asyncio.create_task(store.save_run(make_run()))
        await asyncio.sleep(0)
        assert await store.get_run("digest", run.id) == run, "readers do not wait for writers, not even in the queue"
        assert not saving.done()
        clock.advance(timedelta(milliseconds=161))

        with pytest.raises(StoreUnavailable, match=r"runs\.db: saving run .*: it is locked by another process"):
            await saving

    await store.save_run(make_run())
    assert await total(store) == 2


async def test_writes_that_wait_for_a_lock_are_made_in_turn(path: Path, clock: ManualClock) -> None:
    with closing(SQLiteStore(path, clock=clock)) as store:
        database = store._database
        await database.read("opening", lambda _: None)
        made: list[int] = []

        def note(number: int, _: sqlite3.Connection) -> None:
            made.append(number)

        with locked(path) as other:
            writes = [asyncio.create_task(database.write("writing", partial(note, n))) for n in range(5)]
            await asyncio.sleep(0)
            await database.read("passing by", partial(note, -1))
            other.execute("ROLLBACK")
            await asyncio.gather(*writes)

    assert made == [-1, 0, 1, 2, 3, 4]


@pytest.mark.slow
async def test_calls_that_wait_their_turn_keep_their_own_deadline(path: Path, make_run: MakeRun) -> None:
    store = SQLiteStore(path, deadline=timedelta(seconds=1))
    await store.get_paused_runs()
    with closing(store), locked(path):
        async with asyncio.timeout(8):  # and not twenty deadlines one after the other, which are more
            failures = await asyncio.gather(*(store.save_run(make_run()) for _ in range(20)), return_exceptions=True)

    assert all(isinstance(failure, StoreUnavailable) for failure in failures)


@pytest.mark.parametrize("lock", ("EXCLUSIVE", "IMMEDIATE"))  # for the second, the switch to WAL fails without waiting
async def test_opening_waits_for_whoever_is_making_the_file(
    path: Path, clock: ManualClock, make_run: MakeRun, lock: str
) -> None:
    with (
        closing(SQLiteStore(path, clock=clock)) as store,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        other.execute(f"BEGIN {lock}")
        saving = asyncio.create_task(store.save_run(make_run()))
        await asyncio.wait((saving,), timeout=0.05)
        assert not saving.done()

        other.execute("ROLLBACK")
        await saving

        assert await total(store) == 1


# Deadlines


@pytest.mark.slow
async def test_a_lock_is_waited_for_no_longer_than_the_caller_has_left(path: Path, make_run: MakeRun) -> None:
    clock = SystemClock()
    with closing(SQLiteStore(path)) as store:
        await store.get_paused_runs()
        with locked(path):
            began = time.monotonic()
            with deadline(clock, clock.monotonic() + 1), pytest.raises(StoreUnavailable):
                await store.save_run(make_run())
            took = time.monotonic() - began

    assert 0.5 < took < 5, "ten seconds, its own deadline, without what was handed down"


async def test_a_call_without_time_is_not_made(path: Path, clock: ManualClock, make_run: MakeRun) -> None:
    with closing(SQLiteStore(path)) as store:
        with deadline(clock, clock.monotonic()), pytest.raises(StoreUnavailable, match="no time is left for it"):
            await store.save_run(make_run())

        assert not path.exists()


async def test_a_call_whose_turn_comes_after_its_deadline_is_not_made(database: Database, clock: ManualClock) -> None:
    made: list[sqlite3.Connection] = []
    first = Holding(database)
    late = asyncio.create_task(database.write("coming late", made.append))
    await first.begun()
    clock.advance(timedelta(milliseconds=161))
    first.let_go()

    with pytest.raises(StoreUnavailable, match="the calls before it took too long; nothing was changed"):
        await late

    assert await first.call
    assert made == []


async def test_a_call_that_the_disk_does_not_answer_is_given_up_within_its_deadline(
    database: Database, clock: ManualClock
) -> None:
    first = Holding(database)
    await first.begun()
    clock.advance(timedelta(milliseconds=201))
    first.call.cancel()  # it looks at its clock again

    with pytest.raises(asyncio.CancelledError) as cancelled:
        await first.call

    first.let_go()
    assert isinstance(cancelled.value.__cause__, StoreUnavailable)
    assert "whether it was done is unknown" in str(cancelled.value.__cause__)


@pytest.mark.slow
@pytest.mark.parametrize("locks_in", ("start", "body"))
async def test_an_invocation_ends_in_its_time_though_the_file_is_locked(path: Path, locks_in: str) -> None:
    with closing(SQLiteStore(path)) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        await store.get_paused_runs()

        async def execute(ctx: RunContext) -> int:
            if locks_in == "body":
                other.execute("BEGIN IMMEDIATE")
            return await ctx.step("count", lambda: 1)

        if locks_in == "start":
            other.execute("BEGIN IMMEDIATE")
        engine = engine_of(scripted(execute, timeout_seconds=3)())
        began = time.monotonic()
        with use_store(store):
            if locks_in == "start":
                with pytest.raises(RunStartFailed):
                    await engine.invoke(TriggerType.HTTP, {}, require_start=True)
            else:
                outcome = await engine.invoke(TriggerType.HTTP, {}, require_start=True)
                assert isinstance(outcome, Released)
                assert not outcome.persisted
        took = time.monotonic() - began

    assert took < 6, "twenty, by the store's own deadline"


# Cancellation


@pytest.mark.parametrize("cancellations", (1, 3))
async def test_a_cancelled_save_that_waits_for_a_lock_is_dropped_at_once(
    path: Path, clock: ManualClock, make_run: MakeRun, cancellations: int
) -> None:
    run = make_run()
    with closing(SQLiteStore(path, clock=clock, deadline_clock=clock)) as store:
        await store.get_paused_runs()
        with locked(path):
            saving = asyncio.create_task(store.save_run(run))
            await asyncio.sleep(0)
            await store.get_paused_runs()  # by now it has met the lock
            for _ in range(cancellations):
                saving.cancel()
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError) as cancelled:
                await saving

        await store.save_run(make_run())
        assert await store.get_run("digest", run.id) is None
    assert isinstance(cancelled.value.__cause__, StoreUnavailable)
    assert "nothing was changed" in str(cancelled.value.__cause__)


async def test_a_cancelled_call_that_has_not_begun_does_not_wait_for_the_one_before(database: Database) -> None:
    made: list[sqlite3.Connection] = []
    first = Holding(database)
    second = asyncio.create_task(database.write("waiting", made.append))
    await first.begun()
    second.cancel()
    await asyncio.wait((second,), timeout=30)

    assert second.cancelled()
    first.let_go()
    assert await first.call
    assert await database.read("looking", lambda _: list(made)) == []


async def test_a_change_that_is_cancelled_before_its_commit_is_rolled_back(database: Database) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def change(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE changed (x)")
        begun.set()
        go_on.wait(30)

    writing = asyncio.create_task(database.write("changing", change))
    assert await asyncio.to_thread(begun.wait, 30)
    writing.cancel()
    await asyncio.sleep(0)
    assert not writing.done(), "it is inside SQLite"
    go_on.set()
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await writing

    assert "given up before its commit; nothing was changed" in str(cancelled.value.__cause__)
    tables = "SELECT count(*) FROM sqlite_master WHERE name = 'changed'"
    assert await database.read("looking", lambda connection: connection.execute(tables).fetchone()) == (0,)


class Commits:
    """The commits of connections made from here on: each stops before it is made, until it may go on."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.is_slow = False

    def stop(self) -> None:
        if self.is_slow:
            self.begun.set()
            assert self.go_on.wait(30)


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> Commits:
    commits, connect = Commits(), sqlite3.connect

    class Slow(sqlite3.Connection):
        def execute(self, statement: str, *rest: Any) -> sqlite3.Cursor:
            if statement == "COMMIT":
                commits.stop()
            return super().execute(statement, *rest)

    monkeypatch.setattr(sqlite3, "connect", lambda *given, **options: connect(*given, factory=Slow, **options))
    return commits


async def test_a_commit_under_way_is_carried_through_a_cancellation(
    path: Path, open_store: OpenStore, make_run: MakeRun, commits: Commits
) -> None:
    store, run = open_store(path), make_run()
    await store.get_paused_runs()
    commits.is_slow = True
    saving = asyncio.create_task(store.save_run(run))
    assert await asyncio.to_thread(commits.begun.wait, 30)
    for _ in range(3):
        saving.cancel()
        await asyncio.sleep(0)
    assert not saving.done(), "nobody goes on while the commit may still land"
    commits.go_on.set()
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await saving

    assert cancelled.value.__cause__ is None
    assert await store.get_run("digest", run.id) == run
