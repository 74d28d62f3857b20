"""How one record of a run follows another: the policy that both stores apply inside their commits."""

from autopilot.errors import RunSuperseded
from autopilot.models import RunStats, RunStatus, WorkflowRun


def replaces(run: WorkflowRun, stored: WorkflowRun | None) -> bool:
    """Whether ``run`` is to be written over ``stored``; False: the call is a repetition and changes nothing.

    Raises:
        RunSuperseded: ``stored`` is of a newer attempt.
    """
    if stored is None:
        return True
    if run.attempt < stored.attempt:
        raise RunSuperseded(run.id, run.attempt, stored.attempt)
    if run.attempt == stored.attempt and stored.status.is_terminal and not run.status.is_terminal:
        return False
    return run != stored


def count_changes(before: RunStatus | None, after: RunStatus) -> dict[RunStatus, int]:
    """What the counters change by when a run in ``before`` (None: a new run) becomes ``after``."""
    if before is after:
        return {}
    changes = {after: 1}
    if before is not None:
        changes[before] = -1
    return changes


def stats_of(by_status: dict[str, int]) -> RunStats:
    """The statistics that follow from the counts of runs by status."""
    counted = {status.value: by_status[status] for status in RunStatus if by_status.get(status)}
    return RunStats(
        total=sum(count for status, count in counted.items() if status != RunStatus.SKIPPED),
        successful=counted.get(RunStatus.SUCCESS, 0),
        by_status=counted,
    )
