"""Writing down what happens to a workflow's runs, and reading back what happened before.

Everything here meets databases that can be away. The rule: a run never fails because of them; what could not be
written is logged, kept, and written at the next invocation.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import structlog

from autopilot.core.history import RunHistory
from autopilot.core.journal import RunJournal, RunStart
from autopilot.core.run_log import RunLogService, read_past
from autopilot.errors import PayloadConflict, RunStartFailed, RunSuperseded
from autopilot.models import RunStatus, WorkflowRun

HYDRATION_SECONDS = 10.0
"""What reading the past may take. A run never waits longer for it."""

SAVE_SECONDS = 10.0
"""What writing down a start or an ending may take."""

T = TypeVar("T")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """What came of one trigger, and how durable it is."""

    run: WorkflowRun
    replayed: bool = False
    """The run was there before: this is its record, and nothing was executed."""
    start_recorded: bool = False
    """The run's start is in the journal."""
    persisted: bool = False
    """The run log has the run as it is here."""
    superseded: bool = False
    """A newer attempt holds the run: what was done here is not part of it."""


class RunRecorder:
    """The records of one instance of a workflow: its history in memory, its run log, its journal.

    Args:
        workflow_id: the workflow's name.
        run_log: gives the run log, at each use.
        journal: gives the journal, at each use; None when there is only a run log.
        new_id: gives random ids.
    """

    def __init__(
        self,
        workflow_id: str,
        *,
        run_log: Callable[[], RunLogService],
        journal: Callable[[], RunJournal] | None,
        new_id: Callable[[], str],
    ) -> None:
        self._workflow_id = workflow_id
        self._run_log = run_log
        self._journal = journal
        self._new_id = new_id
        self.history = RunHistory()
        self.is_hydrated = False

    async def hydrate(self) -> None:
        """Read the past into the history; a failure is logged as ``run_log_hydration_skipped``."""
        try:
            async with asyncio.timeout(HYDRATION_SECONDS):
                self.history.hydrate(*await read_past(self._run_log(), self._workflow_id))
        except Exception as error:  # noqa: BLE001 - the run boundary: runs go on without their past
            log.warning("run_log_hydration_skipped", workflow=self._workflow_id, error=reason_of(error))
            return
        self.is_hydrated = True
        known = self.history.stats
        log.info(
            "run_log_hydrated",
            workflow=self._workflow_id,
            total_runs=known["total"],
            successful_runs=known["successful"],
        )

    async def start(self, run: WorkflowRun, *, lease: timedelta, counter_shards: int, required: bool) -> RunOutcome:
        """Record that ``run`` exists, unless its id is taken: then the outcome is the record of that run.

        A failure is logged as ``run_log_start_failed``.

        Raises:
            RunStartFailed: it is ``required`` and could not be recorded.
            PayloadConflict: the run that has the id was started with another payload.
        """
        if self._journal is None:
            self.history.begin(run.id, recorded=None, created=True)
            return RunOutcome(run=run)
        start = RunStart(
            run=run, owner=self._new_id(), nonce=self._new_id(), lease=lease, counter_shards=counter_shards
        )
        try:
            async with asyncio.timeout(SAVE_SECONDS):
                recorded = await self._journal().start_run(start)
        except Exception as error:  # the run boundary: a run goes on without its start, unless that is required
            log.warning("run_log_start_failed", workflow=self._workflow_id, run_id=run.id, error=reason_of(error))
            if required:
                raise RunStartFailed(self._workflow_id, run.id) from error
            self.history.begin(run.id, recorded=None, created=True)
            return RunOutcome(run=run)
        if recorded.created:
            self.history.begin(run.id, recorded=run.status, created=True)
            return RunOutcome(run=recorded.run, start_recorded=True)
        if recorded.run.payload_hash not in {None, run.payload_hash}:
            raise PayloadConflict(run.id)
        return RunOutcome(run=recorded.run, replayed=True, start_recorded=True, persisted=True)

    async def finish(self, outcome: RunOutcome, error: BaseException | None) -> RunOutcome:
        """Take a run that ended into the history and save it, then log ``workflow_run_completed``.

        Once begun, it goes on to its end even when the caller is cancelled.
        """
        return await uninterrupted(self._finish(outcome, error))

    async def _finish(self, outcome: RunOutcome, error: BaseException | None) -> RunOutcome:
        run = outcome.run
        self.history.end(run)
        try:
            outcome = replace(outcome, persisted=await self._save(run))
        except RunSuperseded as newer:
            self._give_up(newer)
            outcome = replace(outcome, superseded=True)
        _log_completed(run, error)
        return outcome

    async def save_unsaved(self) -> None:
        """Save again what could not be saved before; stops at the first failure."""
        for run in self.history.unsaved():
            try:
                if not await self._save(run):
                    return
            except RunSuperseded as newer:
                self._give_up(newer)

    async def _save(self, run: WorkflowRun) -> bool:
        try:
            async with asyncio.timeout(SAVE_SECONDS):
                await self._run_log().save_run(run)
        except RunSuperseded:
            raise
        except Exception as error:  # noqa: BLE001 - the run boundary: the run is saved again at the next invocation
            log.warning("run_log_persist_failed", workflow=run.workflow_id, run_id=run.id, error=reason_of(error))
            self._drop_what_is_too_much()
            return False
        self.history.saved(run.id)
        return True

    def _drop_what_is_too_much(self) -> None:
        for dropped in self.history.drop_oldest_unsaved():
            log.error("run_log_unsaved_run_dropped", workflow=dropped.workflow_id, run_id=dropped.id)

    def _give_up(self, newer: RunSuperseded) -> None:
        self.history.withdraw(newer.run_id)
        log.warning(
            "workflow_run_superseded",
            workflow=self._workflow_id,
            run_id=newer.run_id,
            attempt=newer.attempt,
            stored_attempt=newer.stored_attempt,
        )


def reason_of(error: BaseException) -> str:
    """One line that says what went wrong, for a log."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work`` to its end; a cancellation that arrives meanwhile is raised afterwards."""
    task = asyncio.ensure_future(work)
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None:
        raise cancellation
    return task.result()


def _log_completed(run: WorkflowRun, error: BaseException | None) -> None:
    told = {
        "workflow": run.workflow_id,
        "run_id": run.id,
        "status": run.status.value,
        "duration_ms": run.duration_ms,
        "attempt": run.attempt,
    }
    if run.status is RunStatus.FAILED:
        log.error("workflow_run_completed", **told, error_type=run.error_type, exc_info=error)
    elif run.status is RunStatus.SKIPPED:
        log.info("workflow_run_completed", **told, reason=run.error)
    else:
        log.info("workflow_run_completed", **told)
