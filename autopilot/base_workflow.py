"""BaseWorkflow: a workflow as a class, and the boundary between its code and everything else."""

import asyncio
import hashlib
import inspect
import random as system_random
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Generic

import structlog
from pydantic import BaseModel
from structlog.contextvars import bound_contextvars
from typing_extensions import TypeVar

from autopilot.context import RunContext
from autopilot.core import run_log as journal_module, run_log as run_log_module
from autopilot.core.attempt import Attempt, ended_run, released_run
from autopilot.core.clock import Clock, SystemClock, random_id
from autopilot.core.recorder import STORE_SECONDS, RunOutcome, RunRecorder
from autopilot.core.runs.history import success_rate
from autopilot.core.runs.identity import payload_hash, run_id_of
from autopilot.core.runs.schema import ValidPayload, WorkflowSchema, type_arguments
from autopilot.core.shutdown import PROCESS_SHUTDOWN, Shutdown
from autopilot.core.steps.runner import StepProbe, StepRunner
from autopilot.core.store import Lease, RunJournal, RunLogService, StepRecord
from autopilot.core.triggers.admission import skip_reason, why_not_to_go_on
from autopilot.errors import RunStateConflict, StoreError, WorkflowInvalid
from autopilot.models import RunAttempt, RunStats, RunStatus, Trigger, TriggerType, WorkflowManifest, WorkflowRun
from autopilot.settings import load_config, service_revision

PayloadT = TypeVar("PayloadT", default=dict[str, Any])
ResultT = TypeVar("ResultT", default=Any)

LEASE_MARGIN = timedelta(seconds=2)
"""By how much an attempt's lease outlasts the deadline of its invocation.

Little, since after a crash nobody works on the run until the lease is over; and little is enough: an attempt that is
still at work then is fenced off, whatever the clocks say.
"""


class NoConfig(BaseModel):
    """The ``Config`` of a workflow that declares none."""


class BaseWorkflow(Generic[PayloadT, ResultT]):
    """A workflow: subclass it, give it a manifest and ``execute``.

    ``class Digest(BaseWorkflow[DigestInput, DigestReport])`` declares the types of payload and result: the payload is
    validated before a run exists, the result is recorded as JSON. Without them the payload is a plain dict and the
    result any JSON value.

    An instance serves many runs, one after the other and at once. Its view of the past (:attr:`total_runs` and the
    like) is what it read from the run log at its first invocation, plus its own runs.

    Args:
        run_log: where runs are kept. It needs the methods of :class:`~autopilot.core.store.RunLogService` and
            nothing else; without a journal beside it, only the endings of runs are recorded. Default: the store that
            the settings name, run log and journal both.
        clock: what the engine knows of time.
        new_id: gives random ids.
        random: gives numbers from 0 to 1, for the pauses between tries.
        probe: is called around every step's body.

    Raises:
        WorkflowInvalid: the class cannot be used as it is written.
    """

    manifest: ClassVar[WorkflowManifest]
    """The workflow's static description. Only ``name`` is required."""

    Config: ClassVar[type[BaseModel]] = NoConfig
    """Typed configuration, read from the variables ``<WORKFLOW>_<FIELD>`` for each run; ``ctx.config``."""

    def __init__(
        self,
        *,
        run_log: RunLogService | None = None,
        clock: Clock | None = None,
        new_id: Callable[[], str] = random_id,
        random: Callable[[], float] = system_random.random,
        probe: StepProbe = StepProbe(),  # noqa: B008 - it has no state
    ) -> None:
        _check_class(type(self))
        self._schema = WorkflowSchema(
            self.workflow_id, *type_arguments(type(self), BaseWorkflow, (dict[str, Any], Any))
        )
        self._equip(
            run_log=(lambda: run_log) if run_log is not None else _process_run_log,
            journal=None if run_log is not None else _process_journal,
            clock=clock or SystemClock(),
            new_id=new_id,
            random=random,
            probe=probe,
            shutdown=PROCESS_SHUTDOWN,
        )

    def _equip(
        self,
        *,
        run_log: Callable[[], RunLogService],
        journal: Callable[[], RunJournal] | None,
        clock: Clock,
        new_id: Callable[[], str],
        random: Callable[[], float],
        probe: StepProbe,
        shutdown: Shutdown,
    ) -> None:
        """Give this instance what it works with; it knows nothing of the past then.

        Apart from the constructor, so that the test kit can equip a workflow whatever its own constructor takes.
        """
        self._run_log = run_log
        self._journal = journal
        self._clock = clock
        self._new_id = new_id
        self._random = random
        self._probe = probe
        self._shutdown = shutdown
        self._recorder = RunRecorder(
            self.workflow_id,
            run_log=run_log,
            journal=journal,
            new_id=new_id,
            store_seconds=_store_seconds(self.manifest.timeout_seconds),
        )
        self._is_set_up = False
        self._setups_tried = 0
        self._setup_lock: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    async def execute(self, ctx: RunContext[Any], payload: PayloadT) -> ResultT:
        """Do the work; overridden by authors.

        What is returned is the run's result; an exception makes the run ``failed``.
        """
        raise NotImplementedError

    async def setup(self) -> None:
        """Read the past: called on an instance's first invocation, never at import.

        A subclass that overrides it calls ``await super().setup()``. A run log that fails is logged as
        ``run_log_hydration_skipped`` and never in the way of a run; the next invocation tries that part again. A
        setup that raises fails the run that needed it, and is called again by the next one.
        """
        if not self._recorder.is_hydrated:
            await self._recorder.hydrate()

    async def run(
        self, trigger_type: TriggerType, trigger_data: Any = None, *, trigger: Trigger | None = None
    ) -> WorkflowRun:
        """Execute the workflow once: the one way to do it.

        Whatever happens in ``execute``, the run gets its status, joins the history and is saved before this returns.
        An exception in ``execute`` is a ``failed`` run and not raised; cancellation is recorded and raised again. A
        run log that is away is logged (``run_log_start_failed``, ``run_log_persist_failed``) and never stops the run,
        which is then saved at the next invocation.

        Args:
            trigger_type: what kind of thing asked for the run.
            trigger_data: the payload, a JSON object; None is an empty one.
            trigger: what else is known of the trigger. With an identity, a trigger that comes again is answered from
                the record of its run.

        Raises:
            PayloadError: the payload is refused; no run exists.
            ConfigInvalid: the workflow's configuration is missing or wrong; no run exists.
        """
        outcome = await self.invoke(trigger_type, {} if trigger_data is None else trigger_data, trigger=trigger)
        if outcome.interruption is not None:
            raise outcome.interruption
        return outcome.run

    async def invoke(
        self,
        trigger_type: TriggerType,
        trigger_data: Any,
        *,
        trigger: Trigger | None = None,
        require_start: bool = False,
        request_timeout_seconds: float | None = None,
    ) -> RunOutcome:
        """:meth:`run`, for callers who must know how durable the outcome is.

        A cancellation that reached ``execute`` is not raised but is the outcome's ``interruption``: raise it, unless
        it was the workflow's own.

        Args:
            require_start: run nothing unless the start could be recorded.
            request_timeout_seconds: when the platform ends the request, if sooner than the manifest's timeout.

        Raises:
            RunStartFailed: with ``require_start``, the start could not be recorded.
        """
        trigger = trigger or Trigger()
        payload = self._schema.validate_payload(trigger_data)
        time = self._invocation_time(request_timeout_seconds)
        ready = await self._make_ready()
        run = self._new_run(TriggerType(trigger_type), trigger, payload, payload_hash(trigger_data))
        with bound_contextvars(workflow=self.workflow_id, run_id=run.id):
            started = await self._start(run, trigger, time.lease_duration, required=require_start)
            if started.replayed:
                return started
            if started.run.status.is_terminal:
                return await self._recorder.finish(started)
            return await self._work_on(started, ready, time)

    async def resume(
        self, run_id: str, *, reopen: bool = False, request_timeout_seconds: float | None = None
    ) -> RunOutcome:
        """Go on with a run at its first unrecorded step, as a new attempt, if nobody holds it.

        Args:
            reopen: a person's retry: also of a run that failed or was cancelled. Steps that failed or were
                interrupted begin again.
            request_timeout_seconds: when the platform ends the request, if sooner than the manifest's timeout.

        Returns:
            ``replayed``: nothing was executed, since the run is over or another attempt holds it.

        Raises:
            RunNotFound: this workflow has no such run.
            RunStateConflict: with ``reopen``: it has not ended, or it succeeded or was skipped.
            ConfigInvalid: the workflow's configuration is missing or wrong; the run was left as it is.
            JournalRequired: the workflow was given a run log only.
            StoreError: the run could not be taken over.
        """
        time = self._invocation_time(request_timeout_seconds)
        ready = await self._make_ready()
        with bound_contextvars(workflow=self.workflow_id, run_id=run_id):
            claimed = await self._recorder.claim(run_id, lease_duration=time.lease_duration, reopen=reopen)
            if not claimed.replayed:
                return await self._work_on(claimed, ready, time)
        if reopen:
            raise RunStateConflict(run_id, claimed.run.status, "retried")
        return claimed

    @property
    def workflow_id(self) -> str:
        """The manifest's name."""
        return self.manifest.name

    @property
    def stats(self) -> RunStats:
        """The statistics as this instance knows them."""
        return self._recorder.history.stats

    @property
    def total_runs(self) -> int:
        """Every run but the skipped ones, as this instance knows it."""
        return self.stats["total"]

    @property
    def success_rate(self) -> float:
        """Successful runs in percent of all, to one decimal; 0.0 with no runs."""
        return success_rate(self.stats)

    @property
    def last_run(self) -> WorkflowRun | None:
        """The latest run that this instance knows of."""
        return self._recorder.history.last_run

    @property
    def recent_runs(self) -> list[WorkflowRun]:
        """This instance's own runs, newest first, at most 100."""
        return self._recorder.history.recent_runs

    def payload_json_schema(self) -> dict[str, Any]:
        """The JSON Schema of the payload."""
        return self._schema.payload_json_schema()

    def _invocation_time(self, request_timeout_seconds: float | None) -> "_InvocationTime":
        seconds = float(self.manifest.timeout_seconds)
        if request_timeout_seconds is not None:
            seconds = min(seconds, request_timeout_seconds)
        began = self._clock.monotonic()
        deadline = began + seconds - _store_seconds(seconds)
        return _InvocationTime(began=began, deadline=deadline, lease_duration=timedelta(seconds=seconds) + LEASE_MARGIN)

    async def _make_ready(self) -> "_Readiness":
        config = load_config(self.Config, self.workflow_id)
        await self._recorder.save_unsaved()
        return _Readiness(config=config, setup_error=await self._set_up())

    async def _set_up(self) -> BaseException | None:
        tried = self._setups_tried
        async with self._lock():
            # Tried while this waited: a store that hangs is waited for once, and not in a queue.
            if self._is_set_up and self._setups_tried > tried:
                return None
            try:
                await (BaseWorkflow.setup(self) if self._is_set_up else self.setup())
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the run boundary: it fails the run that needed it
                return error
            self._is_set_up = True
            self._setups_tried += 1
            return None

    def _lock(self) -> asyncio.Lock:
        loop = asyncio.get_running_loop()
        if self._setup_lock is None or self._setup_lock[0] is not loop:
            self._setup_lock = (loop, asyncio.Lock())  # a lock belongs to one event loop
        return self._setup_lock[1]

    def _new_run(self, trigger_type: TriggerType, trigger: Trigger, payload: ValidPayload, digest: str) -> WorkflowRun:
        now = self._clock.now()
        run = WorkflowRun(
            id=run_id_of(self.workflow_id, trigger.identity) if trigger.identity else self._new_id(),
            workflow_id=self.workflow_id,
            status=RunStatus.RUNNING,
            trigger_type=trigger_type,
            trigger_data=payload.data,
            started_at=now,
            version=self.manifest.version,
            fingerprint=_fingerprint(type(self).__module__),
            payload_hash=digest,
            rerun_of=trigger.rerun_of,
        )
        if (skip := skip_reason(self.manifest, trigger, now)) is None:
            begun = RunAttempt(number=run.attempt, started_at=now, revision=service_revision())
            return run.model_copy(update={"attempts": (begun,)})
        return self._ended(run, RunStatus.SKIPPED, error=skip.reason, error_type=skip.kind)

    async def _start(
        self, run: WorkflowRun, trigger: Trigger, lease_duration: timedelta, *, required: bool
    ) -> RunOutcome:
        try:
            return await self._recorder.start(
                run,
                lease_duration=lease_duration,
                counter_shards=self.manifest.counter_shards,
                is_identified=trigger.identity is not None,
                required=required,
            )
        except asyncio.CancelledError as error:
            # A random id is ours alone, so the run may be recorded whatever became of its start. An id that stands
            # for a trigger may be another instance's run.
            if trigger.identity is None:
                self._recorder.history.begin(run, recorded=None)
                await self._recorder.finish(RunOutcome(run=self._ended(run, RunStatus.CANCELLED)), error)
            raise

    def _ended(self, run: WorkflowRun, status: RunStatus, **told: Any) -> WorkflowRun:
        return ended_run(run, self.manifest, status, self._clock.now(), 0.0, **told)

    async def _work_on(self, outcome: RunOutcome, ready: "_Readiness", time: "_InvocationTime") -> RunOutcome:
        """Execute an attempt of the run, and record how it ended."""
        run, steps, refusal = outcome.run, None, ready.setup_error
        if self._journal is not None and outcome.lease is not None:
            try:
                recorded = await self._recorder.read_steps(outcome.lease)
            except StoreError as error:
                released = released_run(run, self._clock.now(), 0.0)
                return await self._recorder.finish(replace(outcome, run=released, released=str(error)), error)
            refusal = refusal or why_not_to_go_on(run, self.manifest, recorded, self._clock.now())
            steps = self._step_runner(self._journal(), outcome.lease, run, recorded, time.deadline)
        attempt = Attempt(
            run,
            self.manifest,
            encode=self._schema.encode_result,
            steps=steps,
            shutdown=self._shutdown,
            clock=self._clock,
            random=self._random,
            began=time.began,
            deadline=time.deadline,
        )
        ending = (
            await attempt.execute(lambda: self._execute(run, ready.config, steps))
            if refusal is None
            else attempt.refuse(refusal)
        )
        outcome = replace(outcome, run=ending.run, released=ending.released)
        outcome = await self._recorder.finish(outcome, ending.error)
        is_interruption = isinstance(ending.error, asyncio.CancelledError | KeyboardInterrupt)
        return replace(outcome, interruption=ending.error if is_interruption and ending.released is None else None)

    def _step_runner(
        self, journal: RunJournal, lease: Lease, run: WorkflowRun, recorded: list[StepRecord], deadline: float
    ) -> StepRunner:
        return StepRunner(
            journal=journal,
            lease=lease,
            run=run,
            steps=recorded,
            expires_at=run.started_at + self.manifest.max_age + self.manifest.retention,
            clock=self._clock,
            random=self._random,
            deadline=deadline,
            probe=self._probe,
        )

    async def _execute(self, run: WorkflowRun, config: BaseModel, steps: StepRunner | None) -> ResultT:
        ctx = RunContext(
            run=run,
            config=config,
            log=structlog.get_logger("autopilot.workflow").bind(
                workflow=run.workflow_id, run_id=run.id, attempt=run.attempt
            ),
            run_log=self._run_log(),
            clock=self._clock,
            steps=steps,
        )
        # From the record, in the first attempt too: it must mean the same to every attempt.
        payload: PayloadT = self._schema.validate_payload(run.trigger_data).value
        return await self.execute(ctx, payload)


@dataclass(frozen=True, slots=True)
class _InvocationTime:
    """The time of one invocation, by the clock's ``monotonic()``."""

    began: float
    deadline: float
    """When the attempt must end."""
    lease_duration: timedelta


@dataclass(frozen=True, slots=True)
class _Readiness:
    """What an invocation needs beside its payload."""

    config: BaseModel
    setup_error: BaseException | None


def _process_run_log() -> RunLogService:
    return run_log_module.get_run_log_service()


def _process_journal() -> RunJournal:
    return journal_module.get_run_journal()


_AVAILABLE = {"after_last_attempt": "fail", "overlap": "allow", "pause_after_failures": None}
"""Fields of a manifest that have a meaning, and the one value that the engine knows so far: what it would not do, it
refuses, rather than leave it undone without a word."""


def _check_class(cls: type[BaseWorkflow[Any, Any]]) -> None:
    manifest = getattr(cls, "manifest", None)
    if not isinstance(manifest, WorkflowManifest):
        raise WorkflowInvalid(cls.__qualname__, "it needs 'manifest = WorkflowManifest(name=...)'")
    if cls.execute is BaseWorkflow.execute or not inspect.iscoroutinefunction(cls.execute):
        raise WorkflowInvalid(cls.__qualname__, "it needs 'async def execute(self, ctx, payload)'")
    for field, value in _AVAILABLE.items():
        if getattr(manifest, field) != value:
            raise WorkflowInvalid(manifest.name, f"{field}: only {value!r} is available in this version of Autopilot")
    if not (isinstance(cls.Config, type) and issubclass(cls.Config, BaseModel)):
        raise WorkflowInvalid(cls.__qualname__, "Config must be a pydantic model")


def _store_seconds(timeout_seconds: float) -> float:
    """What one call of the store may take of an invocation's time; as much is kept free for writing its ending.

    Saving what was not, reading the past, the start and the ending: with a store that hangs at each of them there is
    still time left for the work itself.
    """
    return min(STORE_SECONDS, timeout_seconds / 5)


@cache
def _fingerprint(module: str) -> str | None:
    """A digest of the source of a workflow's module; None when it has no file."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not Path(file).is_file():
        return None
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]
