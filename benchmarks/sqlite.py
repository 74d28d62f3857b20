"""A run on SQLite, beside the two commits that it needs."""

import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from autopilot import RunStatus, TriggerType, WorkflowRun
from autopilot.core.clock import random_id
from autopilot.core.run_log import get_run_log_service
from autopilot.core.store import BucketSize
from autopilot.storage.sqlite import rows
from autopilot.storage.sqlite.activity import CHANGE_TALLY, CREATE_TALLY, GET_DURATIONS
from autopilot.storage.sqlite.changes import ADD_TO_COUNT
from autopilot.storage.sqlite.schema import migrate
from benchmarks.environment import cloud_logging, settings
from benchmarks.measure import Line, interleave, timed
from benchmarks.workflow import PAYLOAD, Sum

MOST_TIMES = 2.5
ROUNDS = 1000


class BareCommits:
    """The same rows as a run's, its claim and counts included, written with ``sqlite3`` alone, in this thread."""

    def __init__(self, connection: sqlite3.Connection, like: WorkflowRun) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        migrate(connection, "benchmark")
        self._connection = connection
        self._workflow_id, _, *self._ended = rows.run_row(like)
        for size in BucketSize:
            connection.execute(CREATE_TALLY, (self._workflow_id, size.value, 0))
        _, _, *self._started = rows.run_row(
            like.model_copy(
                update={
                    "status": RunStatus.RUNNING,
                    "completed_at": None,
                    "duration_ms": None,
                    "result": None,
                    "due_at": like.completed_at,
                    "expires_at": None,
                }
            )
        )

    async def commit_twice(self) -> None:
        run_id, claim = random_id(), (random_id(), random_id(), 555_000_000)
        self._commit(rows.CREATE_RUN, (run_id, *self._started, *claim), {"running": 1})
        self._commit(rows.PUT_RUN, (run_id, *self._ended), {"running": -1, "success": 1}, has_ended=True)

    def _commit(
        self, statement: str, values: tuple[Any, ...], counts: Mapping[str, int], *, has_ended: bool = False
    ) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(statement, (self._workflow_id, *values))
        for status, change in counts.items():
            self._connection.execute(ADD_TO_COUNT, (self._workflow_id, status, change))
        self._connection.execute(rows.TAKE_POSITION)
        if has_ended:
            for size in BucketSize:
                place = (self._workflow_id, size.value, 0)
                self._connection.execute(GET_DURATIONS, place).fetchone()
                self._connection.execute(CHANGE_TALLY["success"], (1, b"\0" * 128, *place))
        self._connection.execute("COMMIT")


async def measure() -> list[Line]:
    with (
        tempfile.TemporaryDirectory() as folder,
        cloud_logging(),
        settings(AUTOPILOT_STORE="sqlite", AUTOPILOT_SQLITE_PATH=f"{folder}/runs.db"),
        closing(sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)) as connection,
    ):
        workflow = Sum()
        like = await workflow.run(TriggerType.HTTP, PAYLOAD)
        if await get_run_log_service().get_run(like.workflow_id, like.id) != like:
            raise RuntimeError("the run is not in the run log")
        run, commits = await interleave(
            ROUNDS,
            warm_up=50,
            a_run_on_SQLite=timed(lambda: workflow.run(TriggerType.HTTP, PAYLOAD)),
            its_two_commits_alone=timed(BareCommits(connection, like).commit_twice),
        )
    return [Line(measured=run, beside=commits, most_times=MOST_TIMES)]
