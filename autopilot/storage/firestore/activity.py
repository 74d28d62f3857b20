"""The activity of workflows in Firestore: one document for each day, with the tallies of the day and of its hours.

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

from google.cloud.firestore_v1 import AsyncQuery, DocumentSnapshot, Increment, Maximum

from autopilot.core.runs.activity import ACTIVITY_KEPT, ActivityEntry, Tally, bucket_start, interval_of, least_of
from autopilot.core.store import ActivityBucket, BucketSize
from autopilot.storage.firestore.documents import SCHEMA_VERSION, Fields, known_fields, plain

_DAY = timedelta(days=1)


def activity_id(day: datetime, counter: str = "") -> str:
    """The id of the document that counts what ended on a day, of the runs that ``counter`` counts.

    Without ``counter`` it is the least that an id of that day can be.
    """
    return f"{day.year:04}{day:%m%d}~{counter}"


def encode_activity(changes: Mapping[ActivityEntry, int]) -> dict[datetime, Fields]:
    """What the activity documents are merged with, by their days: never back to an older schema."""
    days: defaultdict[datetime, list[tuple[ActivityEntry, int]]] = defaultdict(list)
    for entry, by in changes.items():
        days[bucket_start(entry.hour, BucketSize.DAY)].append((entry, by))
    return {
        day: {
            "date": day,
            "total": _increments(changed),
            "hours": {
                f"{hour:%H}": _increments(_of_hour(changed, hour)) for hour in {each.hour for each, _ in changed}
            },
            "expires_at": day + _DAY + ACTIVITY_KEPT,
            "schema": Maximum(SCHEMA_VERSION),
        }
        for day, changed in days.items()
    }


def _of_hour(changed: Iterable[tuple[ActivityEntry, int]], hour: datetime) -> Iterator[tuple[ActivityEntry, int]]:
    return ((entry, by) for entry, by in changed if entry.hour == hour)


def _increments(changed: Iterable[tuple[ActivityEntry, int]]) -> Fields:
    by_status: Counter[str] = Counter()
    durations: Counter[str] = Counter()
    for entry, by in changed:
        by_status[entry.status.value] += by
        if entry.interval is not None:
            durations[str(least_of(entry.interval))] += by
    return {
        "by_status": {status: Increment(by) for status, by in by_status.items()},
        "durations": {duration: Increment(by) for duration, by in durations.items()},
    }


def without_unread_fields(query: AsyncQuery, size: BucketSize) -> AsyncQuery:
    """The query, for no more of each document than the tallies of this size."""
    return query.select(["date", "schema", "total" if size is BucketSize.DAY else "hours"])


def buckets_of(snapshots: Iterable[DocumentSnapshot[Any]], size: BucketSize) -> list[ActivityBucket]:
    """What activity documents have counted, in the order of time.

    Raises:
        StoreVersionUnsupported: a newer Autopilot counted in one of them.
    """
    tallies: defaultdict[datetime, Tally] = defaultdict(Tally)
    for snapshot in snapshots:
        fields = known_fields(snapshot) or {}
        for start, counted in _counted(fields, size):
            _add(tallies[start], counted)
    found = (tallies[start].bucket(start) for start in sorted(tallies))
    return [bucket for bucket in found if bucket is not None]


def _counted(fields: Fields, size: BucketSize) -> Iterator[tuple[datetime, Fields]]:
    date = plain(fields["date"])
    if size is BucketSize.DAY:
        yield date, fields["total"]
        return
    for hour, counted in fields["hours"].items():
        yield date + timedelta(hours=int(hour)), counted


def _add(tally: Tally, counted: Fields) -> None:
    # What was removed as too old can leave less than nothing.
    for status, runs in counted["by_status"].items():
        tally.by_status[status] += max(0, runs)
    for duration, runs in counted["durations"].items():
        tally.count_durations(interval_of(int(duration)), max(0, runs))
