"""Writing down what happens to a workflow's runs, and reading back what happened before.

Everything here meets databases that can be away. The rule: a run never fails because of them. What could not be
written is logged, kept, and written at the next invocation.
"""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from datetime import timedelta
from itertools import islice

import structlog

from autopilot.core.deadline import deadline, seconds_left, store_call, store_seconds
from autopilot.core.outcome import Ended, Held, Released, Replayed, Superseded
from autopilot.core.run_log import read_past
from autopilot.core.runs.history import RunHistory
from autopilot.core.runs.limits import text_of
from autopilot.core.runtime import Runtime
from autopilot.core.steps.failures import step_failures
from autopilot.core.store import Lease, RunClaim, RunStart, StepRecord
from autopilot.core.tasks import uninterrupted
from autopilot.errors import (
    JournalRequired,
    PayloadConflict,
    RunNotFound,
    RunStartFailed,
    RunSuperseded,
)
from autopilot.models import RunStats, RunStatus, WorkflowManifest, WorkflowRun
from autopilot.observability import traceback_text
from autopilot.settings import service_revision

_HYDRATION_TRIES = 3

_LATE_SHARE = 4
"""The part of its usual time that the commit of an ending has even when the invocation's time is up.

A process that was paused past its deadline tries: the store may answer at once.
"""

_STEPS_SHOWN = 5
"""Of how many steps that failed a run the log of its end has the tracebacks."""

log = structlog.get_logger(__name__)


class RunRecorder:
    """The records of one instance of a workflow: its history in memory, its run log, its journal.

    Args:
        fingerprint: a digest of the source of the workflow's code.
    """

    def __init__(self, manifest: WorkflowManifest, fingerprint: str | None, runtime: Runtime) -> None:
        self._manifest = manifest
        self._workflow_id = manifest.name
        self._fingerprint = fingerprint
        self._runtime = runtime
        self._store_seconds = store_seconds(manifest.timeout_seconds)
        self._writes: set[asyncio.Future[None]] = set()
        self._writes_begun = 0
        self.history = RunHistory()
        self.is_hydrated = False

    async def hydrate(self) -> None:
        """Read the past into the history; a failure is logged as ``run_log_hydration_skipped``."""
        try:
            self._runtime.run_log()  # imports its driver if need be, which is not the run log's time to answer
            async with self._answering("run log", "reading the past"):
                self.history.hydrate(*await self._read_past())
        except Exception as error:  # noqa: BLE001 - the run boundary: runs do without their past
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
            past = await read_past(self._runtime.run_log(), self._workflow_id)
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
        self, run: WorkflowRun, *, lease_duration: timedelta, is_identified: bool, required: bool
    ) -> Held | Replayed:
        """Record that ``run`` exists, unless its id is taken: then take that run over if nobody holds it any more.

        A failure is logged as ``run_log_start_failed``. Without a journal, or with one that is away, a repeated
        trigger is found as far as the run log has the run's ending, or this instance has the run.

        Args:
            is_identified: whether the run's id stands for the identity of its trigger.

        Raises:
            RunStartFailed: it is ``required`` and could not be recorded.
            PayloadConflict: the run that has the id was started with another payload.
            StoreError: the run is there, and could not be taken over.
        """
        if self._runtime.journal is None:
            return await self._start_unrecorded(run, look_up=is_identified)
        start = RunStart(
            run=run,
            owner=self._runtime.new_id(),
            incarnation=self._runtime.new_id(),
            lease_duration=lease_duration,
            counter_shards=self._manifest.counter_shards,
        )
        try:
            with self._writing():
                async with self._answering("journal", f"starting run {run.id}"):
                    found = await self._runtime.journal().start_run(start)
        except Exception as error:  # the run boundary: a run does without its start, unless that is required
            log.warning("run_log_start_failed", workflow=self._workflow_id, run_id=run.id, error=reason_of(error))
            if required:
                raise RunStartFailed(self._workflow_id, run.id) from error
            return await self._start_unrecorded(run, look_up=False)
        if found.created:
            self.history.begin(run, recorded=run.status)
            return Held(run=found.run, lease=start.lease)
        replayed = _replayed(run, found.run, persisted=True)
        if found.is_due:
            return await self.claim(run.id, lease_duration=lease_duration, version=found.version)
        return replayed

    async def claim(
        self,
        run_id: str,
        *,
        lease_duration: timedelta,
        begin_again: tuple[str, ...] | None = None,
        after_attempt: int | None = None,
        version: object = None,
    ) -> Held | Replayed:
        """Take over a run as its next attempt, unless it is over or held elsewhere; logs ``workflow_run_claimed``.

        Args:
            begin_again: a person's retry: the digests of the keys of the steps that begin again.
            after_attempt: the attempt that left the run as the retry saw it; a later one's run is not taken over.
            version: the stored record that a start found.

        Raises:
            JournalRequired: there is only a run log.
            RunNotFound: there is no such run.
            StoreError: the journal failed.
        """
        if self._runtime.journal is None:
            raise JournalRequired("resuming a run")
        claim = RunClaim(
            owner=self._runtime.new_id(),
            incarnation=self._runtime.new_id(),
            lease_duration=lease_duration,
            begin_again=begin_again,
            after_attempt=after_attempt,
            version=self._manifest.version,
            fingerprint=self._fingerprint,
            revision=service_revision(),
        )
        with self._writing():
            async with self._answering("journal", f"claiming run {run_id}"):
                found = await self._runtime.journal().claim_run(self._workflow_id, run_id, claim, version=version)
        if found is None:
            raise RunNotFound(self._workflow_id, run_id)
        if found.lease is None:
            return Replayed(run=found.run, persisted=True)
        self.history.begin(found.run, recorded=found.run.status, counted=found.before)
        log.info("workflow_run_claimed", workflow=self._workflow_id, run_id=run_id, attempt=found.run.attempt)
        return Held(run=found.run, lease=found.lease)

    async def read_run(self, run_id: str) -> tuple[WorkflowRun, list[StepRecord]]:
        """A run as it is now, with the steps of one that ended without success: what a retry decides on.

        Raises:
            JournalRequired: there is only a run log.
            RunNotFound: there is no such run.
            StoreError: the store failed.
        """
        if self._runtime.journal is None:
            raise JournalRequired("retrying a run")
        async with self._answering("run log", f"reading run {run_id}"):
            run = await self._runtime.run_log().get_run(self._workflow_id, run_id)
        if run is None:
            raise RunNotFound(self._workflow_id, run_id)
        if not run.status.is_unsuccessful:
            return run, []
        async with self._answering("journal", f"reading the steps of run {run_id}"):
            return run, await self._runtime.journal().get_run_steps(self._workflow_id, run_id)

    async def read_steps(self, lease: Lease) -> list[StepRecord]:
        """The steps that earlier attempts recorded; of a first attempt none, without asking.

        Raises:
            StoreError: the journal failed.
        """
        if lease.attempt == 1 or self._runtime.journal is None:
            return []
        async with self._answering("journal", f"reading the steps of run {lease.run_id}"):
            return await self._runtime.journal().read_steps(lease)

    async def end(
        self, held: Held, run: WorkflowRun, error: BaseException | None = None, *, is_interruption: bool = False
    ) -> Ended | Superseded:
        """Save ``run``, which ``held`` has become, and take it into the history.

        The last thing logged is ``workflow_run_completed``. Once begun, this is carried through even when the caller is
        cancelled.

        Args:
            error: the exception that ended it.
            is_interruption: ``error`` is to be raised again.
        """
        return await uninterrupted(self._end(held, run, error, is_interruption=is_interruption))

    async def _end(
        self, held: Held, run: WorkflowRun, error: BaseException | None, *, is_interruption: bool
    ) -> Ended | Superseded:
        try:
            persisted = await self._settle(run, at_least=self._store_seconds / _LATE_SHARE)
        except RunSuperseded:
            _log_completed(run, error, superseded=True)
            return Superseded(run=run)
        _log_completed(run, error, superseded=False)
        return Ended(
            run=run,
            persisted=persisted,
            start_recorded=held.lease is not None,
            interruption=error if is_interruption else None,
        )

    async def release(self, run: WorkflowRun, reason: str) -> Released | Superseded:
        """Save ``run`` as one that another attempt can resume at once; logs ``workflow_run_released``.

        Once begun, this is carried through even when the caller is cancelled.
        """
        return await uninterrupted(self._release(run, reason))

    async def _release(self, run: WorkflowRun, reason: str) -> Released | Superseded:
        try:
            persisted = await self._settle(run, at_least=self._store_seconds / _LATE_SHARE)
        except RunSuperseded:
            return Superseded(run=run)
        log.warning(
            "workflow_run_released",
            workflow=run.workflow_id,
            run_id=run.id,
            attempt=run.attempt,
            duration_ms=run.duration_ms,
            reason=reason,
        )
        return Released(run=run, reason=reason, persisted=persisted)

    async def cut_off(self, run: WorkflowRun) -> None:
        """Save ``run`` in a process that ends before its attempt does; logs ``workflow_run_cut_off``.

        Unlike everything else here it may be called in another thread, while the event loop of the attempt is blocked:
        the history is left alone.
        """
        log.warning(
            "workflow_run_cut_off",
            workflow=run.workflow_id,
            run_id=run.id,
            attempt=run.attempt,
            status=run.status.value,
            duration_ms=run.duration_ms,
        )
        try:
            async with self._answering("run log", f"saving run {run.id}"):
                await self._runtime.run_log().save_run(run)
        except Exception as error:  # noqa: BLE001 - the run boundary: the run has its lease to its end
            log.warning("run_log_persist_failed", workflow=run.workflow_id, run_id=run.id, error=reason_of(error))

    def abandon(self, run: WorkflowRun, reason: str) -> None:
        """Forget a run that is nowhere recorded, and that cannot go on like that; logs ``workflow_run_abandoned``."""
        self.history.withdraw(run)
        log.warning("workflow_run_abandoned", workflow=run.workflow_id, run_id=run.id, reason=reason)

    async def save_unsaved(self) -> None:
        """Save again the runs that could not be saved before, in the time of one call; stops at the first failure."""
        clock = self._runtime.clock
        with deadline(clock, clock.monotonic() + min(self._store_seconds, seconds_left())):
            for run in self.history.unsaved():
                if seconds_left() <= 0:
                    return
                with suppress(RunSuperseded):
                    if not await self._settle(run):
                        return

    async def _settle(self, run: WorkflowRun, *, at_least: float = 0.0) -> bool:
        """Save a run and take it into the history; False: it could not be saved, and is kept for another try.

        Raises:
            RunSuperseded: another attempt holds it; that was logged, and nothing of this one counts.
        """
        try:
            with self._writing():
                async with self._answering("run log", f"saving run {run.id}", at_least=at_least):
                    await self._runtime.run_log().save_run(run)
        except RunSuperseded as newer:
            self.history.withdraw(run)
            log.warning(
                "workflow_run_superseded",
                workflow=self._workflow_id,
                run_id=newer.run_id,
                attempt=newer.attempt,
                stored_attempt=newer.stored_attempt,
            )
            raise
        except Exception as error:  # noqa: BLE001 - the run boundary: the run is saved again at the next invocation
            log.warning("run_log_persist_failed", workflow=run.workflow_id, run_id=run.id, error=reason_of(error))
            self._keep_unsaved(run)
            return False
        self.history.settle(run, saved=True)
        return True

    def _keep_unsaved(self, run: WorkflowRun) -> None:
        for dropped in self.history.settle(run, saved=False):
            log.error("run_log_unsaved_run_dropped", workflow=dropped.workflow_id, run_id=dropped.id)

    def _answering(self, who: str, doing: str, *, at_least: float = 0.0) -> AbstractAsyncContextManager[None]:
        return store_call(self._runtime.clock, self._store_seconds, who, doing, at_least=at_least)

    async def _start_unrecorded(self, run: WorkflowRun, *, look_up: bool) -> Held | Replayed:
        stored = await self._find(run) if look_up else None
        if stored is not None and stored.status.is_terminal:
            return _replayed(run, stored, persisted=True)
        if (known := self.history.under_way(run.id)) is not None:
            return _replayed(run, known, persisted=False)
        self.history.begin(run, recorded=None)
        return Held(run=run, lease=None)

    async def _find(self, run: WorkflowRun) -> WorkflowRun | None:
        try:
            async with self._answering("run log", f"reading run {run.id}"):
                return await self._runtime.run_log().get_run(run.workflow_id, run.id)
        except Exception as error:  # noqa: BLE001 - the run boundary: a run does without its run log
            log.warning("run_log_start_failed", workflow=self._workflow_id, run_id=run.id, error=reason_of(error))
            return None


def reason_of(error: BaseException) -> str:
    """One line that says what went wrong, for a log."""
    text = text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _PastUnsettled(Exception):
    """The run log's account of the past cannot be separated from what this instance was writing."""


def _replayed(run: WorkflowRun, known: WorkflowRun, *, persisted: bool) -> Replayed:
    """The outcome of a trigger whose run is known already.

    Raises:
        PayloadConflict: that run was started with another payload.
    """
    if known.payload_hash not in {None, run.payload_hash}:
        raise PayloadConflict(run.id)
    return Replayed(run=known, persisted=persisted)


def _traces_of(error: BaseException) -> str:
    """The traceback of what ended a run, and those of the steps' own exceptions behind it."""
    own = (f"Step {failure.step}:\n\n{failure.trace}" for failure in step_failures(error) if failure.trace)
    return "\n\n".join((traceback_text(error), *islice(own, _STEPS_SHOWN)))


def _log_completed(run: WorkflowRun, error: BaseException | None, *, superseded: bool) -> None:
    fields = {
        "workflow": run.workflow_id,
        "run_id": run.id,
        "status": run.status.value,
        "duration_ms": run.duration_ms,
        "attempt": run.attempt,
    }
    if superseded:
        # Another attempt says how the run really ends. Nobody is to be woken for how this one did.
        log.info("workflow_run_completed", **fields, superseded=True)
    elif run.status is RunStatus.FAILED:
        trace = {} if error is None else {"exception": _traces_of(error)}
        log.error("workflow_run_completed", **fields, error_type=run.error_type, **trace)
    elif run.status is RunStatus.SKIPPED:
        log.info("workflow_run_completed", **fields, reason=run.error)
    else:
        log.info("workflow_run_completed", **fields)
