"""The schema of the SQLite file: its owner, its tables, and the migration of older files."""

import sqlite3
from collections import defaultdict
from collections.abc import Callable

from autopilot.core.clock import from_microseconds, to_microseconds
from autopilot.core.runs.activity import ActivityCounts, bucket_start, interval_of
from autopilot.core.store import BucketSize
from autopilot.errors import StoreUnavailable, StoreVersionUnsupported
from autopilot.storage.sqlite.activity import encode_durations

APPLICATION_ID = 0x41757470
"""``Autp`` in the file's header: tells our databases from those of other applications."""

_RUNS = """
    CREATE TABLE runs (
        workflow_id TEXT NOT NULL,
        id TEXT NOT NULL,
        status TEXT NOT NULL,
        trigger_type TEXT NOT NULL,
        trigger_data TEXT NOT NULL,  -- JSON
        started_at INTEGER NOT NULL,  -- times are microseconds since 1970 UTC
        completed_at INTEGER,
        duration_ms INTEGER,
        result TEXT,  -- JSON
        error TEXT,
        error_type TEXT,
        attempt INTEGER NOT NULL,
        due_at INTEGER,
        waiting_for TEXT,
        version TEXT,
        fingerprint TEXT,
        payload_hash TEXT,
        rerun_of TEXT,
        expires_at INTEGER,
        owner TEXT,  -- of the attempt that holds the run
        incarnation TEXT,  -- of the run
        lease INTEGER,  -- microseconds
        PRIMARY KEY (workflow_id, id)
    )
"""


def _sum_activity_of_hours(connection: sqlite3.Connection) -> None:
    """Replace a row for each duration by the counts of each hour and each day."""
    activity: defaultdict[tuple[str, str, int], ActivityCounts] = defaultdict(ActivityCounts)
    for workflow_id, hour, status, duration_ms, runs in connection.execute("SELECT * FROM activity_of_hours"):
        for size in BucketSize:
            start = to_microseconds(bucket_start(from_microseconds(hour), size))
            counts = activity[workflow_id, size.value, start]
            counts.by_status[status] += runs
            if duration_ms >= 0:
                counts.count_durations(interval_of(duration_ms), runs)
    statuses = ("success", "failed", "skipped", "cancelled")
    rows = (
        (*place, *(counts.by_status[status] for status in statuses), encode_durations(counts.durations))
        for place, counts in activity.items()
    )
    connection.executemany("INSERT INTO activity VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)


_MIGRATIONS: tuple[tuple[str | Callable[[sqlite3.Connection], None], ...], ...] = (
    (
        _RUNS,
        "CREATE INDEX runs_of_workflow ON runs (workflow_id, started_at, id)",
        "CREATE INDEX runs_of_workflow_in_status ON runs (workflow_id, status, started_at, id)",
        # Partial: a run that never pauses, has no due time or is kept for good costs these indexes nothing.
        "CREATE INDEX runs_paused ON runs (started_at, workflow_id, id) WHERE status = 'paused'",
        "CREATE INDEX runs_due ON runs (due_at) WHERE due_at IS NOT NULL",
        "CREATE INDEX runs_expiring ON runs (expires_at) WHERE expires_at IS NOT NULL",
        """
        CREATE TABLE run_counts (
            workflow_id TEXT NOT NULL,
            status TEXT NOT NULL,
            runs INTEGER NOT NULL,
            PRIMARY KEY (workflow_id, status)
        ) WITHOUT ROWID
        """,
    ),
    (
        "ALTER TABLE runs ADD COLUMN reopened_attempt INTEGER",
        """
        CREATE TABLE steps (
            workflow_id TEXT NOT NULL,
            run_id TEXT NOT NULL,
            incarnation TEXT NOT NULL,  -- of the run: a predecessor with its id has other steps
            key TEXT NOT NULL,
            status TEXT NOT NULL,
            attempt INTEGER NOT NULL,
            tries INTEGER NOT NULL,
            started_at INTEGER NOT NULL,
            ended_at INTEGER,
            result TEXT,  -- JSON
            error TEXT,
            error_type TEXT,
            expires_at INTEGER NOT NULL,
            PRIMARY KEY (workflow_id, run_id, incarnation, key)
        )
        """,
        "CREATE INDEX steps_expiring ON steps (expires_at)",
    ),
    (
        # A list for each way to filter, so that its first page costs no more than its own rows.
        "CREATE INDEX runs_newest ON runs (started_at, workflow_id, id)",
        "CREATE INDEX runs_in_status ON runs (status, started_at, workflow_id, id)",
        "CREATE INDEX runs_by_trigger ON runs (trigger_type, started_at, workflow_id, id)",
        "CREATE INDEX runs_in_status_by_trigger ON runs (status, trigger_type, started_at, workflow_id, id)",
        "CREATE INDEX runs_of_workflow_by_trigger ON runs (workflow_id, trigger_type, started_at, id)",
        "CREATE INDEX runs_of_workflow_in_status_by_trigger ON runs (workflow_id, status, trigger_type, started_at, id)",
        "DROP INDEX runs_paused",  # runs_in_status does it
        "ALTER TABLE runs ADD COLUMN changed INTEGER NOT NULL DEFAULT 0",  # its place in the order of changes
        "ALTER TABLE runs ADD COLUMN attempts TEXT",  # JSON
        "CREATE INDEX runs_by_change ON runs (changed)",
        "CREATE TABLE changes (last INTEGER NOT NULL)",  # not the greatest of runs.changed: that run may be removed
        "INSERT INTO changes VALUES (0)",
        """
        CREATE TABLE activity (
            workflow_id TEXT NOT NULL,
            hour INTEGER NOT NULL,
            status TEXT NOT NULL,
            duration_ms INTEGER NOT NULL,  -- the least of its interval; -1 for none
            runs INTEGER NOT NULL,
            PRIMARY KEY (workflow_id, hour, status, duration_ms)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX activity_by_hour ON activity (hour)",
    ),
    (
        "ALTER TABLE activity RENAME TO activity_of_hours",
        """
        CREATE TABLE activity (
            workflow_id TEXT NOT NULL,
            size TEXT NOT NULL,  -- hour or day
            start INTEGER NOT NULL,
            success INTEGER NOT NULL DEFAULT 0,
            failed INTEGER NOT NULL DEFAULT 0,
            skipped INTEGER NOT NULL DEFAULT 0,
            cancelled INTEGER NOT NULL DEFAULT 0,
            durations BLOB NOT NULL DEFAULT x'',  -- see storage/sqlite/activity
            PRIMARY KEY (workflow_id, size, start)
        ) WITHOUT ROWID
        """,
        _sum_activity_of_hours,
        "DROP TABLE activity_of_hours",
        "CREATE INDEX activity_by_start ON activity (start)",
    ),
    (
        "ALTER TABLE runs ADD COLUMN round INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE runs ADD COLUMN failed_steps TEXT",  # JSON
        "ALTER TABLE steps ADD COLUMN round INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE steps ADD COLUMN error_classes TEXT",  # JSON
        "ALTER TABLE steps ADD COLUMN failed_within TEXT",  # JSON
        "ALTER TABLE steps ADD COLUMN compensations TEXT",  # JSON
        "ALTER TABLE steps ADD COLUMN history TEXT",  # JSON
    ),
    (
        "ALTER TABLE runs ADD COLUMN idle_claims INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE runs ADD COLUMN idle_deadlines INTEGER NOT NULL DEFAULT 0",
    ),
    (
        # Sessions of the dashboard that were signed out, until they would have ended by themselves.
        "CREATE TABLE ended_sessions (session TEXT PRIMARY KEY, expires_at INTEGER NOT NULL) WITHOUT ROWID",
    ),
)
"""The migrations from each version to the next. A released one is never changed."""

SCHEMA_VERSION = len(_MIGRATIONS)

# One statement, one moment: another process may be creating the tables between two of them.
_HEADER = """
    SELECT (SELECT application_id FROM pragma_application_id),
           (SELECT user_version FROM pragma_user_version),
           (SELECT count(*) FROM sqlite_master)
"""


def check_ownership(connection: sqlite3.Connection, store: str) -> int:
    """The schema version of a database that is ours or empty. Nothing is written.

    Raises:
        StoreUnavailable: it belongs to another application.
        StoreVersionUnsupported: a newer Autopilot wrote it.
    """
    application_id, version, tables = connection.execute(_HEADER).fetchone()
    if application_id != APPLICATION_ID and (application_id or version or tables):
        raise StoreUnavailable(store, "opening", "it is the database of another application; choose another file")
    if version > SCHEMA_VERSION:
        raise StoreVersionUnsupported(store, version, SCHEMA_VERSION)
    return int(version)


def migrate(connection: sqlite3.Connection, store: str) -> None:
    """Bring the database to :data:`SCHEMA_VERSION`, one transaction a version.

    Several processes may do this at once: each looks at the version again once it holds the lock.

    Raises:
        StoreUnavailable, StoreVersionUnsupported: as :func:`check_ownership`, before anything is written.
    """
    while check_ownership(connection, store) < SCHEMA_VERSION:
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = check_ownership(connection, store)
            if version < SCHEMA_VERSION:
                for step in _MIGRATIONS[version]:
                    connection.execute(step) if isinstance(step, str) else step(connection)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
