"""The policy of every store, written once: a store below this implements primitives, whose names begin with ``_``.

What a contract says of ids, pages, cursors and the state of a run stands here. What must be atomic is the store's: a
run changes by a decision that the store commits only if the run is still as it was when the decision was made::

    read the run ──► decide ──► commit ──► outcome
          ▲                       │
          └── it has changed ◄────┘

SQLite keeps its write lock from the reading to the commit and never goes back; Firestore guards the commit with the
version of the document that was read.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from autopilot.core.clock import Clock
from autopilot.core.runs.activity import ActivityCounts, bucket_range
from autopilot.core.runs.cursor import RunPosition, decode_cursor, encode_cursor
from autopilot.core.runs.limits import check_page_size
from autopilot.core.runs.transitions import cancelled, claimed, may_claim, stats_of
from autopilot.core.steps.keys import is_step
from autopilot.core.store import (
    ActivityBucket,
    BucketSize,
    ClaimOutcome,
    Lease,
    RunChange,
    RunClaim,
    RunFilter,
    RunStart,
    StartOutcome,
    StepRecord,
    Store,
)
from autopilot.errors import RunStateConflict
from autopilot.models import RunStats, RunStatus, WorkflowRun, is_run_id, is_workflow_name

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run as it was read, with what its journal needs."""

    run: WorkflowRun
    owner: str | None
    incarnation: str | None
    lease_ends_at: datetime | None
    """When the lease of the last attempt ends, by the store's time. None: no attempt ever held the run."""
    claimed_from: RunStatus | None = None
    """The status in which that attempt found the run, where the store keeps it."""
    read_at: datetime
    """The store's time at the reading."""

    @property
    def is_expired(self) -> bool:
        """True if the run counts as absent: a database may remove what has expired long after that."""
        return self.run.expires_at is not None and self.run.expires_at <= self.read_at

    @property
    def is_due(self) -> bool:
        """True if nobody holds the run and it is not over: its lease, sleep or wait has ended."""
        run, is_running = self.run, self.run.status is RunStatus.RUNNING
        if run.status.is_terminal:
            return False
        if run.due_at is None:  # running without a lease: there is nobody to be fenced off
            return is_running
        lease_ends_at = self.lease_ends_at if is_running else None
        return (lease_ends_at or run.due_at) <= self.read_at

    @property
    def left_of_lease(self) -> timedelta:
        """The time for which an attempt still holds the run."""
        if self.run.status is not RunStatus.RUNNING or self.lease_ends_at is None:
            return timedelta(0)
        return max(timedelta(0), self.lease_ends_at - self.read_at)

    def check_removable(self) -> None:
        """Raise unless the run is over and no attempt can still be at work.

        An attempt whose run was cancelled works until it notices; if it found no record then, it would save its end as
        a new run.

        Raises:
            RunStateConflict: the run cannot be removed now.
        """
        status = self.run.status
        if not status.is_terminal:
            raise RunStateConflict(self.run.id, status, "removed")
        if status is RunStatus.CANCELLED and self.lease_ends_at is not None and self.read_at < self.lease_ends_at:
            raise RunStateConflict(self.run.id, status, "removed before the lease of its last attempt ends")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWrite:
    """A run to be written, with the marks of the attempt that holds it from this commit on."""

    run: WorkflowRun
    owner: str
    incarnation: str | None
    lease_duration: timedelta
    counter_shards: int = 0
    """Of a new run; one that exists keeps its counter."""


@dataclass(frozen=True, slots=True)
class Decision(Generic[T]):
    """The outcome of a call, and the commit that it takes, if any."""

    outcome: T
    write: RunWrite | None = None
    is_own: bool = False
    """The stored run was written by this very call, in a commit whose answer was lost."""


Decide = Callable[[StoredRun | None], Decision[T]]


class BaseStore(Store):
    """Run log, journal and archive above the primitives of one database.

    Args:
        clock: the store's time, as far as it is not a server's.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    # Run log

    async def get_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        return await self._read_run(workflow_id, run_id) if _are_ids(workflow_id, run_id) else None

    async def list_runs(
        self, workflow_id: str, *, limit: int = 50, start_after: str | None = None, status: RunStatus | None = None
    ) -> tuple[list[WorkflowRun], str | None]:
        wanted = RunFilter(workflow_id=workflow_id, status=status)
        return await self.find_runs(wanted, limit=limit, start_after=start_after)

    async def get_stats(self, workflow_id: str) -> RunStats:
        return stats_of(await self._read_counts(workflow_id) if is_workflow_name(workflow_id) else {})

    async def get_latest_run(self, workflow_id: str) -> WorkflowRun | None:
        wanted = RunFilter(workflow_id=workflow_id)
        found = await self._list(f"reading the latest run of {workflow_id}", wanted, limit=1, whole=True)
        return found[0] if found else None

    async def get_paused_runs(self) -> list[WorkflowRun]:
        return await self._list("reading paused runs", RunFilter(status=RunStatus.PAUSED))

    # Journal

    async def start_run(self, start: RunStart) -> StartOutcome:
        run = start.run
        if run.status is RunStatus.RUNNING:
            run = run.model_copy(update={"due_at": self._clock.now() + start.lease_duration})

        def decide(stored: StoredRun | None) -> Decision[StartOutcome]:
            if stored is not None and stored.owner == start.owner:
                return Decision(StartOutcome(run=stored.run, created=True), is_own=True)
            if stored is not None and not stored.is_expired:
                found = StartOutcome(run=stored.run, created=False, is_due=stored.is_due, version=stored)
                return Decision(found)
            write = RunWrite(
                run=run,
                owner=start.owner,
                incarnation=start.incarnation,
                lease_duration=start.lease_duration,
                counter_shards=start.counter_shards,
            )
            return Decision(StartOutcome(run=run, created=True), write)

        return await self._change_run(f"starting run {run.id}", run.workflow_id, run.id, decide, None, creates=True)

    async def claim_run(
        self, workflow_id: str, run_id: str, claim: RunClaim, *, version: object = None
    ) -> ClaimOutcome | None:
        known = version if isinstance(version, StoredRun) else None
        if known is not None and not may_claim(known.run, is_due=known.is_due, is_retry=claim.begin_again is not None):
            known = None  # it may have become due since

        def decide(stored: StoredRun | None) -> Decision[ClaimOutcome | None]:
            if stored is None or stored.is_expired:
                return Decision(None)
            run, before = stored.run, stored.run.status
            lease = Lease(
                workflow_id=workflow_id,
                run_id=run_id,
                attempt=run.attempt,
                owner=claim.owner,
                incarnation=stored.incarnation or claim.incarnation,
            )
            if stored.owner == claim.owner and before is RunStatus.RUNNING:
                found = ClaimOutcome(run=run, before=stored.claimed_from or before, lease=lease)
                return Decision(found, is_own=True)
            is_another = claim.after_attempt not in {None, run.attempt}
            if is_another or not may_claim(run, is_due=stored.is_due, is_retry=claim.begin_again is not None):
                return Decision(ClaimOutcome(run=run, before=before, lease=None))
            run = claimed(run, claim, now=self._clock.now())
            lease = replace(lease, attempt=run.attempt)
            write = RunWrite(
                run=run, owner=claim.owner, incarnation=lease.incarnation, lease_duration=claim.lease_duration
            )
            return Decision(ClaimOutcome(run=run, before=before, lease=lease), write)

        return await self._decide(f"claiming run {run_id}", workflow_id, run_id, decide, known)

    # Archive

    async def find_runs(
        self, wanted: RunFilter, *, limit: int = 50, start_after: str | None = None
    ) -> tuple[list[WorkflowRun], str | None]:
        check_page_size(limit)
        after = None if start_after is None else decode_cursor(start_after, wanted)
        # One run more than the page has: it tells whether anything follows.
        found = await self._list("listing runs", wanted, after=after, limit=limit + 1)
        page = found[:limit]
        return page, encode_cursor(page[-1], wanted) if len(found) > limit else None

    async def get_run_steps(self, workflow_id: str, run_id: str) -> list[StepRecord]:
        steps = await self._read_run_steps(workflow_id, run_id) if _are_ids(workflow_id, run_id) else []
        own = (step for step in steps if is_step(step.key))
        return sorted(own, key=lambda step: (step.started_at, step.key))

    async def get_activity(
        self, workflow_id: str, *, since: datetime, until: datetime, size: BucketSize
    ) -> list[ActivityBucket]:
        starts = bucket_range(since, until, size)
        if starts is None or not is_workflow_name(workflow_id):
            return []
        first, last = starts
        counted = await self._read_activity(workflow_id, first, last, size)
        buckets = (counts.bucket(start) for start, counts in counted if first <= start <= last)
        return [bucket for bucket in buckets if bucket is not None]

    async def delete_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        return await self._remove_run(workflow_id, run_id) if _are_ids(workflow_id, run_id) else None

    async def request_cancel(
        self, workflow_id: str, run_id: str, *, owner: str, retention: timedelta | None = None
    ) -> WorkflowRun | None:
        def decide(stored: StoredRun | None) -> Decision[WorkflowRun | None]:
            if stored is None:
                return Decision(None)
            if stored.owner == owner:
                return Decision(stored.run, is_own=True)
            if stored.run.status.is_terminal:
                raise RunStateConflict(run_id, stored.run.status, "cancelled")
            run = cancelled(stored.run, now=self._clock.now(), retention=retention)
            write = RunWrite(run=run, owner=owner, incarnation=stored.incarnation, lease_duration=stored.left_of_lease)
            return Decision(run, write)

        return await self._decide(f"cancelling run {run_id}", workflow_id, run_id, decide)

    async def read_changes(self, after: str, *, limit: int = 100) -> list[RunChange]:
        check_page_size(limit)
        return await self._read_changes(after, limit)

    async def _decide(
        self, doing: str, workflow_id: str, run_id: str, decide: Decide[T], known: StoredRun | None = None
    ) -> T:
        if not _are_ids(workflow_id, run_id):
            return decide(None).outcome
        return await self._change_run(doing, workflow_id, run_id, decide, known, creates=False)

    async def _list(
        self,
        doing: str,
        wanted: RunFilter,
        *,
        after: RunPosition | None = None,
        limit: int | None = None,
        whole: bool = False,
    ) -> list[WorkflowRun]:
        if wanted.workflow_id is not None and not is_workflow_name(wanted.workflow_id):
            return []
        if wanted.since is not None and wanted.until is not None and wanted.since >= wanted.until:
            return []  # a query that Firestore refuses
        return await self._find_runs(doing, wanted, after=after, limit=limit, whole=whole)

    # Primitives: ids are well-formed, limits are in range.

    @abstractmethod
    async def _change_run(
        self, doing: str, workflow_id: str, run_id: str, decide: Decide[T], known: StoredRun | None, *, creates: bool
    ) -> T:
        """Commit the decision on the stored run, statistics and activity included, and return its outcome.

        Nothing is committed unless the run is still as it was decided on; if it is not, ``decide``, which must be
        pure, is called again with what is stored then. So is it after a commit whose answer was lost.

        Args:
            doing: for error messages.
            known: the run as it was read before, which may be decided on first, without reading.
            creates: the decision is to write a new run. It is taken for an absent run first, without reading. A run
                that it replaces stays counted. Otherwise it is to write the next attempt of the stored run, and the
                attempt before is fenced off in the same commit.
        """

    @abstractmethod
    async def _remove_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        """Remove a run, which must be removable, and its steps; see :meth:`RunArchive.delete_run`."""

    @abstractmethod
    async def _read_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None: ...

    @abstractmethod
    async def _find_runs(
        self, doing: str, wanted: RunFilter, *, after: RunPosition | None, limit: int | None, whole: bool
    ) -> list[WorkflowRun]:
        """The first ``limit`` runs after a position in the list of those wanted; None: all.

        Args:
            whole: with payloads and results. Without them they are not even read.
        """

    @abstractmethod
    async def _read_counts(self, workflow_id: str) -> Mapping[str, int]:
        """The number of runs of a workflow in each status."""

    @abstractmethod
    async def _read_run_steps(self, workflow_id: str, run_id: str) -> list[StepRecord]:
        """The steps of a run's present incarnation, in any order."""

    @abstractmethod
    async def _read_activity(
        self, workflow_id: str, first: datetime, last: datetime, size: BucketSize
    ) -> Iterable[tuple[datetime, ActivityCounts]]:
        """At least the buckets that start from ``first`` to ``last``, in the order of time."""

    @abstractmethod
    async def _read_changes(self, after: str, limit: int) -> list[RunChange]: ...


def _are_ids(workflow_id: str, run_id: str) -> bool:
    """Return True if there can be such a run; a malformed id is unknown and not an error."""
    return is_workflow_name(workflow_id) and is_run_id(run_id)
