"""A store in the memory of a test: every promise of a real one, without a file, a thread or a network."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from autopilot.core.clock import Clock, SystemClock
from autopilot.core.runs.activity import ActivityCounts, ActivityEntry, activity_changes, activity_of, bucket_start
from autopilot.core.runs.cursor import RunPosition
from autopilot.core.runs.transitions import count_changes, replaces
from autopilot.core.store import BucketSize, Lease, RunChange, RunFilter, StepRecord
from autopilot.errors import CursorInvalid, RunSuperseded
from autopilot.models import RunStatus, StepStatus, WorkflowRun
from autopilot.storage.base import BaseStore, Decide, RunWrite, StoredRun
from autopilot.storage.encoding import Fields, decode_listed_run, decode_run, decode_step, encode_run, encode_step

T = TypeVar("T")


@dataclass(slots=True)
class _Row:
    """A run as it is kept: as the fields that a database would have, so that nobody shares an object with it."""

    fields: Fields
    position: int
    owner: str | None = None
    incarnation: str | None = None
    lease: timedelta | None = None

    def run(self) -> WorkflowRun:
        return decode_run(self.fields)

    def listed_run(self) -> WorkflowRun:
        return decode_listed_run(self.fields)

    def stored_run(self, now: datetime) -> StoredRun:
        run = self.run()
        lease_ends_at = run.due_at if run.status is RunStatus.RUNNING else None
        if run.completed_at is not None and self.lease is not None:
            lease_ends_at = run.completed_at + self.lease
        return StoredRun(
            run=run, owner=self.owner, incarnation=self.incarnation, lease_ends_at=lease_ends_at, read_at=now
        )


class MemoryStore(BaseStore):
    """Run log, journal and archive in memory, for one event loop at a time; it ends with the process.

    It enforces the limits of every store and obeys the same contract; each call is done when it returns, so that what
    happens does not depend on a thread. It keeps what a database would remove as expired.

    Args:
        clock: the store's time.
    """

    def __init__(self, *, clock: Clock = SystemClock()) -> None:  # noqa: B008 - it has no state
        super().__init__(clock)
        self._runs: dict[tuple[str, str], _Row] = {}
        self._steps: defaultdict[tuple[str, str, str], dict[str, Fields]] = defaultdict(dict)
        self._counts: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._activity: defaultdict[tuple[str, BucketSize, datetime], ActivityCounts] = defaultdict(ActivityCounts)
        self._last_position = 0
        self._ended_sessions: set[str] = set()

    async def save_run(self, run: WorkflowRun) -> None:
        fields = encode_run(run)
        row = self._runs.get((run.workflow_id, run.id))
        stored = None if row is None else row.run()
        if replaces(run, stored):
            if row is None:
                row = self._runs[run.workflow_id, run.id] = _Row(fields, 0)
            row.fields = fields
            self._written(row, run, counted=stored)

    async def read_steps(self, lease: Lease) -> list[StepRecord]:
        return self._steps_of(lease.workflow_id, lease.run_id, lease.incarnation)

    async def record_step(self, lease: Lease, step: StepRecord, *, expires_at: datetime) -> StepRecord:
        fields = encode_step(step)
        row = self._runs.get((lease.workflow_id, lease.run_id))
        attempt = None if row is None else row.fields["attempt"]
        if row is None or (attempt, row.owner, row.incarnation) != (lease.attempt, lease.owner, lease.incarnation):
            raise RunSuperseded(lease.run_id, lease.attempt, lease.attempt if attempt is None else attempt)
        steps = self._steps[lease.workflow_id, lease.run_id, lease.incarnation]
        known = steps.get(step.key)
        if known is not None and known["status"] == StepStatus.SUCCESS and known["round"] >= step.round:
            return decode_step(known)
        steps[step.key] = fields
        return step

    async def get_last_position(self) -> str:
        return str(self._last_position)

    async def end_session(self, session: str, *, expires_at: datetime) -> None:
        self._ended_sessions.add(session)

    async def has_ended(self, session: str) -> bool:
        return session in self._ended_sessions

    async def check_connection(self) -> None:
        """It is always there."""

    def close(self) -> None:
        """It keeps what it has: the next call finds it as it is."""

    async def _change_run(
        self, doing: str, workflow_id: str, run_id: str, decide: Decide[T], known: StoredRun | None, *, creates: bool
    ) -> T:
        row = self._runs.get((workflow_id, run_id))
        stored = None if row is None else row.stored_run(self._clock.now())
        decision = decide(stored)
        if (write := decision.write) is not None:
            self._put(write, counted=None if creates or stored is None else stored.run)
        return decision.outcome

    def _put(self, write: RunWrite, counted: WorkflowRun | None) -> None:
        row = _Row(encode_run(write.run), 0, write.owner, write.incarnation, write.lease_duration)
        self._runs[write.run.workflow_id, write.run.id] = row
        self._written(row, write.run, counted)

    def _written(self, row: _Row, run: WorkflowRun, counted: WorkflowRun | None) -> None:
        self._last_position += 1
        row.position = self._last_position
        counts = self._counts[run.workflow_id]
        for status, by in count_changes(counted.status if counted else None, run.status).items():
            counts[status.value] = counts.get(status.value, 0) + by
        for entry, by in activity_changes(activity_of(counted), activity_of(run)).items():
            self._count(run.workflow_id, entry, by)

    def _count(self, workflow_id: str, entry: ActivityEntry, by: int) -> None:
        for size in BucketSize:
            counts = self._activity[workflow_id, size, bucket_start(entry.hour, size)]
            counts.by_status[entry.status.value] += by
            if entry.interval is not None:
                counts.count_durations(entry.interval, by)

    async def _remove_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        row = self._runs.get((workflow_id, run_id))
        if row is None:
            return None
        stored = row.stored_run(self._clock.now())
        stored.check_removable()
        del self._runs[workflow_id, run_id]
        for place in [place for place in self._steps if place[:2] == (workflow_id, run_id)]:
            del self._steps[place]
        return stored.run

    async def _read_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        row = self._runs.get((workflow_id, run_id))
        return None if row is None else row.run()

    async def _find_runs(
        self, doing: str, wanted: RunFilter, *, after: RunPosition | None, limit: int | None, whole: bool
    ) -> list[WorkflowRun]:
        found = [row for row in self._runs.values() if _is_wanted(row.fields, wanted) and _follows(row.fields, after)]
        found.sort(key=lambda row: _place(row.fields), reverse=True)
        return [row.run() if whole else row.listed_run() for row in found[:limit]]

    async def _read_counts(self, workflow_id: str) -> Mapping[str, int]:
        return dict(self._counts.get(workflow_id, {}))

    async def _read_run_steps(self, workflow_id: str, run_id: str) -> list[StepRecord]:
        row = self._runs.get((workflow_id, run_id))
        if row is None or row.incarnation is None:
            return []
        return self._steps_of(workflow_id, run_id, row.incarnation)

    async def _read_activity(
        self, workflow_id: str, first: datetime, last: datetime, size: BucketSize
    ) -> Iterable[tuple[datetime, ActivityCounts]]:
        return sorted(
            (
                (start, counts)
                for (of, kind, start), counts in self._activity.items()
                if (of, kind) == (workflow_id, size)
            ),
            key=lambda each: each[0],
        )

    async def _read_changes(self, after: str, limit: int) -> list[RunChange]:
        if not (after.isascii() and after.isdecimal()) or int(after) > self._last_position:
            raise CursorInvalid("it is not the position of a change in this store")
        changed = sorted(
            (row for row in self._runs.values() if row.position > int(after)), key=lambda row: row.position
        )
        return [RunChange(position=str(row.position), run=row.listed_run()) for row in changed[:limit]]

    def _steps_of(self, workflow_id: str, run_id: str, incarnation: str) -> list[StepRecord]:
        steps = self._steps.get((workflow_id, run_id, incarnation))
        return [] if steps is None else [decode_step(fields) for fields in steps.values()]


def _place(fields: Fields) -> tuple[datetime, str, str]:
    return fields["started_at"], fields["workflow_id"], fields["id"]


def _follows(fields: Fields, after: RunPosition | None) -> bool:
    return after is None or _place(fields) < (after.started_at, after.workflow_id, after.run_id)


def _is_wanted(fields: Fields, wanted: RunFilter) -> bool:
    return (
        (wanted.workflow_id is None or fields["workflow_id"] == wanted.workflow_id)
        and (wanted.status is None or fields["status"] == wanted.status.value)
        and (wanted.trigger_type is None or fields["trigger_type"] == wanted.trigger_type.value)
        and (wanted.since is None or fields["started_at"] >= wanted.since)
        and (wanted.until is None or fields["started_at"] < wanted.until)
    )
