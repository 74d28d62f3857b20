"""Admission: which triggers are executed, and which runs are resumed."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from autopilot.core.steps.keys import key_digest, readable_key
from autopilot.core.steps.records import is_doubtful
from autopilot.core.store import StepRecord
from autopilot.errors import CrashLoop, RunError, RunTooOld, StepsInterrupted
from autopilot.models import RunStatus, Schedule, StepStatus, Trigger, WorkflowManifest, WorkflowRun


@dataclass(frozen=True, slots=True)
class Skip:
    """The reason for which a run is recorded and not executed."""

    kind: str
    reason: str


def skip_reason(manifest: WorkflowManifest, trigger: Trigger, now: datetime) -> Skip | None:
    """Say why this trigger is not to be executed now, or None."""
    if not manifest.enabled:
        return Skip("WorkflowDisabled", "the workflow is disabled in its manifest")
    schedule = _schedule_of(manifest, trigger)
    if schedule is None or schedule.max_lateness is None or trigger.scheduled_for is None:
        return None
    lateness = now - trigger.scheduled_for
    if lateness <= schedule.max_lateness:
        return None
    return Skip(
        "TooLate",
        f"the tick of {trigger.scheduled_for.isoformat()} came {lateness.total_seconds():.0f} s late; "
        f"schedule {schedule.name} allows {schedule.max_lateness.total_seconds():.0f} s",
    )


def check_resumable(run: WorkflowRun, manifest: WorkflowManifest, now: datetime) -> RunError | None:
    """Say why a run that an attempt has taken over must end instead of being resumed; None if it may be resumed."""
    if now - run.started_at > manifest.max_age:
        return RunTooOld(now - run.started_at, manifest.max_age)
    return CrashLoop(run.idle_claims) if run.idle_claims > manifest.max_idle_claims else None


def with_idle_claims(run: WorkflowRun, steps: Iterable[StepRecord]) -> WorkflowRun:
    """A run that was taken over, with the number of its idle claims as its steps tell it.

    The claim itself, which does not read them, has counted every attempt that died: also one that had recorded a step.
    """
    progressed = max((step.attempt for step in steps if step.status is not StepStatus.STARTED), default=0)
    return run.model_copy(update={"idle_claims": min(run.idle_claims, run.attempt - progressed)})


def doubtful_steps(run: WorkflowRun, steps: Collection[StepRecord]) -> list[StepRecord]:
    """The steps that a retry of the run would begin again although they may already have taken effect.

    Of a run that no step failed (it was cancelled, or its time was up) these are the at-most-once steps at work then.
    """
    again = set(_left_to_begin_again(run, steps))
    was_cut_off = run.status is RunStatus.CANCELLED or not run.failed_steps
    return [
        step
        for step in steps
        if is_doubtful(step) and (key_digest(step.key) in again or (was_cut_off and step.status is StepStatus.STARTED))
    ]


def retried_steps(run: WorkflowRun, steps: Collection[StepRecord], confirmed: Collection[str]) -> tuple[str, ...]:
    """The digests of the keys of the steps that a person's retry of the run begins again.

    Args:
        confirmed: the keys of those that may already have taken effect, full or as people read them.

    Raises:
        StepsInterrupted: it would begin such steps again, and not all of them are confirmed.
    """
    recorded = list(steps)
    doubtful = [step.key for step in doubtful_steps(run, recorded)]
    if any(key not in confirmed and readable_key(key) not in confirmed for key in doubtful):
        raise StepsInterrupted(run.id, run.status, [readable_key(key) for key in doubtful])
    return tuple(dict.fromkeys((*_left_to_begin_again(run, steps), *map(key_digest, doubtful))))


def _left_to_begin_again(run: WorkflowRun, steps: Iterable[StepRecord]) -> list[str]:
    """The digests of the run's failed steps without those that the retry before has executed already.

    A run that is cancelled while it is retried still names what that retry began again: a payment that has succeeded
    since must not be made a second time.
    """
    if run.status is not RunStatus.CANCELLED or not run.failed_steps:
        return list(run.failed_steps)
    rounds = {key_digest(step.key): step.round for step in steps}
    return [digest for digest in run.failed_steps if rounds.get(digest, 0) < run.round]


def _schedule_of(manifest: WorkflowManifest, trigger: Trigger) -> Schedule | None:
    for schedule in manifest.schedules:
        if trigger.schedule == schedule.name or (trigger.schedule is None and len(manifest.schedules) == 1):
            return schedule
    return None
