"""The transitions of a run's record: which may follow which, and what changes with them."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal

from autopilot.errors import RunSuperseded
from autopilot.models import RunAttempt, RunStats, RunStatus, WorkflowRun

ATTEMPTS_KEPT = 20
"""How many attempts a run remembers."""


def replaces(run: WorkflowRun, stored: WorkflowRun | None) -> bool:
    """Return True if ``run`` must be written over ``stored``; False: the call is a repetition and changes nothing.

    Raises:
        RunSuperseded: as :func:`follows`.
    """
    return stored is None or (
        follows(run, started_at=stored.started_at, attempt=stored.attempt, status=stored.status) and run != stored
    )


def follows(run: WorkflowRun, *, started_at: datetime, attempt: int, status: RunStatus) -> bool:
    """Return True if ``run`` may follow a record of the same id, by ``attempt`` and in ``status``.

    Raises:
        RunSuperseded: the record is of a newer attempt, or of a run that began later and took an expired one's place.
    """
    if run.started_at < started_at or run.attempt < attempt:
        raise RunSuperseded(run.id, run.attempt, attempt)
    return run.attempt > attempt or run.status.is_terminal or not status.is_terminal


def count_changes(before: RunStatus | None, after: RunStatus | None) -> dict[RunStatus, int]:
    """The changes of the counters when a run counted under ``before`` becomes ``after``; None is not counted."""
    if before is after:
        return {}
    return {status: by for status, by in ((before, -1), (after, 1)) if status is not None}


def stats_of(by_status: Mapping[str, int]) -> RunStats:
    """The statistics of these counts of runs by status."""
    counted = Counter({status.value: by_status[status] for status in RunStatus if by_status.get(status)})
    return RunStats(
        total=sum(count for status, count in counted.items() if status != RunStatus.SKIPPED),
        successful=counted[RunStatus.SUCCESS],
        by_status=counted,
    )


def may_claim(run: WorkflowRun, *, is_due: bool, reopen: bool) -> bool:
    """Return True if a new attempt may take over a run.

    Args:
        is_due: nobody holds the run, by the store's time: its lease, sleep or wait has ended.
        reopen: a person retries it: a run that failed or was cancelled may be taken, too.
    """
    if run.status.is_terminal:
        return reopen and run.status.is_unsuccessful
    return is_due


def claimed(run: WorkflowRun, *, now: datetime, due_at: datetime, revision: str | None) -> WorkflowRun:
    """The record of a run that its next attempt has claimed.

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
    """The attempts of a run after the end of the one that holds it; an end that is recorded already stays."""
    if not run.attempts or run.attempts[-1].number != run.attempt or run.attempts[-1].ending is not None:
        return run.attempts
    return (*run.attempts[:-1], run.attempts[-1].model_copy(update={"ended_at": now, "ending": ending}))


def cancelled(run: WorkflowRun, *, now: datetime, retention: timedelta | None) -> WorkflowRun:
    """The record of an unfinished run that somebody else than its attempt has cancelled.

    It takes the next attempt's number, which fences off the attempt before as a claim does.
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
