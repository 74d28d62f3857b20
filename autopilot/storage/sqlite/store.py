"""The embedded store: one SQLite file, shared by any number of processes of one machine."""

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from autopilot.core.clock import Clock, SystemClock, to_microseconds
from autopilot.core.runs.activity import (
    ACTIVITY_KEPT,
    ActivityCounts,
    activity_changes,
    activity_of,
    bucket_start,
)
from autopilot.core.runs.cursor import RunPosition
from autopilot.core.runs.transitions import count_changes, replaces
from autopilot.core.store import BucketSize, Lease, RunChange, RunFilter, StepRecord
from autopilot.errors import CursorInvalid, RunSuperseded
from autopilot.models import WorkflowRun
from autopilot.settings import Settings
from autopilot.storage.base import BaseStore, Decide, StoredRun
from autopilot.storage.sqlite import rows
from autopilot.storage.sqlite.activity import DELETE_OLD_ACTIVITY, HAS_OLD_ACTIVITY, add_activity, read_activity
from autopilot.storage.sqlite.database import Database

T = TypeVar("T")

_EXPIRED_BATCH = 200
_EXPIRED_BATCHES = 5
_POSITION = re.compile(r"[0-9]{1,18}")


class SQLiteStore(BaseStore):
    """Run log, journal and archive in one SQLite file.

    Args:
        path: the file, made with its folders at the first use; ``":memory:"`` for a database that ends with the store.
        clock: the store's time, by which leases end: the wall clock, which every process of the machine and the time
            after a reboot have in common.
        deadline: how long a call may take, waiting for other processes' locks included, unless less was handed down.
        deadline_clock: measures deadlines; the machine's by default, since SQLite and the disk are waited for.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        clock: Clock = SystemClock(),  # noqa: B008 - it has no state
        deadline: timedelta = timedelta(seconds=10),
        deadline_clock: Clock = SystemClock(),  # noqa: B008
    ) -> None:
        super().__init__(clock)
        remove_expired = partial(_remove_expired, clock=clock)
        self._database = Database(str(path), deadline.total_seconds(), remove_expired, deadline_clock)

    async def save_run(self, run: WorkflowRun) -> None:
        row = rows.run_row(run)

        def save(connection: sqlite3.Connection) -> None:
            found = connection.execute(rows.GET_RUN, (run.workflow_id, run.id)).fetchone()
            stored = rows.run_of(found) if found else None
            if replaces(run, stored):
                _put_run(connection, rows.PUT_RUN, row, run, counted=stored)

        await self._database.write(f"saving run {run.id}", save)

    async def read_steps(self, lease: Lease) -> list[StepRecord]:
        place = (lease.workflow_id, lease.run_id, lease.incarnation)
        return await self._read(f"reading the steps of run {lease.run_id}", rows.GET_STEPS, place, rows.step_of)

    async def record_step(self, lease: Lease, step: StepRecord, *, expires_at: datetime) -> StepRecord:
        row = rows.step_row(lease, step, expires_at)

        def record(connection: sqlite3.Connection) -> StepRecord:
            _check_holder(connection, lease)
            if connection.execute(rows.PUT_STEP, row).rowcount:
                return step
            place = (lease.workflow_id, lease.run_id, lease.incarnation, step.key)
            return rows.step_of(connection.execute(rows.GET_STEP, place).fetchone())

        return await self._database.write(f"recording step {step.key} of run {lease.run_id}", record)

    async def get_last_position(self) -> str:
        return str(await self._database.read("reading the last change", _last_position))

    async def end_session(self, session: str, *, expires_at: datetime) -> None:
        row = (session, to_microseconds(expires_at))
        await self._database.write("ending a session", lambda connection: connection.execute(rows.END_SESSION, row))

    async def has_ended(self, session: str) -> bool:
        return bool(await self._read("looking for an ended session", rows.HAS_ENDED, (session,), tuple))

    async def check_connection(self) -> None:
        await self._database.read("checking the connection", _last_position)

    def close(self) -> None:
        """Close the file and end the store's thread, once the calls that are under way are done."""
        self._database.close()

    async def _change_run(
        self, doing: str, workflow_id: str, run_id: str, decide: Decide[T], known: StoredRun | None, *, creates: bool
    ) -> T:
        def change(connection: sqlite3.Connection) -> T:
            if creates:
                write = (decision := decide(None)).write
                if write is None or _put_run(connection, rows.CREATE_RUN, rows.claim_row(write), write.run):
                    return decision.outcome
            stored = self._stored_run(connection, workflow_id, run_id)
            decision = decide(stored)
            if (write := decision.write) is not None:
                counted = None if creates or stored is None else stored.run
                _put_run(connection, rows.PUT_RUN_AND_CLAIM, rows.claim_row(write), write.run, counted)
            return decision.outcome

        return await self._database.write(doing, change)

    async def _remove_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        def remove(connection: sqlite3.Connection) -> WorkflowRun | None:
            stored = self._stored_run(connection, workflow_id, run_id)
            if stored is None:
                return None
            stored.check_removable()
            connection.execute(rows.DELETE_RUN, (workflow_id, run_id))
            connection.execute(rows.DELETE_STEPS, (workflow_id, run_id))
            return stored.run

        return await self._database.write(f"removing run {run_id}", remove)

    async def _read_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        found = await self._read(f"reading run {run_id}", rows.GET_RUN, (workflow_id, run_id), rows.run_of)
        return found[0] if found else None

    async def _find_runs(
        self, doing: str, wanted: RunFilter, *, after: RunPosition | None, limit: int | None, whole: bool
    ) -> list[WorkflowRun]:
        statement, parameters = rows.find_runs_query(wanted, after=after, limit=limit, whole=whole)
        return await self._read(doing, statement, parameters, rows.run_of if whole else rows.listed_run_of)

    async def _read_counts(self, workflow_id: str) -> Mapping[str, int]:
        return dict(await self._read(f"reading statistics of {workflow_id}", rows.GET_COUNTS, (workflow_id,), tuple))

    async def _read_run_steps(self, workflow_id: str, run_id: str) -> list[StepRecord]:
        place = (workflow_id, run_id)
        return await self._read(f"reading the steps of run {run_id}", rows.GET_RUN_STEPS, place, rows.step_of)

    async def _read_activity(
        self, workflow_id: str, first: datetime, last: datetime, size: BucketSize
    ) -> list[tuple[datetime, ActivityCounts]]:
        return await self._database.read(
            f"reading the activity of {workflow_id}",
            lambda connection: read_activity(connection, workflow_id, first, last, size),
        )

    async def _read_changes(self, after: str, limit: int) -> list[RunChange]:
        if _POSITION.fullmatch(after) is None:
            raise CursorInvalid("it is not the position of a change")

        def fetch(connection: sqlite3.Connection) -> list[RunChange]:
            if int(after) > _last_position(connection):
                raise CursorInvalid("it is the position of a change in another database")
            found = connection.execute(rows.GET_CHANGES, (int(after), limit))
            return [RunChange(position=str(position), run=rows.listed_run_of(run)) for *run, position in found]

        return await self._database.read("reading changes", fetch)

    def _stored_run(self, connection: sqlite3.Connection, workflow_id: str, run_id: str) -> StoredRun | None:
        found = connection.execute(rows.GET_RUN_AND_CLAIM, (workflow_id, run_id)).fetchone()
        return None if found is None else rows.stored_run_of(found, self._clock.now())

    async def _read(
        self, doing: str, statement: str, parameters: Sequence[str | int], decode: Callable[[Sequence[Any]], T]
    ) -> list[T]:
        return await self._database.read(
            doing, lambda connection: [decode(row) for row in connection.execute(statement, parameters)]
        )


def _put_run(
    connection: sqlite3.Connection,
    statement: str,
    row: Sequence[Any],
    run: WorkflowRun,
    counted: WorkflowRun | None = None,
) -> bool:
    """Write a run, and move what it is counted as in the same transaction.

    Args:
        row: the parameters of the statement.
        counted: the run as it is counted so far; None: it is not.

    Returns:
        Whether anything was written.
    """
    if connection.execute(statement, row).rowcount == 0:
        return False
    connection.execute(rows.TAKE_POSITION)
    for status, by in count_changes(counted.status if counted else None, run.status).items():
        connection.execute(rows.ADD_TO_COUNT, (run.workflow_id, status.value, by))
    add_activity(connection, run.workflow_id, activity_changes(activity_of(counted), activity_of(run)))
    return True


def _check_holder(connection: sqlite3.Connection, lease: Lease) -> None:
    holder = connection.execute(rows.GET_HOLDER, (lease.workflow_id, lease.run_id)).fetchone()
    if holder != (lease.attempt, lease.owner, lease.incarnation):
        raise RunSuperseded(lease.run_id, lease.attempt, lease.attempt if holder is None else holder[0])


def _last_position(connection: sqlite3.Connection) -> int:
    (position,) = connection.execute(rows.GET_LAST_POSITION).fetchone()
    return int(position)


def _remove_expired(connection: sqlite3.Connection, *, clock: Clock) -> None:
    # When the database is opened, since no process of ours runs in between; and a bounded number, each batch a commit
    # of its own, so that neither the first call nor other processes wait long. The rest goes the next time.
    now = to_microseconds(clock.now())
    too_old = to_microseconds(bucket_start(clock.now() - ACTIVITY_KEPT, BucketSize.DAY)) - 1
    for has_expired, delete, until in (
        (rows.HAS_EXPIRED, rows.DELETE_EXPIRED, now),
        (rows.HAS_EXPIRED_STEPS, rows.DELETE_EXPIRED_STEPS, now),
        (rows.HAS_EXPIRED_SESSIONS, rows.DELETE_EXPIRED_SESSIONS, now),
        (HAS_OLD_ACTIVITY, DELETE_OLD_ACTIVITY, too_old),
    ):
        for _ in range(_EXPIRED_BATCHES):
            if connection.execute(has_expired, (until,)).fetchone() is None:
                break
            connection.execute(delete, (until, _EXPIRED_BATCH))


def open_store(settings: Settings) -> SQLiteStore:
    """The store as the settings describe it; see :data:`autopilot.core.run_log.STORES`."""
    return SQLiteStore(settings.sqlite_path)
