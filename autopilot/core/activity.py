"""What ended when: runs counted by the hour in which they ended, how they ended and how long they took.

A store keeps a number for each :class:`ActivityEntry` and changes it in the commits that change the runs, so that a
chart of a year costs the hours of that year and never its runs. Durations are counted by their four leading bits::

    0 1 2 ... 15   16,17   18,19 ... 30,31   32-35   36-39 ... 60-63   64-71 ...        milliseconds

Eight intervals to each doubling: the middle of one is at most 6.25 % from whatever it stands for.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from autopilot.core.run_archive import ActivityBucket, BucketSize
from autopilot.models import RunStatus, WorkflowRun

ACTIVITY_KEPT = timedelta(days=400)
"""How long an hour's activity is kept."""

_LEADING_BITS = 4
_TIMED = frozenset({RunStatus.SUCCESS, RunStatus.FAILED})
_PERCENTILES = {"p50": 50, "p95": 95, "max": 100}


@dataclass(frozen=True, slots=True)
class ActivityEntry:
    """What one run adds to the activity of its workflow."""

    hour: datetime
    status: RunStatus
    duration_ms: int | None
    """The least duration of the interval that the run's own is in. None: a run whose duration says nothing."""


def activity_of(run: WorkflowRun | None) -> ActivityEntry | None:
    """What a run counts as; None while it is not over."""
    if run is None or not run.status.is_terminal:
        return None
    duration = run.duration_ms if run.status in _TIMED else None
    return ActivityEntry(
        hour=bucket_start(run.completed_at or run.started_at, BucketSize.HOUR),
        status=run.status,
        duration_ms=None if duration is None else _least_like(duration),
    )


def activity_changes(before: ActivityEntry | None, after: ActivityEntry | None) -> dict[ActivityEntry, int]:
    """What the counts change by when a run that counted as ``before`` counts as ``after``; None: not at all."""
    if before == after:
        return {}
    return {entry: by for entry, by in ((before, -1), (after, 1)) if entry is not None}


def bucket_start(time: datetime, size: BucketSize) -> datetime:
    """When the bucket that ``time`` is in begins."""
    hour = time.replace(minute=0, second=0, microsecond=0)
    return hour.replace(hour=0) if size is BucketSize.DAY else hour


def hours_of(since: datetime, until: datetime, size: BucketSize) -> tuple[datetime, datetime] | None:
    """The first and the last hour of the buckets that have a part in the time from ``since`` to before ``until``."""
    if since >= until:
        return None
    last = bucket_start(until - timedelta(microseconds=1), size)
    return bucket_start(since, size), last.replace(hour=23) if size is BucketSize.DAY else last


def sum_activity(counts: Iterable[tuple[ActivityEntry, int]], size: BucketSize) -> list[ActivityBucket]:
    """The buckets that the counts of hours add up to, in the order of time; none for a time without any."""
    statuses: defaultdict[datetime, Counter[str]] = defaultdict(Counter)
    durations: defaultdict[datetime, Counter[int]] = defaultdict(Counter)
    for entry, runs in counts:
        start = bucket_start(entry.hour, size)
        if runs > 0:
            statuses[start][entry.status.value] += runs
            if entry.duration_ms is not None:
                durations[start][entry.duration_ms] += runs
    return [
        ActivityBucket(start=start, by_status=dict(statuses[start]), duration_ms=_percentiles(durations[start]))
        for start in sorted(statuses)
    ]


def _percentiles(durations: Counter[int]) -> dict[str, int]:
    """Of each percentile the middle of the interval in which it lies: the nearest rank."""
    found: dict[str, int] = {}
    passed, total = 0, durations.total()
    for least in sorted(durations):
        passed += durations[least]
        for name, percent in _PERCENTILES.items():
            if name not in found and passed * 100 >= total * percent:
                found[name] = _middle(least)
    return found


def _dropped_bits(duration_ms: int) -> int:
    return max(0, duration_ms.bit_length() - _LEADING_BITS)


def _least_like(duration_ms: int) -> int:
    bits = _dropped_bits(duration_ms)
    return duration_ms >> bits << bits


def _middle(least: int) -> int:
    return least + ((1 << _dropped_bits(least)) - 1) // 2
