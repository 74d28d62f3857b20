"""The activity of workflows in SQLite: a row for each hour, and one for each day, in which a run ended.

A row holds its whole tally: what is read for a chart is as many rows as the chart has bars. It is written anew in the
transaction that changes the run.
"""

import json
import sqlite3
import struct
from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from autopilot.core.activity import ActivityEntry, Tally, bucket_start
from autopilot.core.clock import from_microseconds, to_microseconds
from autopilot.core.run_archive import ActivityBucket, BucketSize

GET_TALLY = "SELECT by_status, durations FROM activity WHERE workflow_id = ? AND size = ? AND start = ?"
PUT_TALLY = "INSERT OR REPLACE INTO activity (workflow_id, size, start, by_status, durations) VALUES (?, ?, ?, ?, ?)"
GET_TALLIES = """
    SELECT start, by_status, durations FROM activity WHERE workflow_id = ? AND size = ? AND start BETWEEN ? AND ?
    ORDER BY start
"""
HAS_OLD_ACTIVITY = "SELECT 1 FROM activity WHERE start <= ? LIMIT 1"
DELETE_OLD_ACTIVITY = """
    DELETE FROM activity WHERE (workflow_id, size, start) IN
        (SELECT workflow_id, size, start FROM activity WHERE start <= ? LIMIT ?)
"""


def count_activity(connection: sqlite3.Connection, workflow_id: str, changes: Mapping[ActivityEntry, int]) -> None:
    """Change the tallies of the hours and days of a workflow."""
    for entry, by in changes.items():
        for size in BucketSize:
            place = (workflow_id, size.value, to_microseconds(bucket_start(entry.hour, size)))
            found = connection.execute(GET_TALLY, place).fetchone()
            tally = decode_tally(*found) if found else Tally()
            tally.count(entry, by)
            connection.execute(PUT_TALLY, (*place, *encode_tally(tally)))


def read_activity(
    connection: sqlite3.Connection, workflow_id: str, first: datetime, last: datetime, size: BucketSize
) -> list[ActivityBucket]:
    """What ended in the hours or days that begin from ``first`` to ``last``."""
    place = (workflow_id, size.value, to_microseconds(first), to_microseconds(last))
    found = (
        decode_tally(*columns).bucket(from_microseconds(start))
        for start, *columns in connection.execute(GET_TALLIES, place)
    )
    return [bucket for bucket in found if bucket is not None]


def encode_tally(tally: Tally) -> tuple[str, bytes]:
    """The columns ``by_status`` (JSON) and ``durations`` (32 bits each, the least significant byte first)."""
    return json.dumps(tally.by_status), struct.pack(f"<{len(tally.durations)}I", *tally.durations)


def decode_tally(by_status: str, durations: bytes) -> Tally:
    """The tally that these columns hold."""
    return Tally(Counter(json.loads(by_status)), [*struct.unpack(f"<{len(durations) // 4}I", durations)])
