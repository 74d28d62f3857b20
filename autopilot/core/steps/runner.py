"""The steps of one attempt: executed once, recorded once, answered from the record ever after."""

import asyncio
import functools
import hashlib
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar

import structlog

from autopilot.core.runs.limits import cut_error
from autopilot.core.runtime import Runtime
from autopilot.core.steps.consequences import Consequences
from autopilot.core.steps.failures import (
    failure_fields,
    failure_of,
    interrupted,
    is_interruption,
    readable,
    step_failures,
    timed_out,
)
from autopilot.core.steps.keys import full_key
from autopilot.core.steps.records import StepRecords
from autopilot.core.steps.results import StepResult, result_type
from autopilot.core.steps.retry import is_final, retry_delay
from autopilot.core.steps.scope import Scope, StepCall, current_scope
from autopilot.core.steps.step import BodyTimeout, Step, StepOptions
from autopilot.core.steps.threads import NotBegun, Slot, ThreadedBody, slot_for
from autopilot.core.store import TRIES_KEPT, StepRecord, StepTry
from autopilot.core.tasks import cancel_at_next_await, is_closing
from autopilot.errors import (
    AttemptStopped,
    AttemptTimedOut,
    ResultError,
    StepError,
    StepFailed,
    StepInterrupted,
    StepNotAwaited,
)
from autopilot.models import Retry, StepStatus
from autopilot.observability import traceback_text

T = TypeVar("T")

_TRY_ERROR_LIMIT = 1024
"""Bytes of an error that are kept of each try."""

log = structlog.get_logger(__name__)


class StepRunner:
    """Executes the steps of one attempt of a run.

    Args:
        deadline: when the attempt must end, by ``clock.monotonic()``.
        grace: how many seconds bodies that are cancelled at the deadline, or after it, are waited for.
    """

    def __init__(self, runtime: Runtime, records: StepRecords, *, deadline: float, grace: float) -> None:
        self.records = records
        self.switch = records.switch
        self.clock = runtime.clock
        self._random = runtime.random
        self._probe = runtime.probe
        self._start_thread = runtime.start_thread
        self._deadline = deadline
        self._grace = grace
        self.consequences = Consequences(self.records)
        self.root = Scope(self)

    @asynccontextmanager
    async def execution(self) -> AsyncIterator[None]:
        """Within this, ``execute`` is executed once; at its end no step of it is under way any more.

        Raises:
            StepNotAwaited: the execution succeeded, and a step that it asked for was not awaited.
        """
        self.root = Scope(self)
        self.consequences = Consequences(self.records)
        async with self._in_scope(self.root):
            yield
        self._probe.after_execution(self.records.lease.run_id)

    @asynccontextmanager
    async def _in_scope(self, scope: Scope) -> AsyncIterator[None]:
        has_succeeded = False
        try:
            with scope.entered():
                yield
            has_succeeded = True
        finally:
            left = max(self._grace, self._deadline - self.clock.monotonic())
            not_awaited = await scope.end(self.clock, left)
            if has_succeeded and not_awaited:
                raise StepNotAwaited(not_awaited[0], len(not_awaited) - 1)

    def idempotency_key(self) -> str:
        """The same for a step in every try and attempt, and of no other step, run or predecessor of the run's id.

        Raises:
            StepError: not within a step.
        """
        key, lease = self._scope().key, self.records.lease
        if not key:
            raise StepError("?", "ctx.idempotency_key belongs to a step: read it in the step's body")
        return hashlib.sha256(f"{lease.workflow_id}\n{lease.run_id}\n{lease.incarnation}\n{key}".encode()).hexdigest()[
            :32
        ]

    def use_key(self, name: str, key: str | int | None) -> str:
        """The full key of a step that is used here and now.

        Raises:
            StepNameInvalid, StepNameReused
        """
        scope = self._scope()
        return scope.use(full_key(scope.key, name, key))

    def call(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> StepCall[T]:
        """``work`` as a call of the code that is running here: it is cancelled when that code ends."""
        self.consequences.ask(key)
        return self._scope().call(key, self._begun(work))

    async def _begun(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        self.consequences.line()
        return await work()

    def step(
        self, key: str, body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: StepOptions
    ) -> StepCall[Any]:
        """A call of the step ``key``: its recorded result, or else what its body returns, once that is recorded.

        Raises:
            StepError: the body cannot be called, or the type of its result cannot be used.
        """
        step = Step(key, body, args, kwargs, options, result_type(key, body, options.returns))
        return self.call(key, lambda: self._outcome(step))

    async def record(self, record: StepRecord) -> StepRecord:
        """Commit a record, unless the code that asked for the step has ended without it; what is recorded then.

        Raises:
            AttemptStopped: as :meth:`StepRecords.record`.
        """
        self._scope().require_open(record.key)
        return await self.records.record(record)

    def step_record(self, key: str, status: StepStatus, tries: int, began: datetime, **fields: Any) -> StepRecord:
        """A record of a step by this attempt, in its round."""
        return StepRecord(
            key=key,
            status=status,
            attempt=self.records.lease.attempt,
            round=self.records.rounds.number,
            tries=tries,
            started_at=began,
            ended_at=None if status is StepStatus.STARTED else self.clock.now(),
            **fields,
        )

    def failure_record(
        self,
        key: str,
        error: BaseException,
        failures: Sequence[StepFailed],
        tries: int,
        began: datetime,
        **fields: Any,
    ) -> StepRecord:
        """The record of a step that failed for good, because of these failures of others."""
        error_type, text, classes = failure_fields(error)
        was_cut_off = isinstance(error, StepInterrupted) and is_interruption(error) and error.step == key
        return self.step_record(
            key,
            StepStatus.INTERRUPTED if was_cut_off else StepStatus.FAILED,
            tries,
            began,
            error=text,
            error_type=error_type,
            error_classes=classes,
            failed_within=tuple(self.consequences.digests(failures)),
            compensations=tuple(self.consequences.compensations(failures)),
            **fields,
        )

    def _scope(self) -> Scope:
        scope = current_scope()
        if scope is None or scope.owner is self:
            return scope or self.root
        if self.root.is_over:
            run_id = self.records.lease.run_id
            raise StepError(
                "?", f"this ctx belongs to run {run_id}, which has ended here: use the one that execute is given"
            )
        return self.root

    async def _outcome(self, step: Step) -> Any:
        self.switch.require_running()
        known = self.records.find(step.key)
        if known is not None and known.status is StepStatus.STARTED:
            if step.is_at_most_once:
                # Sealed before anything is said of it: whatever its body still does elsewhere, the answer stays this.
                known = await self.record(
                    self.failure_record(
                        step.key,
                        self.consequences.raised(interrupted(step.key)),
                        (),
                        known.tries,
                        known.started_at,
                        history=known.history,
                    )
                )
            else:
                known = None
        if known is None:
            return await _Tries(self, step).execute()
        if known.status is StepStatus.SUCCESS:
            return step.results.decode(known)
        await self.consequences.settle()
        raise self.consequences.raised(failure_of(known))

    async def call_body(self, step: Step, slot: Slot | None) -> Any:
        """Execute the body once, in a scope of its own.

        Args:
            slot: for its thread; None: it is an async function.

        Raises:
            StepTimeout, StepInterrupted: it took longer than its timeout.
        """
        scope, limit = Scope(self, step.key, self._scope()), BodyTimeout(self.clock, step.options.timeout)
        self._probe.before_body(self.records.lease.run_id, step.key)
        try:
            async with self._in_scope(scope):
                if slot is not None:
                    result = await self._in_thread(step, slot, limit)
                else:
                    async with limit.begin(self.clock.monotonic()):
                        result = await step.body(*step.args, **step.kwargs)
        except TimeoutError as error:
            if not limit.is_over:
                raise
            failure = interrupted(step.key) if step.is_at_most_once else timed_out(step.key, limit.seconds)
            raise self.consequences.raised(failure) from error
        self._probe.after_body(self.records.lease.run_id, step.key)
        return result

    async def _in_thread(self, step: Step, slot: Slot, limit: BodyTimeout) -> Any:
        body = ThreadedBody(
            functools.partial(step.body, *step.args, **step.kwargs),
            lambda: self.clock.monotonic() if self.switch.stopped is None and self.has_time else None,
            self._start_thread,
        )
        try:
            async with limit.begin(await body.begun()):  # waiting for a thread is not executing
                result = await body.result()
                slot.release()
                return await result if inspect.isawaitable(result) else result  # a lambda around an async function
        except NotBegun:
            raise self.switch.stop(AttemptTimedOut()) from None
        except (asyncio.CancelledError, TimeoutError) as cut_off:
            if body.has_ended() and self.switch.stopped is None:
                # Its time was up in the same turn of the event loop, which was blocked or paused until then. What the
                # body has done is done: its outcome is recorded first.
                if isinstance(cut_off, asyncio.CancelledError):
                    cancel_at_next_await()
                return body.outcome()
            if body.give_up():
                # A thread cannot be killed. What it still does is at least once, what it returns is dropped.
                log.warning("step_abandoned", step=step.key)
            raise

    @property
    def has_time(self) -> bool:
        """Whether a body may begin.

        The lease ends after the deadline: a process that slept past its lease, and does not know it yet, begins no
        body beside that of the attempt which has taken over.
        """
        return self.clock.monotonic() < self._deadline

    def require_time(self) -> None:
        """Raise unless a body may begin.

        Raises:
            AttemptStopped: the deadline has passed.
        """
        if not self.has_time:
            raise self.switch.stop(AttemptTimedOut())

    def delay_after(
        self, error: BaseException, failures: Sequence[StepFailed], tries: int, retry: Retry
    ) -> float | None:
        """The pause in seconds before a step is tried again that failed because of these failures; None: it is not."""
        is_over = is_final(error, retry) or bool(self.consequences.compensations(failures))
        delay = None if is_over else retry_delay(retry, tries, self._random)
        return None if delay is None or self.clock.monotonic() + delay >= self._deadline else delay


class _Tries:
    """The executions of one step's body, until it succeeds or has failed for good."""

    def __init__(self, runner: StepRunner, step: Step) -> None:
        self._runner = runner
        self._step = step
        before = runner.records.last(step.key)
        self._counted = 0 if before is None else before.tries
        self._history = [] if before is None else list(before.history)

    async def execute(self) -> Any:
        """What the body returned, once that is recorded.

        Raises:
            StepFailed: it failed for good, and that is recorded.
        """
        tries, handled = 0, sys.exception()
        while True:
            tries += 1
            began, result, error = await self._try()
            ended = self._runner.clock.now()
            if error is None:
                self._remember(StepTry(started_at=began, ended_at=ended))
                return await self._succeed(result)
            error_type, text, _ = failure_fields(error)
            self._remember(
                StepTry(
                    started_at=began, ended_at=ended, error=cut_error(text, _TRY_ERROR_LIMIT), error_type=error_type
                )
            )
            failures = step_failures(error, handled)
            delay = self._runner.delay_after(error, failures, tries, self._step.options.retry)
            self._log(error, delay)
            if delay is None:
                raise await self._fail(error, failures)
            self._runner.records.begin_again(self._runner.consequences.digests(failures))
            await self._runner.clock.sleep(delay)

    async def _try(self) -> tuple[datetime, Any, BaseException | None]:
        """One execution: when it began, and what it returned or raised."""
        async with slot_for(self._step.body) as slot:
            self._runner.require_time()
            began = self._runner.clock.now()
            self._counted += 1
            if self._step.is_at_most_once:
                await self._record(StepStatus.STARTED, began)
                self._runner.require_time()
            task = asyncio.current_task()
            cancelled_before = 0 if task is None else task.cancelling()
            try:
                return began, await self._runner.call_body(self._step, slot), None
            except (AttemptStopped, KeyboardInterrupt):
                raise
            except BaseException as error:  # the run boundary: whatever a body raises fails its step
                is_cancelled = issubclass(type(error), asyncio.CancelledError) and (
                    task is None or task.cancelling() > 0
                )
                if is_cancelled or is_closing(task) or self._runner.switch.stopped is not None:
                    raise
                was_cancelled = slot is None and task is not None and task.cancelling() > cancelled_before
                if was_cancelled and not self._runner.has_time:
                    # The deadline cancelled the body, which answered with an error of its own: no failure of the step.
                    log.warning("step_cut_off", step=self._step.key, exception=traceback_text(readable(error)))
                    raise asyncio.CancelledError(f"step {self._step.key}: the deadline of the invocation") from error
                return began, None, readable(error)

    async def _succeed(self, result: Any) -> Any:
        encoded = self._encode(result)
        if isinstance(encoded, ResultError):
            self._log(encoded, None)
            raise await self._fail(encoded, ())
        recorded = await self._record(StepStatus.SUCCESS, self._history[0].started_at, result=encoded.text)
        # Somebody else's success, if that was recorded first.
        return encoded.value if recorded.result == encoded.text else self._step.results.decode(recorded)

    def _encode(self, result: Any) -> StepResult | ResultError:
        try:
            return self._step.results.encode(result)
        except ResultError as error:
            return error

    async def _fail(self, error: BaseException, failures: Sequence[StepFailed]) -> StepFailed:
        began, history = self._history[0].started_at, tuple(self._history)
        record = self._runner.failure_record(self._step.key, error, failures, self._counted, began, history=history)
        recorded = await self._runner.record(record)
        failure = self._runner.consequences.raised(failure_of(recorded))
        failure.trace = traceback_text(error)
        return failure

    async def _record(self, status: StepStatus, began: datetime, **fields: Any) -> StepRecord:
        first = self._history[0].started_at if self._history else began
        record = self._runner.step_record(
            self._step.key, status, self._counted, first, history=tuple(self._history), **fields
        )
        return await self._runner.record(record)

    def _remember(self, one: StepTry) -> None:
        self._history = [*self._history, one][-TRIES_KEPT:]

    def _log(self, error: BaseException, delay: float | None) -> None:
        fields = {
            "step": self._step.key,
            "tries": self._counted,
            "error_type": failure_fields(error)[0],
            "exception": traceback_text(error),
        }
        if delay is None:
            log.warning("step_failed", **fields)
        else:
            log.warning("step_retried", **fields, delay_s=round(delay, 3))
