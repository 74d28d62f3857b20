"""The run log: the durable history of runs and their statistics."""

import asyncio
from typing import Protocol

from autopilot.models import RunStats, RunStatus, WorkflowRun


class RunLogService(Protocol):
    """The durable history of runs, shared by every instance of every workflow.

    Guarantees of every method: it ends within the store's deadline; a failure of the database is
    :class:`~autopilot.errors.StoreUnavailable`; data of a newer Autopilot is
    :class:`~autopilot.errors.StoreVersionUnsupported`. A workflow id or run id that is malformed is simply unknown.
    """

    async def save_run(self, run: WorkflowRun) -> None:
        """Make ``run`` what is stored under its id, and adjust the statistics in the same atomic commit.

        Idempotent: saving a run again, by a retry of any layer, changes nothing and counts nothing twice. A run is
        counted under the one status it has; when the status changes, its count moves.

        - A lower ``attempt`` than the stored one changes nothing and raises.
        - At the same attempt a terminal status is never replaced by one that is not: the call changes nothing.
        - A commit whose answer was lost is looked up and not repeated.

        Raises:
            RunSuperseded: a newer attempt holds the run.
            PayloadTooLarge, ResultTooLarge: the run is over a limit of :mod:`autopilot.core.limits`; nothing was sent.
        """
        ...

    async def get_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        """The run, or None; never another workflow's."""
        ...

    async def list_runs(
        self, workflow_id: str, *, limit: int = 50, start_after: str | None = None, status: RunStatus | None = None
    ) -> tuple[list[WorkflowRun], str | None]:
        """One page of a workflow's runs and the cursor of the next.

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
        """Every ``paused`` run of every workflow, newest ``started_at`` first."""
        ...


async def read_past(run_log: RunLogService, workflow_id: str) -> tuple[RunStats, WorkflowRun | None]:
    """A workflow's statistics and its latest run: two reads, sent together.

    An error of either is raised once both have ended.
    """
    stats, latest = await asyncio.gather(
        run_log.get_stats(workflow_id), run_log.get_latest_run(workflow_id), return_exceptions=True
    )
    if isinstance(stats, BaseException):
        raise stats
    if isinstance(latest, BaseException):
        raise latest
    return stats, latest


def get_run_log_service() -> RunLogService:
    """The run log that the settings name: one per process, opened at the first call, connected at the first use.

    Raises:
        SettingsInvalid: the settings name no store that can be used here.
    """
    # The one import that points upwards, here, in core.journal and in core.run_archive: it keeps the drivers
    # (Firestore's import costs hundreds of milliseconds) off every path that does not use them.
    from autopilot.storage import process_store

    return process_store()


def reset_run_log_service() -> None:
    """Close and forget the process's run log, journal and archive; the next call opens them anew from the settings."""
    from autopilot.storage import reset_process_store

    reset_process_store()
