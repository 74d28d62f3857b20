"""The transitions of a run's record: which may follow which, and what changes with them."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from autopilot.core.store import RunClaim
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


def may_claim(run: WorkflowRun, *, is_due: bool, is_retry: bool) -> bool:
    """Whether a new attempt may take over a run.

    Args:
        is_due: nobody holds the run and it is not over, by the store's time.
        is_retry: a person asks for it: then a run that failed or was cancelled may be taken too.
    """
    if run.status.is_terminal:
        return is_retry and run.status.is_unsuccessful
    return is_due


def claimed(run: WorkflowRun, claim: RunClaim, *, now: datetime) -> WorkflowRun:
    """A run as its next attempt holds it, from ``now`` by the store's time."""
    attempt, was_cut_off = run.attempt + 1, run.status is RunStatus.RUNNING and not _has_ended(run)
    begun = RunAttempt(number=attempt, started_at=now, revision=claim.revision)
    changes: dict[str, Any] = {
        "status": RunStatus.RUNNING,
        "attempt": attempt,
        "attempts": (*run.attempts, begun)[-ATTEMPTS_KEPT:],
        "due_at": now + claim.lease_duration,
        "waiting_for": None,
        "completed_at": None,
        "result": None,
        "error": None,
        "error_type": None,
        "expires_at": None,
        "version": claim.version or run.version,
        "fingerprint": claim.fingerprint or run.fingerprint,
    }
    if was_cut_off:
        changes |= {"idle_claims": run.idle_claims + 1, "idle_deadlines": 0}
    if run.status.is_terminal:
        changes |= {"reopened_attempt": attempt, "round": run.round + 1, "failed_steps": claim.begin_again or ()}
        changes |= {"idle_claims": 0, "idle_deadlines": 0}
    return run.model_copy(update=changes)


def ended_attempts(run: WorkflowRun, ending: RunStatus | Literal["released"], now: datetime) -> tuple[RunAttempt, ...]:
    """The attempts of a run after the end of the one that holds it; an end that is recorded already stays."""
    if not run.attempts or run.attempts[-1].number != run.attempt or _has_ended(run):
        return run.attempts
    return (*run.attempts[:-1], run.attempts[-1].model_copy(update={"ended_at": now, "ending": ending}))


def _has_ended(run: WorkflowRun) -> bool:
    """Whether the attempt that last held the run said so when it ended; if not, it was cut off."""
    return bool(run.attempts) and run.attempts[-1].number == run.attempt and run.attempts[-1].ending is not None


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
