"""Writing a run, with everything that goes with it in the same transaction."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from autopilot.core.activity import ActivityEntry, activity_changes, activity_of
from autopilot.core.clock import from_microseconds, to_microseconds
from autopilot.core.run_archive import BucketSize
from autopilot.core.transitions import count_changes
from autopilot.models import RunStatus, WorkflowRun
from autopilot.storage import sqlite_rows as rows

ADD_TO_COUNT = """
    INSERT INTO run_counts (workflow_id, status, runs) VALUES (?, ?, ?)
    ON CONFLICT (workflow_id, status) DO UPDATE SET runs = runs + excluded.runs
"""
ADD_TO_ACTIVITY = """
    INSERT INTO activity (workflow_id, hour, status, duration_ms, runs) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (workflow_id, hour, status, duration_ms) DO UPDATE SET runs = runs + excluded.runs
"""
GET_ACTIVITY = """
    SELECT min(hour), status, duration_ms, sum(runs) FROM activity WHERE workflow_id = ? AND hour BETWEEN ? AND ?
    GROUP BY hour / ?, status, duration_ms
"""
"""Summed to buckets here: a year has many hours."""
HAS_OLD_ACTIVITY = "SELECT 1 FROM activity WHERE hour <= ? LIMIT 1"
DELETE_OLD_ACTIVITY = """
    DELETE FROM activity WHERE (workflow_id, hour, status, duration_ms) IN
        (SELECT workflow_id, hour, status, duration_ms FROM activity WHERE hour <= ? LIMIT ?)
"""

_NO_DURATION = -1


def put_run(
    connection: sqlite3.Connection,
    statement: str,
    row: Sequence[Any],
    *,
    run: WorkflowRun,
    before: WorkflowRun | None,
) -> bool:
    """Write ``run`` by one of the three statements that do, and move what it counts as.

    Args:
        row: the statement's parameters.
        before: the run as it is counted so far; None: it is not.

    Returns:
        Whether anything was written.
    """
    if connection.execute(statement, row).rowcount == 0:
        return False
    connection.execute(rows.TAKE_POSITION)
    for status, by in count_changes(before.status if before else None, run.status).items():
        connection.execute(ADD_TO_COUNT, (run.workflow_id, status.value, by))
    for entry, by in activity_changes(activity_of(before), activity_of(run)).items():
        duration = _NO_DURATION if entry.duration_ms is None else entry.duration_ms
        place = (to_microseconds(entry.hour), entry.status.value, duration)
        connection.execute(ADD_TO_ACTIVITY, (run.workflow_id, *place, by))
    return True


def read_activity(
    connection: sqlite3.Connection, workflow_id: str, first: datetime, last: datetime, size: BucketSize
) -> list[tuple[ActivityEntry, int]]:
    """What ended in the hours from ``first`` to ``last``, those of one bucket under the first of them."""
    width = (timedelta(days=1) if size is BucketSize.DAY else timedelta(hours=1)) // timedelta(microseconds=1)
    hours = to_microseconds(first), to_microseconds(last)
    return [
        (ActivityEntry(from_microseconds(hour), RunStatus(status), None if duration < 0 else duration), runs)
        for hour, status, duration, runs in connection.execute(GET_ACTIVITY, (workflow_id, *hours, width))
    ]
