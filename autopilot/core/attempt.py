"""One attempt at a run: ``execute`` between its deadline and everything it may raise."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from autopilot.core.runs.transitions import ended_attempts
from autopilot.core.runtime import Runtime
from autopilot.core.steps.failures import failure_fields, readable, step_failures
from autopilot.core.steps.retry import is_final, retry_delay
from autopilot.core.steps.runner import StepRunner
from autopilot.core.stopping import StopSwitch
from autopilot.core.tasks import is_closing
from autopilot.errors import AttemptStopped, AttemptTimedOut, RunDeadlineExceeded
from autopilot.models import FAILED_STEPS_KEPT, RunStatus, WorkflowManifest, WorkflowRun

IDLE_DEADLINES = 3
"""How many attempts in a row may reach their deadline without a new step: with the last of them the run fails.

One proves nothing: its process may have been paused, the store slow, a neighbour in the instance busy.
"""

SHUT_DOWN = "the instance is shut down"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """The time of one invocation, by the clock's ``monotonic()``."""

    began: float
    deadline: float
    """When its attempt must end."""
    grace: float
    """For how many seconds after that, at most, bodies and commits under way are waited for."""
    ends_at: float
    """When it must have answered: no store call lasts longer."""
    lease_duration: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one execution of the body came to."""

    status: RunStatus
    error: BaseException | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    """Of the run, beside its status: ``result``, or ``error`` and ``error_type``."""

    @classmethod
    def failure(cls, error: BaseException) -> "Result":
        """The body raised ``error``."""
        error_type, text, _ = failure_fields(error)
        fields = {"error": text, "error_type": error_type}
        return cls(status=RunStatus.FAILED, error=error, fields=fields)

    @property
    def is_interruption(self) -> bool:
        """Whether ``error`` is a cancellation or KeyboardInterrupt, which the caller is to see too."""
        return self.status is RunStatus.CANCELLED


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """An attempt that ends before its run: another one can go on at the first unrecorded step at once."""

    reason: str
    has_progressed: bool = False
    """It recorded a new step."""
    at_deadline: bool = False
    """Its time was used up; if not, the store or the end of the process stopped it."""


class Attempt:
    """One attempt at a run.

    Either the run is over with it (``success``, ``failed``, ``cancelled``), or it is released: when the store was away
    as something had to be recorded or read, when the process is told to end, and at the deadline. At the deadline the
    run fails with the last of :data:`IDLE_DEADLINES` attempts in a row that recorded nothing new.

    Args:
        idle_deadlines: how many attempts in a row before this one reached their deadline without a new step.
        switch: ends the attempt.
        steps: None: the run is in no journal, and cannot go on elsewhere.
        encode: makes plain JSON of what ``execute`` returned.
    """

    def __init__(
        self,
        runtime: Runtime,
        manifest: WorkflowManifest,
        invocation: Invocation,
        switch: StopSwitch,
        steps: StepRunner | None,
        *,
        idle_deadlines: int,
        encode: Callable[[Any], Any],
    ) -> None:
        self._runtime = runtime
        self._clock = runtime.clock
        self._retry = manifest.retry
        self._deadline = invocation.deadline
        self._encode = encode
        self._switch = switch
        self._steps = steps
        self._idle_deadlines = idle_deadlines
        self._seconds = 0.0
        self._is_over_deadline = False
        self._interrupted: asyncio.Task[Any] | None = None

    async def execute(
        self, body: Callable[[], Awaitable[Any]], *, cut_off: Callable[[], Awaitable[None]] | None = None
    ) -> Result:
        """Execute ``body``, as often as the manifest's ``retry`` says; whatever it raises is the result's ``error``.

        Args:
            cut_off: called in another thread if the process is told to end and ``body`` does not.
        """
        with self._runtime.shutdown.interrupting(self._interrupt, cut_off):
            result = await self._try(body)
        if self._interrupted is not None:
            self._interrupted.uncancel()  # we cancelled it, and nobody else knows of that
        if isinstance(self._switch.stopped, AttemptTimedOut) and self.release is None:
            return self.refused(RunDeadlineExceeded(self._seconds, self._idle_deadlines + 1))
        return result

    def refused(self, refusal: BaseException) -> Result:
        """The result without an execution: a retry still has to begin again what this attempt was to."""
        result = Result.failure(refusal)
        return replace(result, fields=result.fields | self._steps_to_begin_again(refusal))

    @property
    def release(self) -> Release | None:
        """How another attempt is to go on with the run, which is not over; None: the result of this one counts."""
        stopped = self._switch.stopped or (AttemptTimedOut() if self._is_over_deadline else None)
        if self._steps is None or stopped is None:
            return None
        release = Release(
            reason=stopped.reason,
            has_progressed=self._steps.records.has_progressed,
            at_deadline=isinstance(stopped, AttemptTimedOut),
        )
        is_idle = release.at_deadline and not release.has_progressed
        return None if is_idle and self._idle_deadlines + 1 >= IDLE_DEADLINES else release

    async def _try(self, body: Callable[[], Awaitable[Any]]) -> Result:
        tries = 0 if self._steps is None else self._steps.records.rounds.tries
        while True:
            tries += 1
            result = await self._result_of(self._execution(body))
            delay = self._delay_after(result.error, tries)
            if result.error is None or delay is None:
                return replace(result, fields=result.fields | self._steps_to_begin_again(result.error))
            error_type = result.fields.get("error_type")
            log.warning("workflow_run_retried", tries=tries, error_type=error_type, delay_s=round(delay, 3))
            paused = await self._result_of(self._pause(result.error, delay))
            if paused.error is not None:
                return paused

    async def _execution(self, body: Callable[[], Awaitable[Any]]) -> Any:
        if self._steps is None:
            return self._encode(await self._within_deadline(body))
        async with self._steps.execution():
            result = await self._within_deadline(body)
        return self._encode(result)

    async def _pause(self, error: BaseException | None, delay: float) -> None:
        """Begin the next round of the run, after a pause."""
        if self._steps is not None:
            records = self._steps.records
            await records.begin_round(records.without_doubtful(self._steps.consequences.digests(step_failures(error))))
        if delay:
            await self._clock.sleep(delay)

    def _steps_to_begin_again(self, error: BaseException | None) -> dict[str, Any]:
        """Of a run that failed: the steps that a person's retry begins again, as fields of the run."""
        if self._steps is None:
            return {}
        failures, records = step_failures(error), self._steps.records
        again = [] if error is None else records.pending()
        again += [*self._steps.consequences.digests(failures), *self._steps.consequences.compensations(failures)]
        return {"round": records.rounds.number, "failed_steps": tuple(dict.fromkeys(again))[:FAILED_STEPS_KEPT]}

    async def _result_of(self, work: Coroutine[Any, Any, Any]) -> Result:
        task = asyncio.current_task()
        try:
            result = await work
        except (asyncio.CancelledError, KeyboardInterrupt) as cancellation:
            return Result(status=RunStatus.CANCELLED, error=cancellation)
        except GeneratorExit as failure:
            if is_closing(task):
                raise  # nothing waits for this any more, and nothing may be awaited
            return Result.failure(failure)
        except BaseException as failure:  # noqa: BLE001 - the run boundary: whatever an author's code raises fails its run
            return Result.failure(readable(failure))
        return Result(status=RunStatus.SUCCESS, fields={"result": result})

    async def _within_deadline(self, body: Callable[[], Awaitable[Any]]) -> Any:
        seconds = max(0.0, self._deadline - self._clock.monotonic())
        self._seconds = round(seconds, 3)
        timeout = self._clock.timeout(seconds)
        try:
            async with timeout:
                return await body()
        except (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            if not timeout.expired():
                raise
            # Whatever it is: code that is cancelled may answer with an error of its own, as a client library does
            # whose connection is cut off. That says nothing about the run.
            self._is_over_deadline = True
            raise RunDeadlineExceeded(self._seconds, self._idle_deadlines + 1) from error

    def _delay_after(self, error: BaseException | None, tries: int) -> float | None:
        if error is None or self._switch.stopped is not None or self._is_over_deadline:
            return None
        if is_final(error, self._retry) or (
            self._steps is not None and self._steps.consequences.compensations(step_failures(error))
        ):
            return None
        delay = retry_delay(self._retry, tries, self._runtime.random)
        return delay if delay is not None and self._clock.monotonic() + delay < self._deadline else None

    def stop(self) -> None:
        """Let no further step begin or be recorded: the instance is shut down.

        With a run log only there is no other attempt to go on with the run: it is cancelled.
        """
        if self._runtime.journal is not None:
            self._switch.stop(AttemptStopped(SHUT_DOWN))

    def _interrupt(self, task: asyncio.Task[Any]) -> None:
        self.stop()
        if self._interrupted is None:
            self._interrupted = task
            task.cancel()


def ended_run(
    run: WorkflowRun, manifest: WorkflowManifest, status: RunStatus, now: datetime, seconds: float, **fields: Any
) -> WorkflowRun:
    """``run``, over in ``status`` after ``seconds`` more of work."""
    return run.model_copy(
        update={
            "status": status,
            "attempts": ended_attempts(run, status, now),
            "completed_at": now,
            "duration_ms": _duration_ms(run, seconds),
            "due_at": None,
            "expires_at": now + manifest.retention,
            **fields,
        }
    )


def released_run(run: WorkflowRun, release: Release, now: datetime, seconds: float) -> WorkflowRun:
    """``run``, still running after ``seconds`` more of work, and free to be claimed from now on."""
    idle_deadlines = run.idle_deadlines + (1 if release.at_deadline else 0)
    counts = {"idle_claims": 0, "idle_deadlines": 0} if release.has_progressed else {"idle_deadlines": idle_deadlines}
    return run.model_copy(
        update={
            **counts,
            "duration_ms": _duration_ms(run, seconds),
            "due_at": now,
            "attempts": ended_attempts(run, "released", now),
        }
    )


def _duration_ms(run: WorkflowRun, seconds: float) -> int:
    return (run.duration_ms or 0) + round(seconds * 1000)
