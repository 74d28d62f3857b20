"""The activity of a workflow: its finished runs, counted by hour and by day, by status and by duration.

A store keeps :class:`ActivityCounts` of each hour and of each day and changes them in the commits that change the runs,
so that a chart costs its hours or days and never its runs. Durations are counted by their four leading bits::

    interval        0 1 2 ... 15   16     17     ...  23     24     25     ...  31     32     ...
    milliseconds    0 1 2 ... 15   16,17  18,19  ...  30,31  32-35  36-39  ...  60-63  64-71  ...

Eight intervals to each doubling: the middle of an interval is at most 6.25 % off.
"""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate

from autopilot.core.store import ActivityBucket, BucketSize
from autopilot.models import RunStatus, WorkflowRun

ACTIVITY_KEPT = timedelta(days=400)
"""How long the activity of an hour or a day is kept."""

_LEADING_BITS = 4
_TO_A_DOUBLING = 1 << (_LEADING_BITS - 1)
_TIMED = frozenset({RunStatus.SUCCESS, RunStatus.FAILED})
_PERCENTILES = {"p50": 50, "p95": 95, "max": 100}


@dataclass(frozen=True, slots=True)
class ActivityEntry:
    """The contribution of one finished run."""

    hour: datetime
    status: RunStatus
    interval: int | None
    """The interval of its duration. None: its duration is not counted."""


@dataclass(slots=True)
class ActivityCounts:
    """The runs that ended in one hour or day, counted."""

    by_status: Counter[str] = field(default_factory=Counter)
    durations: list[int] = field(default_factory=list)
    """Durations in each interval, up to the last interval that has any."""

    def count_durations(self, interval: int, runs: int) -> None:
        """Add the durations of ``runs`` runs to an interval."""
        self.durations += [0] * (interval + 1 - len(self.durations))
        self.durations[interval] += runs

    def bucket(self, start: datetime) -> ActivityBucket | None:
        """The bucket of the hour or day that begins at ``start``; None: nothing ended in it."""
        by_status = dict(+self.by_status)
        return ActivityBucket(start=start, by_status=by_status, duration_ms=self._percentiles()) if by_status else None

    def _percentiles(self) -> dict[str, int]:
        """Each percentile, by nearest rank, as the middle of its interval."""
        passed = list(accumulate(self.durations))
        if not passed or not passed[-1]:
            return {}
        ranks = {name: -(-passed[-1] * percent // 100) for name, percent in _PERCENTILES.items()}
        return {name: _middle_of(bisect_left(passed, rank)) for name, rank in ranks.items()}


def activity_of(run: WorkflowRun | None) -> ActivityEntry | None:
    """The entry of a run; None while it is not over."""
    if run is None or not run.status.is_terminal:
        return None
    duration = run.duration_ms if run.status in _TIMED else None
    return ActivityEntry(
        hour=bucket_start(run.completed_at or run.started_at, BucketSize.HOUR),
        status=run.status,
        interval=None if duration is None else interval_of(duration),
    )


def activity_changes(before: ActivityEntry | None, after: ActivityEntry | None) -> dict[ActivityEntry, int]:
    """The changes of the counts when a run's entry changes from ``before`` to ``after``; None is no entry."""
    if before == after:
        return {}
    return {entry: by for entry, by in ((before, -1), (after, 1)) if entry is not None}


def bucket_start(time: datetime, size: BucketSize) -> datetime:
    """The start of the bucket that contains ``time``."""
    hour = time.replace(minute=0, second=0, microsecond=0)
    return hour.replace(hour=0) if size is BucketSize.DAY else hour


def bucket_range(since: datetime, until: datetime, size: BucketSize) -> tuple[datetime, datetime] | None:
    """The starts of the first and the last bucket that overlap the time from ``since`` to before ``until``.

    None: there is no such bucket.
    """
    if since >= until:
        return None
    return bucket_start(since, size), bucket_start(until - timedelta(microseconds=1), size)


def interval_of(duration_ms: int) -> int:
    """The interval of a duration."""
    doublings = max(0, duration_ms.bit_length() - _LEADING_BITS)
    return doublings * _TO_A_DOUBLING + (duration_ms >> doublings)


def least_of(interval: int) -> int:
    """The least duration of an interval, in milliseconds."""
    doublings = _doublings_of(interval)
    return (interval - doublings * _TO_A_DOUBLING) << doublings


def _middle_of(interval: int) -> int:
    return least_of(interval) + ((1 << _doublings_of(interval)) - 1) // 2


def _doublings_of(interval: int) -> int:
    return max(0, interval // _TO_A_DOUBLING - 1)
