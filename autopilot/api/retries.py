"""The effect of a person's retry on a run, and the step that failed it: both read from the run's records."""

from collections.abc import Sequence
from datetime import datetime

from autopilot.api.schemas import RetryPlan
from autopilot.core.steps.keys import key_digest, readable_key
from autopilot.core.store import StepRecord
from autopilot.core.triggers.admission import doubtful_steps, retried_steps
from autopilot.models import RunStatus, StepStatus, WorkflowRun

_UNSUCCESSFUL = frozenset({StepStatus.FAILED, StepStatus.INTERRUPTED})


def retry_plan(run: WorkflowRun, steps: Sequence[StepRecord]) -> RetryPlan | None:
    """The steps that a retry of the run would begin again; None if its status does not allow a retry."""
    if not run.status.is_unsuccessful:
        return None
    doubtful = doubtful_steps(run, steps)
    again = _recorded(retried_steps(run, steps, [step.key for step in doubtful]), steps)
    cause = _cause(again)
    after = [] if cause is None else _begun_after(cause, again, steps)
    return RetryPlan(
        begins_again=[readable_key(step.key) for step in again],
        after=[readable_key(step.key) for step in after],
        interrupted=[readable_key(step.key) for step in doubtful],
    )


def failed_step(run: WorkflowRun, steps: Sequence[StepRecord]) -> StepRecord | None:
    """The innermost step whose failure failed the run; None if it did not fail, or no step failed it.

    Of a fan-out it is the first item that failed. A failure that the workflow's code caught is not one.
    """
    if run.status is not RunStatus.FAILED:
        return None
    # A run that an older Autopilot recorded does not name its failed steps; the error it ended with is the step's.
    same_error = (each for each in steps if (each.error_type, each.error) == (run.error_type, run.error))
    failed = _recorded(run.failed_steps, steps) if run.failed_steps else list(same_error)
    cause = _cause(failed)
    return None if cause is None else _innermost(cause, steps)


def _recorded(digests: Sequence[str], steps: Sequence[StepRecord]) -> list[StepRecord]:
    """The records of these steps, in the order of ``digests``."""
    if not digests:
        return []
    by_digest = {key_digest(step.key): step for step in steps}
    return [by_digest[digest] for digest in digests if digest in by_digest]


def _cause(again: Sequence[StepRecord]) -> StepRecord | None:
    """The first failure of the latest round: those of earlier rounds are steps that a retry has not come to yet."""
    failed = [step for step in again if step.status in _UNSUCCESSFUL]
    return max(failed, key=lambda step: step.round, default=None)


def _innermost(cause: StepRecord, steps: Sequence[StepRecord]) -> StepRecord:
    """The step in the body of ``cause`` at which its failure began."""
    within = _recorded(cause.failed_within, steps)
    return next((step for step in within if step.status in _UNSUCCESSFUL and not step.failed_within), cause)


def _begun_after(cause: StepRecord, again: Sequence[StepRecord], steps: Sequence[StepRecord]) -> list[StepRecord]:
    """Those of the steps that began after the failure: not other failures in the body of ``cause``, which led to it."""
    first, within = _innermost(cause, steps), set(cause.failed_within)

    def began_after(step: StepRecord) -> bool:
        if step.status not in _UNSUCCESSFUL:
            return first.ended_at is not None and _last_begun(step) >= first.ended_at
        if step is cause or key_digest(step.key) in within:
            return False
        return cause.ended_at is not None and _last_begun(step) >= cause.ended_at

    return [step for step in again if began_after(step)]


def _last_begun(step: StepRecord) -> datetime:
    return step.history[-1].started_at if step.history else step.started_at
