"""The archive: what people ask of the records of all workflows, beyond what the workflows themselves need."""

from dataclasses import dataclass
from datetime import datetime
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
    """The records of all workflows, to look at and to tidy. Deadlines and errors are those of the run log."""

    async def find_runs(
        self, wanted: RunFilter, *, limit: int = 50, start_after: str | None = None
    ) -> tuple[list[WorkflowRun], str | None]:
        """One page of the runs that ``wanted`` describes, and the cursor of the next.

        Order, cursors and errors as :meth:`~autopilot.core.run_log.RunLogService.list_runs`; of equal times the ids
        of all workflows are compared, then their names. The store filters: a page is short only at the end.
        """
        ...

    async def get_run_steps(self, workflow_id: str, run_id: str) -> list[StepRecord]:
        """Everything recorded of a run's steps, by ``started_at``, then key; nothing for an unknown run."""
        ...

    async def get_activity(
        self, workflow_id: str, *, since: datetime, until: datetime, size: BucketSize
    ) -> list[ActivityBucket]:
        """What ended from ``since`` to ``until``, in buckets in the order of time; empty ones are left out.

        Kept up to date in the same atomic commits as the runs, so that reading it costs the buckets asked for, never
        the runs. Removing runs does not change it.
        """
        ...

    async def delete_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        """Remove a run that is over, and its steps; lifetime statistics and activity stay.

        Returns:
            The run that was removed; None if there is none.

        Raises:
            RunStateConflict: it is not over.
        """
        ...

    async def request_cancel(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        """Cancel a run: it becomes ``cancelled`` in one atomic commit that also fences off the attempt that holds it.

        The attempt notices at its next step, or when it saves its end: nothing that it writes from here on counts.

        Returns:
            The cancelled run; None if there is none.

        Raises:
            RunStateConflict: it is over already.
        """
        ...

    async def read_changes(self, after: str | None, *, limit: int = 100) -> list[RunChange]:
        """The runs that were written after a position, in the order of their last write; each run at most once.

        ``after`` None gives nothing but the latest change, as the position to begin from. A position that is
        malformed is :class:`~autopilot.errors.CursorInvalid`.
        """
        ...

    async def check_connection(self) -> None:
        """Return when the store answers.

        Raises:
            StoreError: it does not.
        """
        ...
