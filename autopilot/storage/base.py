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
from autopilot.core.runs.transitions import cancelled, check_removable, claimed, is_due, may_claim, stats_of
from autopilot.core.store import (
    ActivityBucket,
    BucketSize,
    ClaimOutcome,
    Lease,
    RunChange,
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
        """Whether the run counts as absent: a database may remove what has expired long after that."""
        return self.run.expires_at is not None and self.run.expires_at <= self.read_at

    @property
    def is_due(self) -> bool:
        """Whether nobody holds the run and it is not over."""
        run = self.run
        if run.status is RunStatus.RUNNING and run.due_at is not None and self.lease_ends_at is not None:
            run = run.model_copy(update={"due_at": self.lease_ends_at})
        return is_due(run, self.read_at)

    @property
    def left_of_lease(self) -> timedelta:
        """How long an attempt still holds the run."""
        if self.run.status is not RunStatus.RUNNING or self.lease_ends_at is None:
            return timedelta(0)
        return max(timedelta(0), self.lease_ends_at - self.read_at)


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
    """What a call returns, and the commit without which it must not."""

    outcome: T
    write: RunWrite | None = None
    is_own: bool = False
    """The stored run is what an earlier commit of this very call left, whose answer was lost."""


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
        found = await self._list(f"reading the latest run of {workflow_id}", wanted, limit=1)
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

        return await self._change_run(f"starting run {run.id}", run.workflow_id, run.id, decide, creates=True)

    async def claim_run(
        self,
        workflow_id: str,
        run_id: str,
        *,
        owner: str,
        incarnation: str,
        lease_duration: timedelta,
        reopen: bool = False,
        version: object = None,
        revision: str | None = None,
    ) -> ClaimOutcome | None:
        known = version if isinstance(version, StoredRun) else None
        if known is not None and not may_claim(known.run, due=known.is_due, reopen=reopen):
            known = None  # it may have become due since

        def decide(stored: StoredRun | None) -> Decision[ClaimOutcome | None]:
            if stored is None or stored.is_expired:
                return Decision(None)
            run, before = stored.run, stored.run.status
            lease = Lease(
                workflow_id=workflow_id,
                run_id=run_id,
                attempt=run.attempt,
                owner=owner,
                incarnation=stored.incarnation or incarnation,
            )
            if stored.owner == owner and before is RunStatus.RUNNING:
                found = ClaimOutcome(run=run, before=stored.claimed_from or before, lease=lease)
                return Decision(found, is_own=True)
            if not may_claim(run, due=stored.is_due, reopen=reopen):
                return Decision(ClaimOutcome(run=run, before=before, lease=None))
            now = self._clock.now()
            run = claimed(run, now=now, due_at=now + lease_duration, revision=revision)
            lease = replace(lease, attempt=run.attempt)
            write = RunWrite(run=run, owner=owner, incarnation=lease.incarnation, lease_duration=lease_duration)
            return Decision(ClaimOutcome(run=run, before=before, lease=lease), write)

        return await self._decide(f"claiming run {run_id}", workflow_id, run_id, decide, known=known)

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
        return sorted(steps, key=lambda step: (step.started_at, step.key))

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
        def check(stored: StoredRun) -> None:
            check_removable(stored.run, lease_ends_at=stored.lease_ends_at, now=stored.read_at)

        return await self._remove_run(workflow_id, run_id, check) if _are_ids(workflow_id, run_id) else None

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
        self,
        doing: str,
        workflow_id: str,
        run_id: str,
        decide: Callable[[StoredRun | None], Decision[T]],
        known: StoredRun | None = None,
    ) -> T:
        if not _are_ids(workflow_id, run_id):
            return decide(None).outcome
        return await self._change_run(doing, workflow_id, run_id, decide, known=known)

    async def _list(
        self, doing: str, wanted: RunFilter, *, after: RunPosition | None = None, limit: int | None = None
    ) -> list[WorkflowRun]:
        if wanted.workflow_id is not None and not is_workflow_name(wanted.workflow_id):
            return []
        if wanted.since is not None and wanted.until is not None and wanted.since >= wanted.until:
            return []  # a query that Firestore refuses
        return await self._find_runs(doing, wanted, after=after, limit=limit)

    # Primitives: ids are well-formed, limits are in range.

    @abstractmethod
    async def _change_run(
        self,
        doing: str,
        workflow_id: str,
        run_id: str,
        decide: Callable[[StoredRun | None], Decision[T]],
        *,
        known: StoredRun | None = None,
        creates: bool = False,
    ) -> T:
        """Commit what ``decide`` says of the stored run, with what it counts as and its fence, and return the outcome.

        Nothing is committed unless the run is still as it was decided on; then ``decide`` is called again with what is
        stored now, so that it must be pure. A commit whose answer was lost is looked up and not repeated.

        Args:
            doing: for error messages.
            known: the run as it was read before: decided on first, without reading it again.
            creates: a new run is written, in place of an expired one of the same id if there is one, which stays
                counted. It is decided on as absent first, without reading. Otherwise the run that is stored becomes
                the one that is written, whose attempt is the next one: the attempt before is fenced off.
        """

    @abstractmethod
    async def _remove_run(
        self, workflow_id: str, run_id: str, check: Callable[[StoredRun], None]
    ) -> WorkflowRun | None:
        """Remove a run that passes ``check``, and its steps; see :meth:`delete_run`."""

    @abstractmethod
    async def _read_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None: ...

    @abstractmethod
    async def _find_runs(
        self, doing: str, wanted: RunFilter, *, after: RunPosition | None, limit: int | None
    ) -> list[WorkflowRun]:
        """The first ``limit`` runs after a position in the list of those wanted; None: all."""

    @abstractmethod
    async def _read_counts(self, workflow_id: str) -> Mapping[str, int]:
        """How many runs of a workflow are in each status."""

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
    """Whether there can be such a run: a malformed id is simply unknown."""
    return is_workflow_name(workflow_id) and is_run_id(run_id)
