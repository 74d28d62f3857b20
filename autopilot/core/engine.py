"""One workflow's engine: it starts, resumes and retries the runs of one instance of its class."""

import asyncio
import hashlib
import sys
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Protocol

import structlog
from pydantic import BaseModel
from structlog.contextvars import bound_contextvars

from autopilot.core.attempt import Attempt, Invocation, Release, Result, ended_run, released_run
from autopilot.core.deadline import deadline, store_seconds
from autopilot.core.outcome import Ended, Held, Outcome, Released, Replayed, Superseded
from autopilot.core.recorder import RunRecorder
from autopilot.core.runs.identity import payload_hash, run_id_of
from autopilot.core.runs.schema import ValidPayload, WorkflowSchema
from autopilot.core.runtime import Runtime
from autopilot.core.steps.failures import readable
from autopilot.core.steps.records import StepRecords
from autopilot.core.steps.runner import StepRunner
from autopilot.core.stopping import StopSwitch
from autopilot.core.store import Lease, RunJournal, StepRecord
from autopilot.core.tasks import is_closing
from autopilot.core.triggers.admission import check_resumable, retried_steps, skip_reason, with_idle_claims
from autopilot.errors import RunStartFailed, RunStateConflict, SetupTimedOut, StoreError
from autopilot.models import RunAttempt, RunStatus, Trigger, TriggerType, WorkflowManifest, WorkflowRun
from autopilot.settings import load_config, service_revision

LEASE_MARGIN = timedelta(seconds=2)
"""By how much an attempt's lease outlasts the deadline of its invocation.

Little, since after a crash nobody works on the run until the lease is over; and little is enough: an attempt that is
still at work then is fenced off, whatever the clocks say.
"""


class Workflow(Protocol):
    """The parts of an author's workflow that the engine uses."""

    manifest: ClassVar[WorkflowManifest]
    Config: ClassVar[type[BaseModel]]

    def execute(self, ctx: Any, payload: Any) -> Awaitable[Any]: ...

    async def setup(self) -> None: ...


class Engine:
    """Executes one instance of a workflow, and keeps that instance's view of the past.

    Args:
        make_context: gives ``execute`` its context: called with ``run``, ``config``, ``log``, ``run_log``, ``clock``;
            ``steps``, which is None if the run is in no journal; and ``switch``, which ends the attempt, and is None if
            there is no journal at all.
        payload_type: of ``execute``'s payload; anything that pydantic takes.
        result_type: of what ``execute`` returns; ``Any`` is any JSON value.
    """

    def __init__(
        self,
        workflow: Workflow,
        runtime: Runtime,
        *,
        make_context: Callable[..., Any],
        payload_type: Any,
        result_type: Any,
    ) -> None:
        self.manifest = type(workflow).manifest
        self.schema = WorkflowSchema(self.manifest.name, payload_type, result_type)
        self._workflow = workflow
        self._make_context = make_context
        self._runtime = runtime
        self._fingerprint = _fingerprint(type(workflow).__module__)
        self._recorder = RunRecorder(self.manifest, self._fingerprint, runtime)
        self.history = self._recorder.history
        self._is_set_up = False
        self._setups_tried = 0
        self._setup_lock: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    async def hydrate(self) -> None:
        """Read the past into the history, unless it was read before. Never raises."""
        if not self._recorder.is_hydrated:
            await self._recorder.hydrate()

    async def invoke(
        self,
        trigger_type: TriggerType,
        trigger_data: Any,
        *,
        trigger: Trigger | None = None,
        require_start: bool = False,
        request_timeout_seconds: float | None = None,
    ) -> Outcome:
        """Execute the workflow once, for a trigger, and record it.

        A cancellation that reached ``execute`` is not raised but is the outcome's ``interruption``: raise it, unless
        it was the workflow's own.

        Args:
            trigger_type: what kind of thing asked for the run.
            trigger_data: the payload as it was sent, a JSON object.
            trigger: with an identity, a trigger that comes again is answered from the record of its run.
            require_start: run nothing unless the start could be recorded.
            request_timeout_seconds: when the platform ends the request, if sooner than the manifest's timeout.

        Raises:
            PayloadError: the payload is refused; no run exists.
            ConfigInvalid: the workflow's configuration is missing or wrong; no run exists.
            SetupTimedOut: the workflow's ``setup`` did not end by the deadline of the invocation; no run exists.
            RunStartFailed: the start could not be recorded, and was required: by ``require_start``, or by ``execute``,
                which then asked for a step.
        """
        trigger = trigger or Trigger()
        payload = self.schema.validate_payload(trigger_data)
        invocation = self._invocation(request_timeout_seconds)
        ready = await self._make_ready(invocation)
        run = self._new_run(TriggerType(trigger_type), trigger, payload, payload_hash(trigger_data))
        with bound_contextvars(workflow=self.manifest.name, run_id=run.id), self._limited(invocation):
            started = await self._start(run, trigger, invocation, required=require_start)
            if isinstance(started, Replayed):
                return started
            if started.run.status.is_terminal:
                return await self._recorder.end(started, started.run)
            return await self._work_on(started, ready, invocation, payload)

    async def resume(self, run_id: str, *, request_timeout_seconds: float | None = None) -> Outcome:
        """Resume a run at its first unrecorded step, as a new attempt, if it is not over and nobody holds it.

        Args:
            request_timeout_seconds: when the platform ends the request, if sooner than the manifest's timeout.

        Raises:
            RunNotFound: this workflow has no such run.
            ConfigInvalid: the workflow's configuration is missing or wrong; the run was left as it is.
            SetupTimedOut: as for :meth:`invoke`; the run was left as it is.
            JournalRequired: the workflow was given a run log only.
            StoreError: the run could not be taken over.
        """
        return await self._take_over(run_id, None, self._invocation(request_timeout_seconds))

    async def retry(
        self, run_id: str, *, again_interrupted: Collection[str] = (), request_timeout_seconds: float | None = None
    ) -> Outcome:
        """Reopen a run that failed or was cancelled, as a new attempt: a person's retry.

        The steps that failed it begin again, and those that the code began after their failure; a failure that the
        code caught stays caught. A run that nobody holds and that is not over is resumed.

        Args:
            again_interrupted: the full keys, or what people read of them, of steps that may already have taken effect
                and are to begin again all the same.

        Raises:
            RunStateConflict: it has not ended, or it succeeded or was skipped.
            StepsInterrupted: it can only be retried by beginning again such steps, and not all of them were named.
            RunNotFound, ConfigInvalid, SetupTimedOut, JournalRequired, StoreError: as :meth:`resume`.
        """
        invocation = self._invocation(request_timeout_seconds)
        while True:
            with self._limited(invocation):
                run, steps = await self._recorder.read_run(run_id)
            begin_again = retried_steps(run, steps, again_interrupted) if run.status.is_unsuccessful else ()
            outcome = await self._take_over(run_id, begin_again, invocation, after_attempt=run.attempt)
            if not isinstance(outcome, Replayed):
                return outcome
            if outcome.run.attempt == run.attempt or not outcome.run.status.is_unsuccessful:
                raise RunStateConflict(run_id, outcome.run.status, "retried")
            # Retried by somebody else meanwhile, and failed again: perhaps in a step that must be confirmed.

    async def _take_over(
        self,
        run_id: str,
        begin_again: tuple[str, ...] | None,
        invocation: Invocation,
        *,
        after_attempt: int | None = None,
    ) -> Outcome:
        ready = await self._make_ready(invocation)
        with bound_contextvars(workflow=self.manifest.name, run_id=run_id), self._limited(invocation):
            claimed = await self._recorder.claim(
                run_id,
                lease_duration=invocation.lease_duration,
                begin_again=begin_again,
                after_attempt=after_attempt,
            )
            if isinstance(claimed, Replayed):
                return claimed
            return await self._work_on(claimed, ready, invocation)

    def _invocation(self, request_timeout_seconds: float | None) -> Invocation:
        seconds = float(self.manifest.timeout_seconds)
        if request_timeout_seconds is not None:
            seconds = min(seconds, request_timeout_seconds)
        began = self._runtime.clock.monotonic()
        return Invocation(
            began=began,
            deadline=began + seconds - store_seconds(seconds),
            grace=store_seconds(seconds) / 2,
            ends_at=began + seconds,
            lease_duration=timedelta(seconds=seconds) + LEASE_MARGIN,
        )

    def _limited(self, invocation: Invocation) -> AbstractContextManager[None]:
        """Hand the end of the invocation down to every store call in the body."""
        return deadline(self._runtime.clock, invocation.ends_at)

    async def _make_ready(self, invocation: Invocation) -> "_Readiness":
        config = load_config(self._workflow.Config, self.manifest.name)
        with self._limited(invocation):
            await self._recorder.save_unsaved()
            return _Readiness(config=config, setup_error=await self._set_up_by(invocation.deadline))

    async def _set_up_by(self, ends_at: float) -> BaseException | None:
        """Set the workflow up, unless that is done, by a time of the clock's ``monotonic()``; what an author's raised.

        Raises:
            SetupTimedOut: it did not end, or is waited for in another invocation.
        """
        seconds = max(0.0, ends_at - self._runtime.clock.monotonic())
        timeout = self._runtime.clock.timeout(seconds)
        try:
            async with timeout:
                error = await self._set_up()
        except TimeoutError as late:
            raise SetupTimedOut(self.manifest.name, seconds) from late
        if error is not None and timeout.expired():  # this is what it made of its cancellation
            raise SetupTimedOut(self.manifest.name, seconds) from error
        return error

    async def _set_up(self) -> BaseException | None:
        tried, task = self._setups_tried, asyncio.current_task()
        async with self._lock():
            # Tried while this waited: a store that hangs is waited for once, and not in a queue.
            if self._is_set_up and self._setups_tried > tried:
                return None
            try:
                await (self.hydrate() if self._is_set_up else self._workflow.setup())
            except (asyncio.CancelledError, KeyboardInterrupt):
                raise
            except BaseException as error:  # the run boundary: it fails the run that needed it
                if is_closing(task):
                    raise
                return readable(error)
            self._is_set_up = True
            self._setups_tried += 1
            return None

    def _lock(self) -> asyncio.Lock:
        loop = asyncio.get_running_loop()
        if self._setup_lock is None or self._setup_lock[0] is not loop:
            self._setup_lock = (loop, asyncio.Lock())  # a lock belongs to one event loop
        return self._setup_lock[1]

    def _new_run(self, trigger_type: TriggerType, trigger: Trigger, payload: ValidPayload, digest: str) -> WorkflowRun:
        now = self._runtime.clock.now()
        run = WorkflowRun(
            id=run_id_of(self.manifest.name, trigger.identity) if trigger.identity else self._runtime.new_id(),
            workflow_id=self.manifest.name,
            status=RunStatus.RUNNING,
            trigger_type=trigger_type,
            trigger_data=payload.data,
            started_at=now,
            version=self.manifest.version,
            fingerprint=self._fingerprint,
            payload_hash=digest,
            rerun_of=trigger.rerun_of,
        )
        if (skip := skip_reason(self.manifest, trigger, now)) is None:
            begun = RunAttempt(number=run.attempt, started_at=now, revision=service_revision())
            return run.model_copy(update={"attempts": (begun,)})
        return self._ended(run, RunStatus.SKIPPED, error=skip.reason, error_type=skip.kind)

    async def _start(
        self, run: WorkflowRun, trigger: Trigger, invocation: Invocation, *, required: bool
    ) -> Held | Replayed:
        try:
            return await self._recorder.start(
                run,
                lease_duration=invocation.lease_duration,
                is_identified=trigger.identity is not None,
                required=required,
            )
        except asyncio.CancelledError as error:
            # A random id is ours alone, so the run may be recorded whatever became of its start. An id that stands
            # for a trigger may be another instance's run.
            if trigger.identity is None:
                self.history.begin(run, recorded=None)
                await self._recorder.end(Held(run=run, lease=None), self._ended(run, RunStatus.CANCELLED), error)
            raise

    def _ended(self, run: WorkflowRun, status: RunStatus, seconds: float = 0.0, **fields: Any) -> WorkflowRun:
        return ended_run(run, self.manifest, status, self._runtime.clock.now(), seconds, **fields)

    async def _work_on(
        self, held: Held, ready: "_Readiness", invocation: Invocation, payload: ValidPayload | None = None
    ) -> Ended | Released | Superseded:
        """Execute an attempt of the run, and record how it ended.

        Args:
            payload: as it was validated before the start, for the first execution.
        """
        clock, switch = self._runtime.clock, StopSwitch()
        steps, refusal = None, ready.setup_error
        if (lease := held.lease) is not None and self._runtime.journal is not None:
            try:
                recorded = await self._recorder.read_steps(lease)
            except StoreError as error:
                return await self._release(held, Release(reason=str(error)), 0.0)
            except asyncio.CancelledError:
                await self._release(held, Release(reason="the invocation was cancelled"), 0.0)
                raise
            held = replace(held, run=with_idle_claims(held.run, recorded))
            refusal = refusal or check_resumable(held.run, self.manifest, clock.now())
            steps = self._step_runner(
                self._runtime.journal(), lease, held.run, recorded, switch=switch, invocation=invocation
            )
        attempt = Attempt(
            self._runtime,
            self.manifest,
            invocation,
            switch,
            steps,
            idle_deadlines=held.run.idle_deadlines,
            encode=self.schema.encode_result,
        )
        if refusal is not None:
            return await self._end(held, attempt.refused(refusal), 0.0)
        began = clock.monotonic()
        unused = [] if payload is None else [payload.value]
        result = await attempt.execute(
            lambda: self._execute(held.run, ready.config, steps, switch, unused),
            cut_off=lambda: self._cut_off(held, attempt, began),
        )
        seconds = clock.monotonic() - began
        if steps is None and switch.stopped is not None:
            self._recorder.abandon(held.run, switch.stopped.reason)
            raise RunStartFailed(self.manifest.name, held.run.id, switch.stopped.reason)
        if (release := attempt.release) is not None:
            return await self._release(held, release, seconds)
        return await self._end(held, result, seconds)

    def _step_runner(
        self,
        journal: RunJournal,
        lease: Lease,
        run: WorkflowRun,
        recorded: list[StepRecord],
        *,
        switch: StopSwitch,
        invocation: Invocation,
    ) -> StepRunner:
        records = StepRecords(
            journal,
            self._runtime.clock,
            lease,
            run,
            recorded,
            switch=switch,
            expires_at=run.started_at + self.manifest.max_age + self.manifest.retention,
            commit_by=invocation.deadline + invocation.grace,
            late_seconds=invocation.grace / 2,
        )
        return StepRunner(self._runtime, records, deadline=invocation.deadline, grace=invocation.grace)

    async def _release(self, held: Held, release: Release, seconds: float) -> Released | Superseded:
        run = released_run(held.run, release, self._runtime.clock.now(), seconds)
        return await self._recorder.release(run, release.reason)

    async def _end(self, held: Held, result: Result, seconds: float) -> Ended | Superseded:
        run = self._ended(held.run, result.status, seconds, **result.fields)
        return await self._recorder.end(held, run, result.error, is_interruption=result.is_interruption)

    async def _cut_off(self, held: Held, attempt: Attempt, began: float) -> None:
        """Record, from another thread, how the run stands when its attempt does not end and the process does."""
        attempt.stop()
        clock = self._runtime.clock
        seconds = clock.monotonic() - began
        if (release := attempt.release) is not None:
            await self._recorder.cut_off(released_run(held.run, release, clock.now(), seconds))
        elif held.lease is None:  # nothing that could be resumed
            await self._recorder.cut_off(self._ended(held.run, RunStatus.CANCELLED, seconds))

    async def _execute(
        self,
        run: WorkflowRun,
        config: BaseModel,
        steps: StepRunner | None,
        switch: StopSwitch,
        unused_payloads: list[Any],
    ) -> Any:
        log = structlog.get_logger("autopilot.workflow")
        ctx = self._make_context(
            run=run,
            config=config,
            log=log.bind(workflow=run.workflow_id, run_id=run.id, attempt=run.attempt),
            run_log=self._runtime.run_log(),
            clock=self._runtime.clock,
            steps=steps,
            switch=None if self._runtime.journal is None else switch,
        )
        # An execution can change its payload: each further one gets its own, from the record.
        payload = unused_payloads.pop() if unused_payloads else self.schema.validate_payload(run.trigger_data).value
        return await self._workflow.execute(ctx, payload)


@dataclass(frozen=True, slots=True)
class _Readiness:
    """What an invocation needs beside its payload."""

    config: BaseModel
    setup_error: BaseException | None


@cache
def _fingerprint(module: str) -> str | None:
    """A digest of the source of a workflow's module; None when it has no file."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not Path(file).is_file():
        return None
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]
