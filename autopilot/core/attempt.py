"""One attempt at a run: ``execute`` between its deadline and everything it may raise."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any

import structlog

from autopilot.core.clock import Clock
from autopilot.core.runs.limits import cut_error, text_of
from autopilot.core.runs.transitions import ended_attempts
from autopilot.core.shutdown import Shutdown
from autopilot.core.steps.keys import inside
from autopilot.core.steps.retry import is_final, retry_delay
from autopilot.core.steps.runner import AT_THE_DEADLINE, StepRunner
from autopilot.errors import RunDeadlineExceeded
from autopilot.models import RunStatus, WorkflowManifest, WorkflowRun

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an attempt ended."""

    run: WorkflowRun
    error: BaseException | None = None
    released: str | None = None
    """Why the run goes on in another attempt, if it does."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one execution of the body came to."""

    status: RunStatus
    told: dict[str, Any]
    error: BaseException | None


class Attempt:
    """One attempt at a run.

    It ends in one of three ways: the run is over (``success``, ``failed``, ``cancelled``); or it is released, so that
    another attempt can go on at its first unrecorded step at once. It is released when a step could not be recorded,
    when the process is told to end, and at the deadline if this attempt recorded something new, or had less than half
    of its invocation's time: a cold start or a slow store had the rest. At the deadline without that the run fails:
    the next attempt would come no further.

    Args:
        encode: makes plain JSON of what ``execute`` returned.
        steps: None: there is no journal, and the run cannot go on elsewhere.
        random: gives numbers from 0 to 1.
        began: when the invocation began, by ``clock.monotonic()``.
        deadline: when the attempt must end, by the same clock.
    """

    def __init__(
        self,
        run: WorkflowRun,
        manifest: WorkflowManifest,
        *,
        encode: Callable[[Any], Any],
        steps: StepRunner | None,
        shutdown: Shutdown,
        clock: Clock,
        random: Callable[[], float],
        began: float,
        deadline: float,
    ) -> None:
        self._run = run
        self._manifest = manifest
        self._encode = encode
        self._steps = steps
        self._shutdown = shutdown
        self._clock = clock
        self._random = random
        self._deadline = deadline
        self._is_late = clock.monotonic() - began > (deadline - began) / 2
        self._is_over_deadline = False
        self._interrupted: asyncio.Task[Any] | None = None

    async def execute(self, body: Callable[[], Awaitable[Any]]) -> Ending:
        """Execute ``body``, as often as the manifest's ``retry`` says; whatever it raises is the run's ending."""
        began = self._clock.monotonic()
        # In no step, even if this run was begun in the body of another one's.
        with inside(""), self._shutdown.interrupting(self._interrupt):
            outcome = await self._try(body)
        if self._interrupted is not None:
            self._interrupted.uncancel()  # we cancelled it, and nobody else knows of that
        seconds = self._clock.monotonic() - began
        if (reason := self._reason_to_release()) is not None:
            run = released_run(self._run, self._clock.now(), seconds)
            return Ending(run=run, error=outcome.error, released=reason)
        run = ended_run(self._run, self._manifest, outcome.status, self._clock.now(), seconds, **outcome.told)
        return Ending(run=run, error=outcome.error)

    def refuse(self, reason: BaseException) -> Ending:
        """The run fails for ``reason`` before anything is executed, and trying again cannot help."""
        outcome = _failure(reason)
        run = ended_run(self._run, self._manifest, outcome.status, self._clock.now(), 0.0, **outcome.told)
        return Ending(run=run, error=reason)

    async def _try(self, body: Callable[[], Awaitable[Any]]) -> "_Outcome":
        outcome = await self._outcome(body, 0.0)
        for tries in count(1):
            delay = self._delay_after(outcome.error, tries)
            if delay is None:
                break
            error_type = outcome.told.get("error_type")
            log.warning("workflow_run_retried", tries=tries, error_type=error_type, delay_s=round(delay, 3))
            if self._steps is not None:
                self._steps.begin_again()
            outcome = await self._outcome(body, delay)
        return outcome

    async def _outcome(self, body: Callable[[], Awaitable[Any]], delay: float) -> "_Outcome":
        try:
            if delay:
                await self._clock.sleep(delay)
            return _Outcome(RunStatus.SUCCESS, {"result": self._encode(await self._within_deadline(body))}, None)
        except (asyncio.CancelledError, KeyboardInterrupt) as cancellation:
            return _Outcome(RunStatus.CANCELLED, {}, cancellation)
        except GeneratorExit:
            raise  # nothing waits for this any more, and nothing may be awaited
        except BaseException as failure:  # noqa: BLE001 - the run boundary: whatever an author's code raises fails its run
            return _failure(failure)

    async def _within_deadline(self, body: Callable[[], Awaitable[Any]]) -> Any:
        seconds = max(0.0, self._deadline - self._clock.monotonic())
        timeout = asyncio.timeout(seconds)
        try:
            async with timeout:
                return await body()
        except TimeoutError as error:
            if not timeout.expired():
                raise
            self._is_over_deadline = True
            raise RunDeadlineExceeded(round(seconds, 3)) from error

    def _delay_after(self, error: BaseException | None, tries: int) -> float | None:
        if error is None or self._reason_to_release() is not None or self._is_over_deadline:
            return None
        if is_final(error, self._manifest.retry):
            return None
        delay = retry_delay(self._manifest.retry, tries, self._random)
        return delay if delay is not None and self._clock.monotonic() + delay < self._deadline else None

    def _reason_to_release(self) -> str | None:
        if self._steps is None:
            return None
        if self._steps.stopped is not None:
            return self._steps.stopped.reason
        if self._is_over_deadline and (self._steps.has_progressed or self._is_late):
            return AT_THE_DEADLINE
        return None

    def _interrupt(self, task: asyncio.Task[Any]) -> None:
        if self._steps is not None:
            self._steps.stop("the instance is shut down")
        if self._interrupted is None:
            self._interrupted = task
            task.cancel()


def _failure(error: BaseException) -> _Outcome:
    told = {"error": cut_error(text_of(error)), "error_type": type(error).__name__}
    return _Outcome(RunStatus.FAILED, told, error)


def ended_run(
    run: WorkflowRun, manifest: WorkflowManifest, status: RunStatus, now: datetime, seconds: float, **told: Any
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
            **told,
        }
    )


def released_run(run: WorkflowRun, now: datetime, seconds: float) -> WorkflowRun:
    """``run``, still running after ``seconds`` more of work, and free to be claimed from now on."""
    return run.model_copy(
        update={
            "duration_ms": _duration_ms(run, seconds),
            "due_at": now,
            "attempts": ended_attempts(run, "released", now),
        }
    )


def _duration_ms(run: WorkflowRun, seconds: float) -> int:
    return (run.duration_ms or 0) + round(seconds * 1000)
