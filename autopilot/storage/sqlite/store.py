"""The embedded store: one SQLite file, shared by any number of processes of one machine."""

import sqlite3
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from autopilot.core.clock import Clock, SystemClock, to_microseconds
from autopilot.core.runs.activity import ACTIVITY_KEPT, bucket_start
from autopilot.core.runs.transitions import claimed, is_due, may_claim, replaces, stats_of
from autopilot.core.store import BucketSize, ClaimOutcome, Lease, RunFilter, RunStart, StartOutcome, StepRecord
from autopilot.errors import RunSuperseded
from autopilot.models import RunStats, RunStatus, WorkflowRun, is_run_id, is_workflow_name
from autopilot.settings import Settings
from autopilot.storage.sqlite import rows
from autopilot.storage.sqlite.activity import DELETE_OLD_ACTIVITY, HAS_OLD_ACTIVITY
from autopilot.storage.sqlite.archive import SQLiteArchive
from autopilot.storage.sqlite.changes import put_run
from autopilot.storage.sqlite.connection import Database

_EXPIRED_BATCH = 200
_EXPIRED_BATCHES = 5


class SQLiteStore(SQLiteArchive):
    """Run log, journal and archive in one SQLite file.

    Args:
        path: the file, made with its folders at the first use; ``":memory:"`` for a database that ends with the store.
        clock: the store's time.
        deadline: how long a call may take, waiting for other processes' locks included.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        clock: Clock = SystemClock(),  # noqa: B008 - it has no state
        deadline: timedelta = timedelta(seconds=10),
    ) -> None:
        super().__init__(Database(str(path), deadline.total_seconds(), partial(_remove_expired, clock=clock)), clock)

    async def save_run(self, run: WorkflowRun) -> None:
        row = rows.run_row(run)

        def save(connection: sqlite3.Connection) -> None:
            found = connection.execute(rows.GET_RUN, (run.workflow_id, run.id)).fetchone()
            stored = rows.run_of(found) if found else None
            if replaces(run, stored):
                put_run(connection, rows.PUT_RUN, row, run=run, before=stored)

        await self._database.write(f"saving run {run.id}", save)

    async def start_run(self, start: RunStart) -> StartOutcome:
        now = self._clock.now()
        run = start.run
        if run.status is RunStatus.RUNNING:
            run = run.model_copy(update={"due_at": now + start.lease_duration})
        row = (*rows.run_row(run), start.owner, start.incarnation, start.lease_duration // timedelta(microseconds=1))

        def begin(connection: sqlite3.Connection) -> StartOutcome:
            if not put_run(connection, rows.CREATE_RUN, row, run=run, before=None):
                *found, owner, _, _ = connection.execute(rows.GET_RUN_AND_CLAIM, (run.workflow_id, run.id)).fetchone()
                stored = rows.run_of(found)
                if owner == start.owner:
                    return StartOutcome(run=stored, created=True)
                if not _is_expired(stored, now):
                    return StartOutcome(run=stored, created=False, is_due=is_due(stored, now))
                put_run(connection, rows.PUT_RUN_AND_CLAIM, row, run=run, before=None)
            return StartOutcome(run=run, created=True)

        return await self._database.write(f"starting run {run.id}", begin)

    async def claim_run(
        self,
        workflow_id: str,
        run_id: str,
        *,
        owner: str,
        incarnation: str,
        lease_duration: timedelta,
        reopen: bool = False,
        version: object = None,
        revision: str | None = None,
    ) -> ClaimOutcome | None:
        if not (is_workflow_name(workflow_id) and is_run_id(run_id)):
            return None
        now = self._clock.now()

        def claim(connection: sqlite3.Connection) -> ClaimOutcome | None:
            found = connection.execute(rows.GET_RUN_AND_CLAIM, (workflow_id, run_id)).fetchone()
            if found is None:
                return None
            *columns, stored_owner, stored_nonce, _ = found
            stored = rows.run_of(columns)
            if _is_expired(stored, now):
                return None
            lease = Lease(
                workflow_id=workflow_id,
                run_id=run_id,
                attempt=stored.attempt,
                owner=owner,
                incarnation=stored_nonce or incarnation,
            )
            if stored_owner == owner:  # the same claim, once more
                return ClaimOutcome(run=stored, before=stored.status, lease=lease)
            if not may_claim(stored, due=is_due(stored, now), reopen=reopen):
                return ClaimOutcome(run=stored, before=stored.status, lease=None)
            run = claimed(stored, now=now, due_at=now + lease_duration, revision=revision)
            row = (*rows.run_row(run), owner, lease.incarnation, lease_duration // timedelta(microseconds=1))
            put_run(connection, rows.PUT_RUN_AND_CLAIM, row, run=run, before=stored)
            return ClaimOutcome(run=run, before=stored.status, lease=replace(lease, attempt=run.attempt))

        return await self._database.write(f"claiming run {run_id}", claim)

    async def read_steps(self, lease: Lease) -> list[StepRecord]:
        def fetch(connection: sqlite3.Connection) -> list[StepRecord]:
            found = connection.execute(rows.GET_STEPS, (lease.workflow_id, lease.run_id, lease.incarnation))
            return [rows.step_of(row) for row in found]

        return await self._database.read(f"reading the steps of run {lease.run_id}", fetch)

    async def record_step(
        self, lease: Lease, step: StepRecord, *, expires_at: datetime, known: StepRecord | None = None
    ) -> StepRecord:
        row = rows.step_row(lease, step, expires_at)

        def record(connection: sqlite3.Connection) -> StepRecord:
            _check_holder(connection, lease)
            if connection.execute(rows.PUT_STEP, row).rowcount:
                return step
            return rows.step_of(
                connection.execute(
                    rows.GET_STEP, (lease.workflow_id, lease.run_id, lease.incarnation, step.key)
                ).fetchone()
            )

        return await self._database.write(f"recording step {step.key} of run {lease.run_id}", record)

    async def get_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        if not (is_workflow_name(workflow_id) and is_run_id(run_id)):
            return None
        found = await self._runs(f"reading run {run_id}", rows.GET_RUN, (workflow_id, run_id))
        return found[0] if found else None

    async def list_runs(
        self, workflow_id: str, *, limit: int = 50, start_after: str | None = None, status: RunStatus | None = None
    ) -> tuple[list[WorkflowRun], str | None]:
        wanted = RunFilter(workflow_id=workflow_id, status=status)
        return await self.find_runs(wanted, limit=limit, start_after=start_after)

    async def get_stats(self, workflow_id: str) -> RunStats:
        if not is_workflow_name(workflow_id):
            return stats_of({})

        def counts(connection: sqlite3.Connection) -> dict[str, int]:
            return dict(connection.execute(rows.GET_COUNTS, (workflow_id,)).fetchall())

        return stats_of(await self._database.read(f"reading statistics of {workflow_id}", counts))

    async def get_latest_run(self, workflow_id: str) -> WorkflowRun | None:
        if not is_workflow_name(workflow_id):
            return None
        found = await self._runs(f"reading the latest run of {workflow_id}", rows.GET_LATEST_RUN, (workflow_id,))
        return found[0] if found else None

    async def get_paused_runs(self) -> list[WorkflowRun]:
        return await self._runs("reading paused runs", rows.GET_PAUSED_RUNS, ())

    def close(self) -> None:
        """Close the file and end the store's thread, once the calls that are under way are done."""
        self._database.close()

    async def _runs(self, doing: str, statement: str, parameters: tuple[str | int, ...]) -> list[WorkflowRun]:
        def fetch(connection: sqlite3.Connection) -> list[WorkflowRun]:
            return [rows.run_of(row) for row in connection.execute(statement, parameters)]

        return await self._database.read(doing, fetch)


def _is_expired(run: WorkflowRun, now: datetime) -> bool:
    return run.expires_at is not None and run.expires_at <= now


def _check_holder(connection: sqlite3.Connection, lease: Lease) -> None:
    holder = connection.execute(rows.GET_HOLDER, (lease.workflow_id, lease.run_id)).fetchone()
    if holder != (lease.attempt, lease.owner, lease.incarnation):
        raise RunSuperseded(lease.run_id, lease.attempt, lease.attempt if holder is None else holder[0])


def _remove_expired(connection: sqlite3.Connection, *, clock: Clock) -> None:
    # When the database is opened, since no process of ours runs in between; and a bounded number, each batch a commit
    # of its own, so that neither the first call nor other processes wait long. What is left goes the next time.
    now = to_microseconds(clock.now())
    too_old = to_microseconds(bucket_start(clock.now() - ACTIVITY_KEPT, BucketSize.DAY)) - 1
    for has_expired, delete, until in (
        (rows.HAS_EXPIRED, rows.DELETE_EXPIRED, now),
        (rows.HAS_EXPIRED_STEPS, rows.DELETE_EXPIRED_STEPS, now),
        (HAS_OLD_ACTIVITY, DELETE_OLD_ACTIVITY, too_old),
    ):
        for _ in range(_EXPIRED_BATCHES):
            if connection.execute(has_expired, (until,)).fetchone() is None:
                break
            connection.execute(delete, (until, _EXPIRED_BATCH))


def open_store(settings: Settings) -> SQLiteStore:
    """The store as the settings describe it; see :data:`autopilot.core.run_log.STORES`."""
    return SQLiteStore(settings.sqlite_path)
