"""Writing down what happens to a workflow's runs, and reading back what happened before.

Everything here meets databases that can be away. The rule: a run never fails because of them; what could not be
written is logged, kept, and written at the next invocation.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import structlog

from autopilot.core.run_log import read_past
from autopilot.core.runs.history import RunHistory
from autopilot.core.runs.limits import text_of
from autopilot.core.store import Lease, RunJournal, RunLogService, RunStart, StepRecord
from autopilot.errors import (
    JournalRequired,
    PayloadConflict,
    RunNotFound,
    RunStartFailed,
    RunSuperseded,
    StoreUnavailable,
)
from autopilot.models import RunStats, RunStatus, WorkflowRun
from autopilot.observability import traceback_text
from autopilot.settings import service_revision

STORE_SECONDS = 10.0
"""What reading the past, or writing down a start or an ending, may take at most: a run never waits longer for it."""

_HYDRATION_TRIES = 3

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
    lease: Lease | None = None
    """The attempt's hold on the run; None without a journal, or when nothing is to be executed."""
    interruption: BaseException | None = None
    """What interrupted the run and is to be raised again: a cancellation, or KeyboardInterrupt."""


class RunRecorder:
    """The records of one instance of a workflow: its history in memory, its run log, its journal.

    Args:
        workflow_id: the workflow's name.
        run_log: gives the run log, at each use.
        journal: gives the journal, at each use; None when there is only a run log.
        new_id: gives random ids.
        store_seconds: how long a call of run log or journal is waited for.
    """

    def __init__(
        self,
        workflow_id: str,
        *,
        run_log: Callable[[], RunLogService],
        journal: Callable[[], RunJournal] | None,
        new_id: Callable[[], str],
        store_seconds: float = STORE_SECONDS,
    ) -> None:
        self._workflow_id = workflow_id
        self._run_log = run_log
        self._journal = journal
        self._new_id = new_id
        self._store_seconds = store_seconds
        self._writes: set[asyncio.Future[None]] = set()
        self._writes_begun = 0
        self.history = RunHistory()
        self.is_hydrated = False

    async def hydrate(self) -> None:
        """Read the past into the history; a failure is logged as ``run_log_hydration_skipped``."""
        try:
            self._run_log()  # its driver is imported now, if it was not yet: that is not the run log's time to answer
            async with self._answering("run log", "reading the past"):
                self.history.hydrate(*await self._read_past())
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

    async def _read_past(self) -> tuple[RunStats, WorkflowRun | None]:
        # Runs that are under way do not stop for this. What is read while one of them is being written may count it
        # or not, and nothing tells which: such an answer is dropped.
        for _ in range(_HYDRATION_TRIES):
            while self._writes:
                await asyncio.wait(set(self._writes))
            begun = self._writes_begun
            past = await read_past(self._run_log(), self._workflow_id)
            if self._writes_begun == begun:
                return past
        raise _PastUnsettled("this instance's own runs were being written each time")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        done = asyncio.get_running_loop().create_future()
        self._writes.add(done)
        self._writes_begun += 1
        try:
            yield
        finally:
            self._writes.discard(done)
            done.set_result(None)

    async def start(
        self, run: WorkflowRun, *, lease_duration: timedelta, counter_shards: int, is_identified: bool, required: bool
    ) -> RunOutcome:
        """Record that ``run`` exists, unless its id is taken: then take that run over if nobody holds it any more.

        A failure is logged as ``run_log_start_failed``. Without a journal, or with one that is away, a repeated
        trigger is found as far as the run log has the run's ending, or this instance has the run.

        Args:
            is_identified: whether the run's id stands for the identity of its trigger.

        Returns:
            ``replayed`` when the run was there before, and is over or held elsewhere.

        Raises:
            RunStartFailed: it is ``required`` and could not be recorded.
            PayloadConflict: the run that has the id was started with another payload.
            StoreError: the run is there, and could not be taken over.
        """
        if self._journal is None:
            return await self._start_unrecorded(run, look_up=is_identified)
        owner, incarnation = self._new_id(), self._new_id()
        start = RunStart(
            run=run, owner=owner, incarnation=incarnation, lease_duration=lease_duration, counter_shards=counter_shards
        )
        try:
            with self._writing():
                async with self._answering("journal", f"starting run {run.id}"):
                    found = await self._journal().start_run(start)
        except Exception as error:  # the run boundary: a run goes on without its start, unless that is required
            log.warning("run_log_start_failed", workflow=self._workflow_id, run_id=run.id, error=reason_of(error))
            if required:
                raise RunStartFailed(self._workflow_id, run.id) from error
            return await self._start_unrecorded(run, look_up=False)
        if found.created:
            self.history.begin(run, recorded=run.status)
            lease = Lease(
                workflow_id=run.workflow_id, run_id=run.id, attempt=run.attempt, owner=owner, incarnation=incarnation
            )
            return RunOutcome(run=found.run, start_recorded=True, lease=lease)
        replay = _replay(run, found.run, start_recorded=True, persisted=True)
        if found.is_due:
            return await self.claim(run.id, lease_duration=lease_duration, version=found.version)
        return replay

    async def claim(
        self, run_id: str, *, lease_duration: timedelta, reopen: bool = False, version: object = None
    ) -> RunOutcome:
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
        with self._writing():
            async with self._answering("journal", f"claiming run {run_id}"):
                found = await self._journal().claim_run(
                    self._workflow_id,
                    run_id,
                    owner=self._new_id(),
                    incarnation=self._new_id(),
                    lease_duration=lease_duration,
                    reopen=reopen,
                    version=version,
                    revision=service_revision(),
                )
        if found is None:
            raise RunNotFound(self._workflow_id, run_id)
        if found.lease is None:
            return _replay(found.run, found.run, start_recorded=True, persisted=True)
        self.history.begin(found.run, recorded=found.run.status, counted=found.before)
        log.info("workflow_run_claimed", workflow=self._workflow_id, run_id=run_id, attempt=found.run.attempt)
        return RunOutcome(run=found.run, start_recorded=True, lease=found.lease)

    async def read_steps(self, lease: Lease) -> list[StepRecord]:
        """What earlier attempts recorded; nothing, without asking, for the first.

        Raises:
            StoreError: the journal failed.
        """
        if lease.attempt == 1 or self._journal is None:
            return []
        async with self._answering("journal", f"reading the steps of run {lease.run_id}"):
            return await self._journal().read_steps(lease)

    @asynccontextmanager
    async def _answering(self, who: str, doing: str) -> AsyncIterator[None]:
        timeout = asyncio.timeout(self._store_seconds)
        try:
            async with timeout:
                yield
        except TimeoutError as error:
            if not timeout.expired():
                raise
            raise StoreUnavailable(who, doing, f"no answer within {self._store_seconds:g} s") from error

    async def _start_unrecorded(self, run: WorkflowRun, *, look_up: bool) -> RunOutcome:
        stored = await self._find(run) if look_up else None
        if stored is not None and stored.status.is_terminal:
            return _replay(run, stored, persisted=True)
        if (known := self.history.under_way(run.id)) is not None:
            return _replay(run, known)
        self.history.begin(run, recorded=None)
        return RunOutcome(run=run)

    async def _find(self, run: WorkflowRun) -> WorkflowRun | None:
        try:
            async with self._answering("run log", f"reading run {run.id}"):
                return await self._run_log().get_run(run.workflow_id, run.id)
        except Exception as error:  # noqa: BLE001 - the run boundary: a run goes on without its run log
            log.warning("run_log_start_failed", workflow=self._workflow_id, run_id=run.id, error=reason_of(error))
            return None

    async def finish(self, outcome: RunOutcome, error: BaseException | None = None) -> RunOutcome:
        """Take the ending of an attempt into the history and save it.

        The last thing logged is ``workflow_run_completed``, or ``workflow_run_released`` for a run that goes on in
        another attempt. Once begun, this goes on to its end even when the caller is cancelled.
        """
        return await uninterrupted(self._finish(outcome, error))

    async def _finish(self, outcome: RunOutcome, error: BaseException | None) -> RunOutcome:
        run, released = outcome.run, outcome.released
        self.history.end(run)
        try:
            outcome = replace(outcome, persisted=await self._save(run))
        except RunSuperseded as newer:
            self._give_up(run, newer)
            outcome = replace(outcome, superseded=True, released=None)
        if released is None:
            _log_completed(run, error, superseded=outcome.superseded)
        elif not outcome.superseded:
            log.warning(
                "workflow_run_released",
                workflow=run.workflow_id,
                run_id=run.id,
                attempt=run.attempt,
                duration_ms=run.duration_ms,
                reason=released,
            )
        return outcome

    async def save_unsaved(self) -> None:
        """Save again what could not be saved before; stops at the first failure."""
        for run in self.history.unsaved():
            try:
                if not await self._save(run):
                    return
            except RunSuperseded as newer:
                self._give_up(run, newer)

    async def _save(self, run: WorkflowRun) -> bool:
        try:
            with self._writing():
                async with self._answering("run log", f"saving run {run.id}"):
                    await self._run_log().save_run(run)
        except RunSuperseded:
            raise
        except Exception as error:  # noqa: BLE001 - the run boundary: the run is saved again at the next invocation
            log.warning("run_log_persist_failed", workflow=run.workflow_id, run_id=run.id, error=reason_of(error))
            self.history.not_saved(run)
            self._drop_what_is_too_much()
            return False
        self.history.saved(run)
        return True

    def _drop_what_is_too_much(self) -> None:
        for dropped in self.history.drop_oldest_unsaved():
            log.error("run_log_unsaved_run_dropped", workflow=dropped.workflow_id, run_id=dropped.id)

    def _give_up(self, run: WorkflowRun, newer: RunSuperseded) -> None:
        self.history.withdraw(run)
        log.warning(
            "workflow_run_superseded",
            workflow=self._workflow_id,
            run_id=newer.run_id,
            attempt=newer.attempt,
            stored_attempt=newer.stored_attempt,
        )


def reason_of(error: BaseException) -> str:
    """One line that says what went wrong, for a log."""
    text = text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _PastUnsettled(Exception):
    """What the run log says of the past cannot be told from what this instance was writing."""


def _replay(
    run: WorkflowRun, known: WorkflowRun, *, start_recorded: bool = False, persisted: bool = False
) -> RunOutcome:
    """The outcome of a trigger whose run is known already.

    Raises:
        PayloadConflict: that run was started with another payload.
    """
    if known.payload_hash not in {None, run.payload_hash}:
        raise PayloadConflict(run.id)
    return RunOutcome(run=known, replayed=True, start_recorded=start_recorded, persisted=persisted)


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
        raise cancellation from (None if task.cancelled() else task.exception())
    return task.result()


def _log_completed(run: WorkflowRun, error: BaseException | None, *, superseded: bool) -> None:
    told = {
        "workflow": run.workflow_id,
        "run_id": run.id,
        "status": run.status.value,
        "duration_ms": run.duration_ms,
        "attempt": run.attempt,
    }
    if superseded:
        # How the run really ends another attempt says. Nobody is to be woken for what this one came to.
        log.info("workflow_run_completed", **told, superseded=True)
    elif run.status is RunStatus.FAILED:
        trace = {} if error is None else {"exception": traceback_text(error)}
        log.error("workflow_run_completed", **told, error_type=run.error_type, **trace)
    elif run.status is RunStatus.SKIPPED:
        log.info("workflow_run_completed", **told, reason=run.error)
    else:
        log.info("workflow_run_completed", **told)
