"""The steps of one attempt: executed once, recorded once, answered from the record ever after."""

import asyncio
import contextvars
import functools
import hashlib
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import structlog

from autopilot.core.runs.limits import cut_error, text_of
from autopilot.core.runtime import Runtime
from autopilot.core.steps.annotations import function_of
from autopilot.core.steps.keys import UsedKeys, full_key, inside
from autopilot.core.steps.results import UNTYPED, ResultType, result_type
from autopilot.core.steps.retry import is_final, retry_delay
from autopilot.core.store import Lease, StepRecord
from autopilot.errors import (
    AttemptStopped,
    JournalRequired,
    RunSuperseded,
    StepInterrupted,
    StepTimeout,
    StoreError,
)
from autopilot.models import Retry, StepStatus

Semantics = Literal["at_least_once", "at_most_once"]

NO_RETRY = Retry()

AT_THE_DEADLINE = "the deadline of the invocation"
"""Why an attempt is released then."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """How a step is executed."""

    retry: Retry = NO_RETRY
    semantics: Semantics = "at_least_once"
    timeout: timedelta | None = None
    returns: Any = None
    """The result's type; None: the body's return annotation says."""


class StepRunner:
    """The steps of one attempt of a run.

    Args:
        recorded: the steps that earlier attempts recorded.
        reopened_attempt: the attempt with which a person last reopened the run; 1 if nobody did.
        expires_at: when the records may be removed.
        deadline: when the attempt must end, by ``clock.monotonic()``.
    """

    def __init__(
        self,
        runtime: Runtime,
        lease: Lease,
        recorded: list[StepRecord],
        *,
        reopened_attempt: int,
        expires_at: datetime,
        deadline: float,
    ) -> None:
        if runtime.journal is None:
            raise JournalRequired("a step")
        self._journal = runtime.journal()
        self._clock = runtime.clock
        self._random = runtime.random
        self._probe = runtime.probe
        self._lease = lease
        self._reopened_attempt = reopened_attempt
        self._known = {step.key: step for step in recorded}
        self._expires_at = expires_at
        self._deadline = deadline
        self._used = UsedKeys()
        self._is_unsure = False
        self.stopped: AttemptStopped | None = None
        """Why the attempt must end, once it must."""
        self.has_progressed = False
        """Whether this attempt recorded a result."""

    def begin_again(self) -> None:
        """Another execution of the same attempt begins: names are free, results stay."""
        self._used = UsedKeys()

    def stop(self, reason: str) -> AttemptStopped:
        """End the attempt: from now on no step begins and none is recorded."""
        if self.stopped is None:
            self.stopped = AttemptStopped(reason)
        return self.stopped

    def idempotency_key(self, key: str) -> str:
        """The same for a step in every try and attempt, and of no other step, run or predecessor of the run's id."""
        lease = self._lease
        return hashlib.sha256(f"{lease.workflow_id}\n{lease.run_id}\n{lease.incarnation}\n{key}".encode()).hexdigest()[
            :32
        ]

    def use_key(self, name: str, key: str | int | None) -> str:
        """The full key of a step that is used here and now.

        Raises:
            StepNameInvalid, StepNameReused
        """
        return self._used.use(full_key(name, key))

    def recorded(self, key: str) -> StepRecord | None:
        """The result recorded under ``key``, if there is one."""
        known = self._known.get(key)
        return known if known is not None and known.status is StepStatus.SUCCESS else None

    async def execute(
        self, key: str, body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: StepOptions
    ) -> Any:
        """The recorded result of the step, or else what its body returns, once that is recorded."""
        if self.stopped is not None:
            raise self.stopped
        kind = result_type(key, body, options.returns)
        if self._is_unsure:
            await self._look_again()
        if self.recorded(key) is None:
            await self._refuse_what_was_cut_off(key, options)
        if (known := self.recorded(key)) is None:
            known = await self._try(key, lambda: self._call(key, body, args, kwargs, options), kind, options)
        return kind.decode(known)

    async def record_result(self, key: str, result: Any) -> None:
        """Record a result that no body gave."""
        now = self._clock.now()
        await self._record(self._step(key, StepStatus.SUCCESS, 1, now, result=UNTYPED.encode(result).text))

    async def _refuse_what_was_cut_off(self, key: str, options: StepOptions) -> None:
        known = self._known.get(key)
        if options.semantics != "at_most_once" or known is None or known.attempt < self._reopened_attempt:
            return
        if known.status is StepStatus.STARTED:
            # Sealed before anything is said of it: whatever its body still does elsewhere, the answer stays this one.
            await self._record(replace(known, status=StepStatus.INTERRUPTED, attempt=self._lease.attempt))
        if self._known[key].status is StepStatus.INTERRUPTED:
            raise StepInterrupted(key)

    async def _try(
        self, key: str, call: Callable[[], Awaitable[Any]], kind: ResultType, options: StepOptions
    ) -> StepRecord:
        before = self._known.get(key)
        counted = 0 if before is None else before.tries
        for tries in range(1, options.retry.attempts + 1):
            began = self._clock.now()
            if tries > 1:
                self._used.release_inside(key)
            self._require_time()
            if options.semantics == "at_most_once":
                await self._record(self._step(key, StepStatus.STARTED, counted + tries, began))
                self._require_time()
            try:
                text = kind.encode(await call()).text
            except Exception as error:
                delay = self._delay_after(error, tries, options)
                if delay is None:
                    await self._record_failure(key, counted + tries, began, error)
                    raise
                log.warning(
                    "step_retried",
                    step=key,
                    tries=counted + tries,
                    error_type=type(error).__name__,
                    delay_s=round(delay, 3),
                )
                await self._clock.sleep(delay)
            else:
                return await self._record(self._step(key, StepStatus.SUCCESS, counted + tries, began, result=text))
        raise AssertionError  # the last try returns or raises

    def _require_time(self) -> None:
        # The lease ends after the deadline: a process that slept past its lease, and does not know it yet, begins no
        # body beside that of the attempt which has taken over.
        if self._clock.monotonic() >= self._deadline:
            raise self.stop(AT_THE_DEADLINE)

    def _delay_after(self, error: Exception, tries: int, options: StepOptions) -> float | None:
        if is_final(error, options.retry):
            return None
        delay = retry_delay(options.retry, tries, self._random)
        if delay is None or self._clock.monotonic() + delay >= self._deadline:
            return None
        return delay

    async def _call(
        self, key: str, body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: StepOptions
    ) -> Any:
        seconds = None if options.timeout is None else options.timeout.total_seconds()
        timeout = self._clock.timeout(seconds)
        self._probe.before_body(self._lease.run_id, key)
        try:
            with inside(key):
                async with timeout:
                    if inspect.iscoroutinefunction(function_of(body)):
                        result = await body(*args, **kwargs)
                    else:
                        result = await self._in_thread(key, body, args, kwargs)
                        if inspect.isawaitable(result):  # a lambda around an async function
                            result = await result
        except TimeoutError as error:
            if seconds is None or not timeout.expired():
                raise
            cut_off = StepInterrupted(key) if options.semantics == "at_most_once" else None
            raise cut_off or StepTimeout(key, seconds) from error
        self._probe.after_body(self._lease.run_id, key)
        return result

    async def _in_thread(
        self, key: str, body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        # A future and not a task: what a body raises to end a process, such as SystemExit, must not end the event loop.
        call = functools.partial(contextvars.copy_context().run, _without_stop_iteration, body, *args, **kwargs)
        thread = asyncio.get_running_loop().run_in_executor(None, call)
        try:
            return await asyncio.shield(thread)
        except asyncio.CancelledError:
            if not thread.done():
                # A thread cannot be killed. What it still does is at least once, what it returns is dropped.
                log.warning("step_abandoned", step=key)
                thread.add_done_callback(_forget)
            raise

    async def _record_failure(self, key: str, tries: int, began: datetime, error: Exception) -> None:
        status = StepStatus.INTERRUPTED if isinstance(error, StepInterrupted) else StepStatus.FAILED
        failure = {"error": cut_error(text_of(error)), "error_type": type(error).__name__}
        await self._record(self._step(key, status, tries, began, **failure))

    def _step(self, key: str, status: StepStatus, tries: int, began: datetime, **fields: str) -> StepRecord:
        ended = None if status is StepStatus.STARTED else self._clock.now()
        return StepRecord(
            key=key, status=status, attempt=self._lease.attempt, tries=tries, started_at=began, ended_at=ended, **fields
        )

    async def _record(self, step: StepRecord) -> StepRecord:
        if self.stopped is not None:
            raise self.stopped
        try:
            recorded = await self._journal.record_step(
                self._lease, step, expires_at=self._expires_at, known=self._known.get(step.key)
            )
        except RunSuperseded as newer:
            raise self.stop(str(newer)) from newer
        except StoreError as error:
            log.warning("step_not_recorded", step=step.key, error=str(error))
            raise self.stop(f"step {step.key} could not be recorded: {error}") from error
        except asyncio.CancelledError:
            self._is_unsure = True
            raise
        self._known[step.key] = recorded
        self.has_progressed |= recorded.status is StepStatus.SUCCESS
        return recorded

    async def _look_again(self) -> None:
        # A commit was cancelled in the middle, by a timeout of the author's own: it may have been made.
        try:
            self._known = {step.key: step for step in await self._journal.read_steps(self._lease)}
        except StoreError as error:
            raise self.stop(f"the steps could not be read: {error}") from error
        self._is_unsure = False


def _without_stop_iteration(body: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return body(*args, **kwargs)
    except StopIteration as error:  # no future can carry it; Python makes the same of it in an async function
        raise RuntimeError("a step's body raised StopIteration") from error


def _forget(thread: asyncio.Future[Any]) -> None:
    # Looked at and closed, so that Python does not report it as lost: the step was given up with a line.
    if not thread.cancelled() and thread.exception() is None and inspect.iscoroutine(thread.result()):
        thread.result().close()
