"""The archive in SQLite: what people ask of the records, and what they do to them."""

import re
import sqlite3
from datetime import datetime, timedelta

from autopilot.core.clock import Clock
from autopilot.core.runs.activity import bucket_range
from autopilot.core.runs.cursor import decode_cursor, encode_cursor
from autopilot.core.runs.limits import check_page_size
from autopilot.core.runs.transitions import cancelled, check_removable
from autopilot.core.store import ActivityBucket, BucketSize, RunChange, RunFilter, StepRecord
from autopilot.errors import CursorInvalid, RunStateConflict
from autopilot.models import RunStatus, WorkflowRun, is_run_id, is_workflow_name
from autopilot.storage.sqlite import rows
from autopilot.storage.sqlite.activity import read_activity
from autopilot.storage.sqlite.changes import put_run
from autopilot.storage.sqlite.connection import Database

_POSITION = re.compile(r"[0-9]{1,18}")
_MICROSECOND = timedelta(microseconds=1)


class SQLiteArchive:
    """The part of a store that is :class:`~autopilot.core.store.RunArchive`, on the store's own database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def find_runs(
        self, wanted: RunFilter, *, limit: int = 50, start_after: str | None = None
    ) -> tuple[list[WorkflowRun], str | None]:
        check_page_size(limit)
        after = None if start_after is None else decode_cursor(start_after, wanted)
        if wanted.workflow_id is not None and not is_workflow_name(wanted.workflow_id):
            return [], None
        # One run more than asked for tells whether anything follows.
        query = rows.find_runs_query(wanted, after=after, limit=limit + 1)

        def find(connection: sqlite3.Connection) -> list[WorkflowRun]:
            return [rows.run_of(row) for row in connection.execute(*query)]

        found = await self._database.read("listing runs", find)
        page = found[:limit]
        return page, encode_cursor(page[-1], wanted) if len(found) > limit else None

    async def get_run_steps(self, workflow_id: str, run_id: str) -> list[StepRecord]:
        if not (is_workflow_name(workflow_id) and is_run_id(run_id)):
            return []

        def fetch(connection: sqlite3.Connection) -> list[StepRecord]:
            return [rows.step_of(row) for row in connection.execute(rows.GET_RUN_STEPS, (workflow_id, run_id))]

        return await self._database.read(f"reading the steps of run {run_id}", fetch)

    async def get_activity(
        self, workflow_id: str, *, since: datetime, until: datetime, size: BucketSize
    ) -> list[ActivityBucket]:
        found = bucket_range(since, until, size)
        if found is None or not is_workflow_name(workflow_id):
            return []
        first, last = found
        return await self._database.read(
            f"reading the activity of {workflow_id}",
            lambda connection: read_activity(connection, workflow_id, first, last, size),
        )

    async def delete_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        if not (is_workflow_name(workflow_id) and is_run_id(run_id)):
            return None
        now = self._clock.now()

        def delete(connection: sqlite3.Connection) -> WorkflowRun | None:
            found = connection.execute(rows.GET_RUN_AND_CLAIM, (workflow_id, run_id)).fetchone()
            if found is None:
                return None
            *columns, _, _, lease_duration = found
            run = rows.run_of(columns)
            ended = (
                None
                if run.completed_at is None or lease_duration is None
                else run.completed_at + lease_duration * _MICROSECOND
            )
            check_removable(run, lease_ends_at=ended, now=now)
            connection.execute(rows.DELETE_RUN, (workflow_id, run_id))
            connection.execute(rows.DELETE_STEPS, (workflow_id, run_id))
            return run

        return await self._database.write(f"removing run {run_id}", delete)

    async def request_cancel(
        self, workflow_id: str, run_id: str, *, owner: str, retention: timedelta | None = None
    ) -> WorkflowRun | None:
        if not (is_workflow_name(workflow_id) and is_run_id(run_id)):
            return None
        now = self._clock.now()

        def cancel(connection: sqlite3.Connection) -> WorkflowRun | None:
            found = connection.execute(rows.GET_RUN_AND_CLAIM, (workflow_id, run_id)).fetchone()
            if found is None:
                return None
            *columns, _, incarnation, _ = found
            stored = rows.run_of(columns)
            if stored.status.is_terminal:
                raise RunStateConflict(run_id, stored.status, "cancelled")
            run = cancelled(stored, now=now, retention=retention)
            held = stored.due_at - now if stored.status is RunStatus.RUNNING and stored.due_at else timedelta(0)
            row = (*rows.run_row(run), owner, incarnation, max(0, held // _MICROSECOND))
            put_run(connection, rows.PUT_RUN_AND_CLAIM, row, run=run, before=stored)
            return run

        return await self._database.write(f"cancelling run {run_id}", cancel)

    async def get_last_position(self) -> str:
        return str(await self._database.read("reading the last change", _last_position))

    async def read_changes(self, after: str, *, limit: int = 100) -> list[RunChange]:
        check_page_size(limit)
        if _POSITION.fullmatch(after) is None:
            raise CursorInvalid("it is not the position of a change")

        def fetch(connection: sqlite3.Connection) -> list[RunChange]:
            if int(after) > _last_position(connection):
                raise CursorInvalid("it is the position of a change in another database")
            found = connection.execute(rows.GET_CHANGES, (int(after), limit))
            return [RunChange(position=str(position), run=rows.run_of(run)) for *run, position in found]

        return await self._database.read("reading changes", fetch)

    async def check_connection(self) -> None:
        await self._database.read("checking the connection", _last_position)


def _last_position(connection: sqlite3.Connection) -> int:
    (position,) = connection.execute(rows.GET_LAST_POSITION).fetchone()
    return int(position)
