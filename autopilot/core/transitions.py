"""How one record of a run follows another: the policy that both stores apply inside their commits."""

from collections import Counter
from collections.abc import Mapping

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
