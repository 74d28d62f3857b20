"""The activity of workflows in SQLite: a row for each hour, and one for each day, in which a run ended.

A row holds all counts of its hour or day, so that a chart reads as many rows as it has bars. ``durations`` is an array
of 32-bit numbers, least significant byte first, one for each interval; a run that ends changes one of them in place.
"""

import sqlite3
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from autopilot.core.clock import from_microseconds, to_microseconds
from autopilot.core.runs.activity import ActivityCounts, ActivityEntry, bucket_start
from autopilot.core.store import BucketSize

GET_DURATIONS = "SELECT durations FROM activity WHERE workflow_id = ? AND size = ? AND start = ?"
CREATE_ACTIVITY = "INSERT INTO activity (workflow_id, size, start) VALUES (?, ?, ?)"
# Not below zero: the row from which a reopened run would be subtracted may have been removed as too old.
ADD_TO_ACTIVITY = {
    status: f"UPDATE activity SET {status} = max(0, {status} + ?), durations = ?"  # noqa: S608 - a name of ours
    " WHERE workflow_id = ? AND size = ? AND start = ?"
    for status in ("success", "failed", "skipped", "cancelled")
}
GET_ACTIVITY = f"""
    SELECT start, durations, {", ".join(ADD_TO_ACTIVITY)} FROM activity
    WHERE workflow_id = ? AND size = ? AND start BETWEEN ? AND ? ORDER BY start
"""  # noqa: S608 - names of ours
HAS_OLD_ACTIVITY = "SELECT 1 FROM activity WHERE start <= ? LIMIT 1"
DELETE_OLD_ACTIVITY = """
    DELETE FROM activity WHERE (workflow_id, size, start) IN
        (SELECT workflow_id, size, start FROM activity WHERE start <= ? LIMIT ?)
"""

_NUMBER = struct.Struct("<I")


def add_activity(connection: sqlite3.Connection, workflow_id: str, changes: Mapping[ActivityEntry, int]) -> None:
    """Change the counts of the hours and days of a workflow."""
    for entry, by in changes.items():
        for size in BucketSize:
            place = (workflow_id, size.value, to_microseconds(bucket_start(entry.hour, size)))
            durations = _durations_at(connection, place)
            if entry.interval is not None:
                durations = _with_more(durations, entry.interval, by)
            connection.execute(ADD_TO_ACTIVITY[entry.status.value], (by, durations, *place))


def read_activity(
    connection: sqlite3.Connection, workflow_id: str, first: datetime, last: datetime, size: BucketSize
) -> list[tuple[datetime, ActivityCounts]]:
    """The counts of the hours or days that begin from ``first`` to ``last``."""
    place = (workflow_id, size.value, to_microseconds(first), to_microseconds(last))
    return [
        (from_microseconds(start), ActivityCounts(Counter(dict(zip(ADD_TO_ACTIVITY, runs, strict=True))), [*numbers]))
        for start, durations, *runs in connection.execute(GET_ACTIVITY, place)
        for numbers in (struct.unpack(f"<{len(durations) // _NUMBER.size}I", durations),)
    ]


def encode_durations(durations: Sequence[int]) -> bytes:
    """The value of the column ``durations`` for these numbers."""
    return struct.pack(f"<{len(durations)}I", *durations)


def _durations_at(connection: sqlite3.Connection, place: tuple[str, str, int]) -> bytes:
    found: tuple[bytes] | None = connection.execute(GET_DURATIONS, place).fetchone()
    if found is not None:
        return found[0]
    connection.execute(CREATE_ACTIVITY, place)
    return b""


def _with_more(durations: bytes, interval: int, by: int) -> bytes:
    at = interval * _NUMBER.size
    changed = bytearray(durations.ljust(at + _NUMBER.size, b"\0"))
    (runs,) = _NUMBER.unpack_from(changed, at)
    _NUMBER.pack_into(changed, at, max(0, runs + by))
    return bytes(changed)
