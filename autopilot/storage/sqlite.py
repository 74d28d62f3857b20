"""The embedded store: one SQLite file, shared by any number of processes of one machine."""

import sqlite3
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from autopilot.core.clock import Clock, SystemClock, to_microseconds
from autopilot.core.cursor import decode_cursor, encode_cursor
from autopilot.core.journal import ClaimOutcome, RunHold, RunStart, StartOutcome, StepRecord
from autopilot.core.limits import check_page_size
from autopilot.core.transitions import claimed, count_changes, is_due, may_claim, replaces, stats_of
from autopilot.errors import RunSuperseded
from autopilot.models import RunStats, RunStatus, WorkflowRun, is_run_id, is_workflow_name
from autopilot.storage import sqlite_rows as rows
from autopilot.storage.sqlite_connection import Database

_EXPIRED_BATCH = 200
_EXPIRED_BATCHES = 5


class SQLiteStore:
    """Runs in one SQLite file.

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
        self._clock = clock
        self._database = Database(str(path), deadline.total_seconds(), partial(_remove_expired, clock=self._clock))

    async def save_run(self, run: WorkflowRun) -> None:
        row = rows.run_row(run)

        def save(connection: sqlite3.Connection) -> None:
            found = connection.execute(rows.GET_RUN, (run.workflow_id, run.id)).fetchone()
            stored = rows.run_of(found) if found else None
            if replaces(run, stored):
                connection.execute(rows.PUT_RUN, row)
                _count(connection, run, before=stored.status if stored else None)

        await self._database.write(f"saving run {run.id}", save)

    async def start_run(self, start: RunStart) -> StartOutcome:
        now = self._clock.now()
        run = start.run
        if run.status is RunStatus.RUNNING:
            run = run.model_copy(update={"due_at": now + start.lease})
        row = (*rows.run_row(run), start.owner, start.nonce, start.lease // timedelta(microseconds=1))

        def begin(connection: sqlite3.Connection) -> StartOutcome:
            if connection.execute(rows.CREATE_RUN, row).rowcount == 0:
                *found, owner, _ = connection.execute(rows.GET_RUN_AND_CLAIM, (run.workflow_id, run.id)).fetchone()
                stored = rows.run_of(found)
                if owner == start.owner:
                    return StartOutcome(run=stored, created=True)
                if stored.expires_at is None or stored.expires_at > now:
                    return StartOutcome(run=stored, created=False, is_due=is_due(stored, now))
                connection.execute(rows.PUT_RUN_AND_CLAIM, row)
            _count(connection, run, before=None)
            return StartOutcome(run=run, created=True)

        return await self._database.write(f"starting run {run.id}", begin)

    async def claim_run(
        self,
        workflow_id: str,
        run_id: str,
        *,
        owner: str,
        nonce: str,
        lease: timedelta,
        reopen: bool = False,
        version: object = None,
    ) -> ClaimOutcome | None:
        if not (is_workflow_name(workflow_id) and is_run_id(run_id)):
            return None
        now = self._clock.now()

        def claim(connection: sqlite3.Connection) -> ClaimOutcome | None:
            found = connection.execute(rows.GET_RUN_AND_CLAIM, (workflow_id, run_id)).fetchone()
            if found is None:
                return None
            *columns, _, stored_nonce = found
            stored = rows.run_of(columns)
            if not may_claim(stored, due=is_due(stored, now), reopen=reopen):
                return ClaimOutcome(run=stored, before=stored.status, hold=None)
            run = claimed(stored, due_at=now + lease)
            hold = RunHold(
                workflow_id=workflow_id, run_id=run_id, attempt=run.attempt, owner=owner, nonce=stored_nonce or nonce
            )
            connection.execute(
                rows.PUT_RUN_AND_CLAIM, (*rows.run_row(run), owner, hold.nonce, lease // timedelta(microseconds=1))
            )
            _count(connection, run, before=stored.status)
            return ClaimOutcome(run=run, before=stored.status, hold=hold)

        return await self._database.write(f"claiming run {run_id}", claim)

    async def read_steps(self, hold: RunHold) -> list[StepRecord]:
        def fetch(connection: sqlite3.Connection) -> list[StepRecord]:
            found = connection.execute(rows.GET_STEPS, (hold.workflow_id, hold.run_id, hold.nonce))
            return [rows.step_of(row) for row in found]

        return await self._database.read(f"reading the steps of run {hold.run_id}", fetch)

    async def record_step(
        self, hold: RunHold, step: StepRecord, *, expires_at: datetime, known: StepRecord | None = None
    ) -> StepRecord:
        row = rows.step_row(hold, step, expires_at)

        def record(connection: sqlite3.Connection) -> StepRecord:
            _check_holder(connection, hold)
            if connection.execute(rows.PUT_STEP, row).rowcount:
                return step
            return rows.step_of(
                connection.execute(rows.GET_STEP, (hold.workflow_id, hold.run_id, hold.nonce, step.key)).fetchone()
            )

        return await self._database.write(f"recording step {step.key} of run {hold.run_id}", record)

    async def get_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        if not (is_workflow_name(workflow_id) and is_run_id(run_id)):
            return None
        found = await self._runs(f"reading run {run_id}", rows.GET_RUN, (workflow_id, run_id))
        return found[0] if found else None

    async def list_runs(
        self, workflow_id: str, *, limit: int = 50, start_after: str | None = None, status: RunStatus | None = None
    ) -> tuple[list[WorkflowRun], str | None]:
        check_page_size(limit)
        position = None if start_after is None else decode_cursor(start_after, workflow_id, status)
        if not is_workflow_name(workflow_id):
            return [], None
        parameters: list[str | int] = [workflow_id]
        if status is not None:
            parameters.append(status.value)
        if position is not None:
            parameters += (to_microseconds(position.started_at), position.run_id)
        statement = rows.list_runs_statement(in_status=status is not None, after_position=position is not None)
        # One run more than asked for tells whether anything follows.
        found = await self._runs(f"listing runs of {workflow_id}", statement, (*parameters, limit + 1))
        page = found[:limit]
        return page, encode_cursor(page[-1], status) if len(found) > limit else None

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


def _count(connection: sqlite3.Connection, run: WorkflowRun, *, before: RunStatus | None) -> None:
    for status, change in count_changes(before, run.status).items():
        connection.execute(rows.ADD_TO_COUNT, (run.workflow_id, status.value, change))


def _check_holder(connection: sqlite3.Connection, hold: RunHold) -> None:
    holder = connection.execute(rows.GET_HOLDER, (hold.workflow_id, hold.run_id)).fetchone()
    if holder != (hold.attempt, hold.owner, hold.nonce):
        raise RunSuperseded(hold.run_id, hold.attempt, hold.attempt if holder is None else holder[0])


def _remove_expired(connection: sqlite3.Connection, *, clock: Clock) -> None:
    # When the database is opened, since no process of ours runs in between; and a bounded number, each batch a commit
    # of its own, so that neither the first call nor other processes wait long. What is left goes the next time.
    now = to_microseconds(clock.now())
    for has_expired, delete in (
        (rows.HAS_EXPIRED, rows.DELETE_EXPIRED),
        (rows.HAS_EXPIRED_STEPS, rows.DELETE_EXPIRED_STEPS),
    ):
        for _ in range(_EXPIRED_BATCHES):
            if connection.execute(has_expired, (now,)).fetchone() is None:
                break
            connection.execute(delete, (now, _EXPIRED_BATCH))
