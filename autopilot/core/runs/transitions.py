"""How one record of a run follows another: the policy that both stores apply inside their commits."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal

from autopilot.errors import RunStateConflict, RunSuperseded
from autopilot.models import RunAttempt, RunStats, RunStatus, WorkflowRun

ATTEMPTS_KEPT = 20
"""How many attempts a run remembers."""


def replaces(run: WorkflowRun, stored: WorkflowRun | None) -> bool:
    """Whether ``run`` is to be written over ``stored``; False: the call is a repetition and changes nothing.

    Raises:
        RunSuperseded: ``stored`` is of a newer attempt, or of a run that took the place of this one.
    """
    return stored is None or (
        follows(run, started_at=stored.started_at, attempt=stored.attempt, status=stored.status) and run != stored
    )


def follows(run: WorkflowRun, *, started_at: datetime, attempt: int, status: RunStatus) -> bool:
    """Whether ``run`` may come after a record under the same id by ``attempt`` and in ``status``.

    Raises:
        RunSuperseded: the record is of a newer attempt, or of a run that began later and took an expired one's place.
    """
    if run.started_at < started_at or run.attempt < attempt:
        raise RunSuperseded(run.id, run.attempt, attempt)
    return run.attempt > attempt or run.status.is_terminal or not status.is_terminal


def count_changes(before: RunStatus | None, after: RunStatus | None) -> dict[RunStatus, int]:
    """What the counters change by when a run counted under ``before`` becomes ``after``; None: not counted."""
    if before is after:
        return {}
    return {status: by for status, by in ((before, -1), (after, 1)) if status is not None}


def stats_of(by_status: Mapping[str, int]) -> RunStats:
    """The statistics that follow from the counts of runs by status."""
    counted = Counter({status.value: by_status[status] for status in RunStatus if by_status.get(status)})
    return RunStats(
        total=sum(count for status, count in counted.items() if status != RunStatus.SKIPPED),
        successful=counted[RunStatus.SUCCESS],
        by_status=counted,
    )


def is_due(run: WorkflowRun, now: datetime) -> bool:
    """Whether at ``now``, the store's time, nobody holds a run that is not over: its lease, sleep or wait has ended.

    A run that is recorded as running without a lease is held by nobody who could be fenced off.
    """
    if run.status.is_terminal:
        return False
    if run.due_at is None:
        return run.status is RunStatus.RUNNING
    return run.due_at <= now


def may_claim(run: WorkflowRun, *, due: bool, reopen: bool) -> bool:
    """Whether a new attempt may take over a run.

    Args:
        due: what :func:`is_due` says by the store's time.
        reopen: a person asks for it: then a run that failed or was cancelled may be taken too.
    """
    if run.status.is_terminal:
        return reopen and run.status.is_unsuccessful
    return due


def claimed(run: WorkflowRun, *, now: datetime, due_at: datetime, revision: str | None) -> WorkflowRun:
    """A run as its next attempt holds it.

    Args:
        due_at: the end of the lease.
        revision: of the service that the attempt runs in.
    """
    attempt = run.attempt + 1
    begun = RunAttempt(number=attempt, started_at=now, revision=revision)
    return run.model_copy(
        update={
            "status": RunStatus.RUNNING,
            "attempt": attempt,
            "attempts": (*run.attempts, begun)[-ATTEMPTS_KEPT:],
            "due_at": due_at,
            "waiting_for": None,
            "completed_at": None,
            "result": None,
            "error": None,
            "error_type": None,
            "expires_at": None,
            "reopened_attempt": attempt if run.status.is_terminal else run.reopened_attempt,
        }
    )


def ended_attempts(run: WorkflowRun, ending: RunStatus | Literal["released"], now: datetime) -> tuple[RunAttempt, ...]:
    """The attempts of a run once the one that holds it has ended; one that has ended before is left as it is."""
    if not run.attempts or run.attempts[-1].number != run.attempt or run.attempts[-1].ending is not None:
        return run.attempts
    return (*run.attempts[:-1], run.attempts[-1].model_copy(update={"ended_at": now, "ending": ending}))


def check_removable(run: WorkflowRun, *, lease_ends_at: datetime | None, now: datetime) -> None:
    """Refuse to remove a run that is not over, or that may still be worked on.

    Args:
        lease_ends_at: of the last attempt that held the run. One that was cancelled from outside works until it
            notices, and if it found no record then, it would save its end as a new run.
        now: the store's time.

    Raises:
        RunStateConflict: it cannot be removed now.
    """
    if not run.status.is_terminal:
        raise RunStateConflict(run.id, run.status, "removed")
    if run.status is RunStatus.CANCELLED and lease_ends_at is not None and now < lease_ends_at:
        raise RunStateConflict(run.id, run.status, "removed before the lease of its last attempt ends")


def cancelled(run: WorkflowRun, *, now: datetime, retention: timedelta | None) -> WorkflowRun:
    """A run that is not over, as it is when somebody else than the attempt that holds it has cancelled it.

    The next attempt's number fences the old one off, as a claim does.
    """
    return run.model_copy(
        update={
            "status": RunStatus.CANCELLED,
            "attempt": run.attempt + 1,
            "attempts": ended_attempts(run, RunStatus.CANCELLED, now),
            "completed_at": now,
            "due_at": None,
            "waiting_for": None,
            "expires_at": None if retention is None else now + retention,
        }
    )
