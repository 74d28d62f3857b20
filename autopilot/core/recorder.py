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
from autopilot.core.journal import RunHold, RunJournal, RunStart, StepRecord
from autopilot.core.run_log import RunLogService, read_past
from autopilot.errors import JournalRequired, PayloadConflict, RunNotFound, RunStartFailed, RunSuperseded
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
    released: str | None = None
    """Why this attempt ended before the run did; another one can go on at once."""
    hold: RunHold | None = None
    """The attempt's hold on the run; None without a journal, or when nothing is to be executed."""


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
        """Record that ``run`` exists, unless its id is taken: then take that run over if nobody holds it any more.

        A failure is logged as ``run_log_start_failed``.

        Returns:
            ``hold`` is set when there is something to execute; ``replayed`` when the run is over or held elsewhere.

        Raises:
            RunStartFailed: it is ``required`` and could not be recorded.
            PayloadConflict: the run that has the id was started with another payload.
            StoreError: the run is there, and could not be taken over.
        """
        if self._journal is None:
            self.history.begin(run.id, recorded=None)
            return RunOutcome(run=run)
        owner, nonce = self._new_id(), self._new_id()
        start = RunStart(run=run, owner=owner, nonce=nonce, lease=lease, counter_shards=counter_shards)
        try:
            async with asyncio.timeout(SAVE_SECONDS):
                found = await self._journal().start_run(start)
        except Exception as error:  # the run boundary: a run goes on without its start, unless that is required
            log.warning("run_log_start_failed", workflow=self._workflow_id, run_id=run.id, error=reason_of(error))
            if required:
                raise RunStartFailed(self._workflow_id, run.id) from error
            self.history.begin(run.id, recorded=None)
            return RunOutcome(run=run)
        if found.created:
            self.history.begin(run.id, recorded=run.status)
            hold = RunHold(workflow_id=run.workflow_id, run_id=run.id, attempt=run.attempt, owner=owner, nonce=nonce)
            return RunOutcome(run=found.run, start_recorded=True, hold=hold)
        if found.run.payload_hash not in {None, run.payload_hash}:
            raise PayloadConflict(run.id)
        if found.is_due:
            return await self.claim(run.id, lease=lease, version=found.version)
        return _replay(found.run)

    async def claim(self, run_id: str, *, lease: timedelta, reopen: bool = False, version: object = None) -> RunOutcome:
        """Take over a run as its next attempt; logs ``workflow_run_claimed``.

        Returns:
            ``hold`` is set when it was taken over; ``replayed`` when it is over or held elsewhere.

        Raises:
            JournalRequired: there is only a run log.
            RunNotFound: there is no such run.
            StoreError: the journal failed.
        """
        if self._journal is None:
            raise JournalRequired("resuming a run")
        async with asyncio.timeout(SAVE_SECONDS):
            found = await self._journal().claim_run(
                self._workflow_id,
                run_id,
                owner=self._new_id(),
                nonce=self._new_id(),
                lease=lease,
                reopen=reopen,
                version=version,
            )
        if found is None:
            raise RunNotFound(self._workflow_id, run_id)
        if found.hold is None:
            return _replay(found.run)
        self.history.begin(run_id, recorded=found.run.status, counted=found.before)
        log.info("workflow_run_claimed", workflow=self._workflow_id, run_id=run_id, attempt=found.run.attempt)
        return RunOutcome(run=found.run, start_recorded=True, hold=found.hold)

    async def read_steps(self, hold: RunHold) -> list[StepRecord]:
        """What earlier attempts recorded; nothing, without asking, for the first."""
        if hold.attempt == 1 or self._journal is None:
            return []
        async with asyncio.timeout(SAVE_SECONDS):
            return await self._journal().read_steps(hold)

    async def finish(self, outcome: RunOutcome, error: BaseException | None = None) -> RunOutcome:
        """Take the ending of an attempt into the history and save it.

        The last thing logged is ``workflow_run_completed``, or ``workflow_run_released`` for a run that goes on in
        another attempt. Once begun, this goes on to its end even when the caller is cancelled.
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
        if outcome.released is None:
            _log_completed(run, error)
        else:
            log.warning(
                "workflow_run_released",
                workflow=run.workflow_id,
                run_id=run.id,
                attempt=run.attempt,
                duration_ms=run.duration_ms,
                reason=outcome.released,
            )
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


def _replay(run: WorkflowRun) -> RunOutcome:
    return RunOutcome(run=run, replayed=True, start_recorded=True, persisted=True)


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
