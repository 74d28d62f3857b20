"""The archive: what people ask of the records of all workflows, beyond what the workflows themselves need."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from autopilot.core.journal import StepRecord
from autopilot.models import RunStatus, TriggerType, WorkflowRun


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs are asked for. None does not restrict."""

    workflow_id: str | None = None
    status: RunStatus | None = None
    trigger_type: TriggerType | None = None
    since: datetime | None = None
    """``started_at`` at or after."""
    until: datetime | None = None
    """``started_at`` before."""


class BucketSize(StrEnum):
    """What a bucket of activity spans: from the full hour, or from midnight UTC."""

    HOUR = "hour"
    DAY = "day"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityBucket:
    """What ended in one hour or day."""

    start: datetime
    by_status: dict[str, int]
    """Runs that reached a terminal status in it, by that status."""
    duration_ms: dict[str, int]
    """Percentiles of the durations of those that succeeded or failed: ``p50``, ``p95``, ``max``; empty with none.

    From logarithmic buckets: an answer is at most 10 % off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunChange:
    """A run as it was left by a write."""

    position: str
    """Where it stands in the order of changes; opaque. Feeding it back gives what came after."""
    run: WorkflowRun


class RunArchive(Protocol):
    """The records of all workflows, to look at and to tidy. Deadlines and errors are those of the run log.

    A workflow id or run id that is malformed is simply unknown. Times are aware.
    """

    async def find_runs(
        self, wanted: RunFilter, *, limit: int = 50, start_after: str | None = None
    ) -> tuple[list[WorkflowRun], str | None]:
        """One page of the runs that ``wanted`` describes, and the cursor of the next.

        Order, cursors and errors as :meth:`~autopilot.core.run_log.RunLogService.list_runs`, and a cursor belongs to
        one ``wanted``. Which of two workflows' runs of one microsecond comes first is the store's choice, always the
        same. The store filters: a page is short only at the end, and costs its own runs, however many there are.
        """
        ...

    async def get_run_steps(self, workflow_id: str, run_id: str) -> list[StepRecord]:
        """Everything recorded of a run's steps, by ``started_at``, then key; nothing for an unknown run.

        A predecessor that had the same run id has none of its steps here.
        """
        ...

    async def get_activity(
        self, workflow_id: str, *, since: datetime, until: datetime, size: BucketSize
    ) -> list[ActivityBucket]:
        """What ended in every bucket that has a part in the time from ``since`` to before ``until``.

        Buckets are whole, in the order of time, and left out when they are empty. They are kept up to date in the same
        atomic commits as the runs, so that reading them costs their hours, never the runs. A run counts in the hour of
        its ``completed_at``; one that is reopened counts no more until it ends again. Removing runs changes nothing.
        What is older than :data:`~autopilot.core.activity.ACTIVITY_KEPT` may be gone.
        """
        ...

    async def delete_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        """Remove a run that is over, and its steps; lifetime statistics and activity stay.

        The run goes first, in one commit that fails if it was reopened meanwhile. A crash after that leaves steps
        that nobody can read and that expire by themselves; never a run that could be reopened without its steps.

        Returns:
            The run that was removed; None if there is none.

        Raises:
            RunStateConflict: it is not over. Or it was cancelled, and the lease of the attempt that held it is not
                over: an attempt that still works would save its end as a new run.
        """
        ...

    async def request_cancel(
        self, workflow_id: str, run_id: str, *, owner: str, retention: timedelta | None = None
    ) -> WorkflowRun | None:
        """Cancel a run: it becomes ``cancelled`` in one atomic commit that also fences off the attempt that holds it.

        The attempt notices at its next step, or when it saves its end: nothing that it writes from here on counts.

        Args:
            owner: a random mark of this call: a commit whose answer was lost is recognised by it.
            retention: how long the run is kept from now on. None keeps it.

        Returns:
            The cancelled run, with the next attempt's number; None if there is none.

        Raises:
            RunStateConflict: it is over already.
        """
        ...

    async def get_last_position(self) -> str:
        """The position from which :meth:`read_changes` gives what happens from now on."""
        ...

    async def read_changes(self, after: str, *, limit: int = 100) -> list[RunChange]:
        """The runs that were written after a position, in the order of their last write; each run at most once.

        A change can be told a little later than it was made. Runs that were removed are not told of.

        Args:
            after: the position of a change, or :meth:`get_last_position`.
            limit: 1 to 1,000 changes.

        Raises:
            CursorInvalid: the position is none of this store's.
            ValueError: ``limit`` is out of range.
        """
        ...

    async def check_connection(self) -> None:
        """Return when the store answers.

        Raises:
            StoreError: it does not.
        """
        ...


def get_run_archive() -> RunArchive:
    """The archive of the default run log's store (see :func:`autopilot.core.run_log.get_run_log_service`)."""
    from autopilot.storage import process_store

    return process_store()
