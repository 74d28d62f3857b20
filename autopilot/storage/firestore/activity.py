"""The activity of workflows in Firestore: one document for each day, with the counts of the day and of its hours.

::

    date: midnight UTC
    total: {by_status: {status: n}, durations: {least duration: n}}       of the whole day
    hours: {hh: {by_status: ..., durations: ...}}                         of each hour in which a run ended

A run changes both in one write, and a chart by the day reads the totals alone. At the finest a day has 24 times some
hundred intervals, about 50 KiB.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from google.cloud.firestore_v1 import DocumentSnapshot, Increment, Maximum

from autopilot.core.runs.activity import (
    ACTIVITY_KEPT,
    ActivityCounts,
    ActivityEntry,
    bucket_start,
    interval_of,
    least_of,
)
from autopilot.core.store import BucketSize
from autopilot.storage.encoding import Fields
from autopilot.storage.firestore.documents import SCHEMA_VERSION, known_fields

_DAY = timedelta(days=1)


def activity_id(day: datetime, counter: str = "") -> str:
    """The id of the document that counts the runs of ``counter`` that ended on a day.

    Without ``counter`` it is the least id that a document of that day can have.
    """
    return f"{day.year:04}{day:%m%d}~{counter}"


def encode_activity(changes: Mapping[ActivityEntry, int]) -> dict[datetime, Fields]:
    """The fields to merge into the activity documents, by day; they never lower a document's schema version."""
    days: defaultdict[datetime, list[tuple[ActivityEntry, int]]] = defaultdict(list)
    for entry, by in changes.items():
        days[bucket_start(entry.hour, BucketSize.DAY)].append((entry, by))
    return {
        day: {
            "date": day,
            "total": _increments(changed),
            "hours": {
                f"{hour:%H}": _increments((entry, by) for entry, by in changed if entry.hour == hour)
                for hour in {entry.hour for entry, _ in changed}
            },
            "expires_at": day + _DAY + ACTIVITY_KEPT,
            "schema": Maximum(SCHEMA_VERSION),
        }
        for day, changed in days.items()
    }


def _increments(changed: Iterable[tuple[ActivityEntry, int]]) -> Fields:
    by_status: Counter[str] = Counter()
    durations: Counter[str] = Counter()
    for entry, by in changed:
        by_status[entry.status.value] += by
        if entry.interval is not None:
            durations[str(least_of(entry.interval))] += by
    fields = {"by_status": {status: Increment(by) for status, by in by_status.items()}}
    if durations:  # an empty map would be merged as one, in place of what is there
        fields["durations"] = {duration: Increment(by) for duration, by in durations.items()}
    return fields


def read_activity(
    snapshots: Iterable[DocumentSnapshot[Any]], size: BucketSize
) -> list[tuple[datetime, ActivityCounts]]:
    """The counts of activity documents, by the start of their hours or days, in the order of time.

    Raises:
        StoreVersionUnsupported: a newer Autopilot counted in one of them.
    """
    found: defaultdict[datetime, ActivityCounts] = defaultdict(ActivityCounts)
    for snapshot in snapshots:
        for start, counted in _counted(known_fields(snapshot) or {}, size):
            _add(found[start], counted)
    return sorted(found.items(), key=lambda each: each[0])


def _counted(fields: Fields, size: BucketSize) -> Iterator[tuple[datetime, Fields]]:
    if size is BucketSize.DAY:
        yield fields["date"], fields["total"]
        return
    for hour, counted in fields["hours"].items():
        yield fields["date"] + timedelta(hours=int(hour)), counted


def _add(counts: ActivityCounts, counted: Fields) -> None:
    # A document that had expired, and was begun again to subtract a reopened run, counts below zero.
    for status, runs in counted["by_status"].items():
        counts.by_status[status] += max(0, runs)
    for duration, runs in counted.get("durations", {}).items():
        counts.count_durations(interval_of(int(duration)), max(0, runs))
