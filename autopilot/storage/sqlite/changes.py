"""Writing a run, with everything that goes with it in the same transaction."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from autopilot.core.runs.activity import activity_changes, activity_of
from autopilot.core.runs.transitions import count_changes
from autopilot.models import WorkflowRun
from autopilot.storage.sqlite import rows
from autopilot.storage.sqlite.activity import count_activity

ADD_TO_COUNT = """
    INSERT INTO run_counts (workflow_id, status, runs) VALUES (?, ?, ?)
    ON CONFLICT (workflow_id, status) DO UPDATE SET runs = runs + excluded.runs
"""


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
    count_activity(connection, run.workflow_id, activity_changes(activity_of(before), activity_of(run)))
    return True
