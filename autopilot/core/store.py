"""The contracts of every store: run log, journal and archive, and the records that they exchange.

A store is one database seen in three ways. The *run log* is the history of runs and their statistics. The *journal* is
the state from which an unfinished run resumes. The *archive* lists, reads and tidies the runs of all workflows. The
docstrings here are the specification: the stores do not repeat them, and one suite of tests holds every store to them.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from autopilot.models import RunStats, RunStatus, StepStatus, TriggerType, WorkflowRun


class RunLogService(Protocol):
    """The durable history of runs, shared by every instance of every workflow.

    Guarantees of every method: it ends within the store's deadline, or the one that was
    :func:`handed down <autopilot.core.deadline.deadline>` if that is sooner; a failure of the database is
    :class:`~autopilot.errors.StoreUnavailable`; data of a newer Autopilot is
    :class:`~autopilot.errors.StoreVersionUnsupported`. A workflow id or run id that is malformed is simply unknown.
    """

    async def save_run(self, run: WorkflowRun) -> None:
        """Make ``run`` what is stored under its id, and adjust the statistics in the same atomic commit.

        Idempotent: saving a run again, by a retry of any layer, changes nothing and counts nothing twice. A run is
        counted under the one status it has; when the status changes, its count moves.

        - A lower ``attempt`` than the stored one changes nothing and raises; the repetition of a save that was recorded
          before the newer attempt may return instead.
        - At the same attempt a terminal status is never replaced by one that is not: the call changes nothing.
        - A commit whose answer was lost is looked up and not repeated.

        Raises:
            RunSuperseded: a newer attempt holds the run.
            PayloadTooLarge, ResultTooLarge, ResultInvalid: the run does not fit the limits of
                :mod:`autopilot.core.runs.limits`; nothing was sent.
        """
        ...

    async def get_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        """The run, or None; never another workflow's."""
        ...

    async def list_runs(
        self, workflow_id: str, *, limit: int = 50, start_after: str | None = None, status: RunStatus | None = None
    ) -> tuple[list[WorkflowRun], str | None]:
        """One page of a workflow's runs and the cursor of the next.

        As in every list, the runs are without their payloads and results, which may be large and which no list shows:
        ``trigger_data`` is empty, ``result`` is None, and neither is read or decoded. :meth:`get_run` has them. A run
        from a list is never saved.

        Newest ``started_at`` first, ties broken by id (descending), so that walking the cursors meets every run that
        was there at the start exactly once. The cursor is None exactly when nothing follows. It is opaque, and
        belongs to this workflow and this ``status``.

        Args:
            limit: 1 to 1,000 runs.
            start_after: the cursor that came with the page before.
            status: only runs in this status.

        Raises:
            CursorInvalid: the cursor is broken, or of another list.
            ValueError: ``limit`` is out of range.
        """
        ...

    async def get_stats(self, workflow_id: str) -> RunStats:
        """Lifetime statistics; zeros for an unknown workflow."""
        ...

    async def get_latest_run(self, workflow_id: str) -> WorkflowRun | None:
        """The run with the greatest ``started_at`` (of equals, the greatest id), or None; one small read."""
        ...

    async def get_paused_runs(self) -> list[WorkflowRun]:
        """Every ``paused`` run of every workflow, newest ``started_at`` first; without payloads and results."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStart:
    """A run to create, held by its first attempt."""

    run: WorkflowRun
    """The run as it begins: attempt 1; usually ``running``, or already terminal when it is only recorded."""
    owner: str
    """A random mark of this attempt: a commit whose answer was lost is ours only if the stored owner is."""
    incarnation: str
    """A random mark of this run: another run of the same id never reads what is kept beside this one."""
    lease_duration: timedelta
    """The time for which the attempt holds the run, by the store's clock; just over the invocation's deadline."""
    counter_shards: int = 0
    """The number of documents that share the workflow's counters; 0 is one document."""

    @property
    def lease(self) -> "Lease":
        """The first attempt's hold on the run, once the start has created it."""
        return Lease(
            workflow_id=self.run.workflow_id,
            run_id=self.run.id,
            attempt=self.run.attempt,
            owner=self.owner,
            incarnation=self.incarnation,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOutcome:
    """The outcome of a :class:`RunStart`."""

    run: WorkflowRun
    """The run as it is stored: the new one, or the one that was there before."""
    created: bool
    """True: this start created it."""
    is_due: bool = False
    """The run that was there before can be claimed: it is not over, and by the store's time nobody holds it."""
    version: object = field(default=None, compare=False, repr=False)
    """The stored record this was read from. Opaque; it saves a claim a read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """An attempt's hold on a run. Every write of the attempt is checked against it."""

    workflow_id: str
    run_id: str
    attempt: int
    owner: str
    incarnation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunClaim:
    """An attempt's request to take a run over."""

    owner: str
    """A random mark of the new attempt."""
    incarnation: str
    """A random mark for a run that has none."""
    lease_duration: timedelta
    """The time for which the new attempt holds the run, by the store's clock."""
    begin_again: tuple[str, ...] | None = None
    """A person's retry, which also takes a run that failed or was cancelled: in its next round, the steps with these
    digests of their keys begin again. None: no retry."""
    after_attempt: int | None = None
    """The attempt that the run must still be at: what is to begin again was decided on what that one left."""
    version: str | None = None
    fingerprint: str | None = None
    """The manifest's version and the digest of the source of the code that runs from now on; None keeps them."""
    revision: str | None = None
    """The revision of the service in which the new attempt runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimOutcome:
    """The outcome of a claim."""

    run: WorkflowRun
    """The run as it is stored now."""
    before: RunStatus
    """The status it had before; of a claim that is made again it may be ``running``."""
    lease: Lease | None
    """The new attempt's hold; None: the run is over, or another attempt holds it."""


TRIES_KEPT = 10
"""How many tries of a step are kept with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTry:
    """One execution of a step's body."""

    started_at: datetime
    ended_at: datetime
    error: str | None = None
    """None: it succeeded."""
    error_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """The record of a step."""

    key: str
    """The step's full key: its name and key, within its scope. Unique in the run."""
    status: StepStatus
    attempt: int
    """The run's attempt that wrote this."""
    tries: int
    """The number of times its body was begun, in all attempts that recorded it."""
    started_at: datetime
    """The first time at which its body was begun, of the tries in ``history``."""
    ended_at: datetime | None = None
    result: str | None = None
    """JSON text; of a success. Of a fan-out also when it failed: the items that did not succeed."""
    error: str | None = None
    error_type: str | None = None
    round: int = 1
    """The round of the run in which this was written: one more with each retry of the run."""
    error_classes: tuple[str, ...] = ()
    """The names of the error's class and its bases, with their modules, most derived first."""
    failed_within: tuple[str, ...] = ()
    """The digests of the keys of the steps in its body whose failures failed it: a retry begins them again too."""
    compensations: tuple[str, ...] = ()
    """The digests of the keys of the steps that began because of those failures: only a person's retry begins them, and
    this one, again."""
    history: tuple[StepTry, ...] = ()
    """The last tries that ended, oldest first; at most :data:`TRIES_KEPT`."""


class StepHistory(Protocol):
    """The steps of runs, for whoever does not hold them."""

    async def get_run_steps(self, workflow_id: str, run_id: str) -> list[StepRecord]:
        """The recorded steps of a run, by ``started_at``, then key; none for an unknown run.

        Never those of a predecessor that had the same run id.
        """
        ...


class RunJournal(StepHistory, Protocol):
    """The durable state of unfinished runs. Deadlines and errors are those of the run log.

    An attempt holds a run from its start or claim until it ends, its lease ends, or it is saved with a ``due_at``
    that is not in the future. Then, and not before, another attempt can claim it. From that claim on nothing that the
    old attempt writes changes the run or any of its steps.

    ::

        attempt 1   start ──── step a ──── step b ─ ─ ✗ dies            ✗ step c is refused: superseded
                    └───────────── lease of attempt 1 ─────────────┘
        attempt 2                                                   claim ── reads a, b ── step c ──── end
    """

    async def start_run(self, start: RunStart) -> StartOutcome:
        """Record that a run exists, and count it, in one atomic commit; unless its id is taken.

        Of several starts of one id, at once or one after the other, exactly one creates the run; the others get the
        run as it is stored. A run past its ``expires_at`` counts as absent and is replaced. An attempt that is
        recorded as ``running`` gets ``due_at``: the end of its lease.

        A start whose answer was lost is recognised by its owner: calling again with the same :class:`RunStart` says
        ``created`` and counts nothing twice.

        Raises:
            PayloadTooLarge, ResultTooLarge, ResultInvalid: as in :meth:`RunLogService.save_run`.
        """
        ...

    async def claim_run(
        self, workflow_id: str, run_id: str, claim: RunClaim, *, version: object = None
    ) -> ClaimOutcome | None:
        """Take a run over as its next attempt, if :func:`~autopilot.core.runs.transitions.may_claim` allows it.

        Of several claims at once exactly one succeeds. In the same atomic commit the run becomes ``running`` with the
        next attempt's number, its lease begins, and the attempt before is fenced off. A claim whose answer was lost
        is recognised by its owner.

        Args:
            version: the stored record that a start or claim found; saves a read while it is still true.

        Returns:
            None: there is no such run, or it is past its ``expires_at``.
        """
        ...

    async def read_steps(self, lease: Lease) -> list[StepRecord]:
        """The recorded steps of the held run, in no particular order; one query.

        Never those of a predecessor that had the same run id.
        """
        ...

    async def record_step(self, lease: Lease, step: StepRecord, *, expires_at: datetime) -> StepRecord:
        """Record a step in one commit, and return the record that is stored now.

        A success is final within its round: the first one stays, and every later call of that round returns it. Any
        other record is replaced, and so is one of an earlier round. A commit whose answer was lost is looked up and not taken for somebody else's.

        Args:
            expires_at: the time from which the record may be removed, later than the run can need it.

        Raises:
            RunSuperseded: a newer attempt has claimed the run; nothing was changed.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """A selection of runs. None does not restrict it."""

    workflow_id: str | None = None
    status: RunStatus | None = None
    trigger_type: TriggerType | None = None
    since: datetime | None = None
    """``started_at`` at or after."""
    until: datetime | None = None
    """``started_at`` before."""


class BucketSize(StrEnum):
    """The span of a bucket of activity: from the full hour, or from midnight UTC."""

    HOUR = "hour"
    DAY = "day"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityBucket:
    """The runs that ended in one hour or day."""

    start: datetime
    by_status: dict[str, int]
    """Runs that reached a terminal status in it, by that status."""
    duration_ms: dict[str, int]
    """Percentiles of the durations of those that succeeded or failed: ``p50``, ``p95``, ``max``; empty with none.

    From logarithmic intervals: each is at most 10 % off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunChange:
    """A run after its last write."""

    position: str
    """Its position in the order of changes; opaque. :meth:`RunArchive.read_changes` continues after it."""
    run: WorkflowRun
    """Without payload and result."""


class RunArchive(StepHistory, Protocol):
    """The records of all workflows. Deadlines, errors and malformed ids are as in the run log; times are aware."""

    async def find_runs(
        self, wanted: RunFilter, *, limit: int = 50, start_after: str | None = None
    ) -> tuple[list[WorkflowRun], str | None]:
        """One page of the runs that ``wanted`` selects, without payloads and results, and the cursor of the next.

        Order, cursors and errors are as in :meth:`RunLogService.list_runs`, and a cursor belongs to one ``wanted``.
        Runs of one microsecond in different workflows have an order of the store's choice, always the same. The
        database filters: a page is short only at the end, and costs its own runs, however many there are.
        """
        ...

    async def get_activity(
        self, workflow_id: str, *, since: datetime, until: datetime, size: BucketSize
    ) -> list[ActivityBucket]:
        """The activity in every bucket that overlaps the time from ``since`` to before ``until``.

        Buckets are whole, in the order of time, and left out when they are empty. They change in the same atomic
        commits as the runs, so that reading them costs their hours, never the runs. A run counts in the hour of its
        ``completed_at``; one that is reopened does not count until it ends again. Removing runs changes nothing.
        Activity older than :data:`~autopilot.core.runs.activity.ACTIVITY_KEPT` may be gone.
        """
        ...

    async def delete_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        """Remove a run that is over, and its steps; lifetime statistics and activity stay.

        The run goes first, in one commit that fails if it was reopened meanwhile. A crash after that leaves steps
        that no call returns and that expire; never a run that could be reopened without its steps.

        Returns:
            The run that was removed; None if there is none.

        Raises:
            RunStateConflict: it is not over. Or it was cancelled, and the lease of the attempt that held it has not
                ended: an attempt that still works would save its end as a new run.
        """
        ...

    async def request_cancel(
        self, workflow_id: str, run_id: str, *, owner: str, retention: timedelta | None = None
    ) -> WorkflowRun | None:
        """Cancel a run: it becomes ``cancelled`` in one atomic commit that also fences off the attempt that holds it.

        The attempt notices at its next step, or when it saves its end: nothing that it writes from now on counts.

        Args:
            owner: a random mark of this call: a commit whose answer was lost is recognised by it, and a call that is
                repeated with it returns the same run.
            retention: the time for which the run is kept from now on. None keeps it for good.

        Returns:
            The cancelled run, with the next attempt's number; None if there is none.

        Raises:
            RunStateConflict: it is over already.
        """
        ...

    async def get_last_position(self) -> str:
        """The position from which :meth:`read_changes` returns what changes from now on."""
        ...

    async def read_changes(self, after: str, *, limit: int = 100) -> list[RunChange]:
        """The runs that were written after a position, in the order of their last write; each run at most once.

        A change may be reported a little later than it was made. Removed runs are not reported.

        Args:
            after: the position of a change, or :meth:`get_last_position`.
            limit: 1 to 1,000 changes.

        Raises:
            CursorInvalid: it is not a position of this store.
            ValueError: ``limit`` is out of range.
        """
        ...

    async def check_connection(self) -> None:
        """Return once the store answers.

        Raises:
            StoreError: it does not.
        """
        ...


class SignOuts(Protocol):
    """The sessions of browsers that ended before their time. Deadlines and errors are as in the run log."""

    async def end_session(self, session: str, *, expires_at: datetime) -> None:
        """Record that a session has ended. Idempotent.

        Args:
            session: a digest of what identifies it, in hexadecimal digits.
            expires_at: the time at which the session ends by itself; the record may be removed from then on.
        """
        ...

    async def has_ended(self, session: str) -> bool:
        """Whether :meth:`end_session` was called for it, by any process; one small read."""
        ...


class Store(RunLogService, RunJournal, RunArchive, SignOuts, Protocol):
    """One database as run log, journal and archive, and what the API keeps beside them."""

    def close(self) -> None:
        """Release threads, files and connections, without waiting for a network. The next call opens them again."""
        ...
