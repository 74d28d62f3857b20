"""One instance's view of its workflow's past: the statistics it read, and the runs it had since."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autopilot.core.runs.transitions import count_changes
from autopilot.models import RunStats, RunStatus, WorkflowRun

RECENT_RUNS = 100
"""How many runs the in-memory history holds."""

UNSAVED_RUNS = 100
"""How many runs are kept for another try while the run log is away. At the limits of a run this is some 64 MiB."""


@dataclass(slots=True)
class _OpenRun:
    """A run of this instance that the run log does not have as it is here."""

    run: WorkflowRun
    """The run as it began, later as it ended."""
    recorded: RunStatus | None
    """The status under which the run log counts it; None: not at all."""
    counted: RunStatus | None
    """The status under which this history counts it now."""
    base: RunStatus | None
    """The status under which it counted before anything that happened here."""
    has_ended: bool = False
    """True if its attempt ended here and could not be saved yet."""


class RunHistory:
    """An instance's view of its workflow: what it hydrated plus its own runs, each counted once.

    Hydrating late, while runs are under way or still unsaved, keeps the view exact: what the run log counts already
    is not counted again.
    """

    def __init__(self) -> None:
        self._total = 0
        self._successful = 0
        self._by_status: Counter[str] = Counter()
        self._recent: deque[WorkflowRun] = deque(maxlen=RECENT_RUNS)
        self._hydrated_latest: WorkflowRun | None = None
        self._open: dict[str, _OpenRun] = {}

    @property
    def stats(self) -> RunStats:
        """The statistics of this view."""
        return RunStats(total=self._total, successful=self._successful, by_status=+self._by_status)

    @property
    def last_run(self) -> WorkflowRun | None:
        """The run with the greatest ``started_at`` that this instance knows of."""
        known = [*self._recent, *([self._hydrated_latest] if self._hydrated_latest else [])]
        return max(known, key=lambda run: (run.started_at, run.id), default=None)

    @property
    def recent_runs(self) -> list[WorkflowRun]:
        """This instance's runs, newest first, at most :data:`RECENT_RUNS`."""
        return list(reversed(self._recent))

    def hydrate(self, stats: Mapping[str, Any], latest: WorkflowRun | None) -> None:
        """Take over what the run log says."""
        self._total, self._successful = stats["total"], stats["successful"]
        self._by_status = Counter(stats.get("by_status", {}))
        self._hydrated_latest = latest
        for run in self._open.values():
            run.counted = run.base = run.recorded
            if run.has_ended:
                self._count(run, run.run.status)

    def begin(self, run: WorkflowRun, *, recorded: RunStatus | None, counted: RunStatus | None = None) -> None:
        """An attempt at a run begins here. What an earlier attempt of this instance still tells of it is ignored then.

        Args:
            recorded: the status under which the run log has it; None when its start could not be recorded.
            counted: the status under which it is counted in what was read before; None for a run that is new.
        """
        earlier = self._open.pop(run.id, None)
        if earlier is not None and earlier.run.attempt < run.attempt:
            self._count(earlier, counted)
        self._open[run.id] = _OpenRun(run, recorded=recorded, counted=counted, base=counted)

    def under_way(self, run_id: str) -> WorkflowRun | None:
        """The run, if it began here and the run log does not have its ending yet."""
        opened = self._open.get(run_id)
        return opened.run if opened is not None else None

    def settle(self, run: WorkflowRun, *, saved: bool) -> list[WorkflowRun]:
        """An attempt that began here has ended, and its run was saved or could not be.

        Returns:
            The oldest unsaved runs, given up since there are more than :data:`UNSAVED_RUNS`.
        """
        opened = self._open_attempt(run)
        if opened is None:
            return []
        if not opened.has_ended:
            opened.run, opened.has_ended = run, True
            self._count(opened, run.status)
            if run.attempt > 1:
                self._forget(run.id)
            self._recent.append(run)
        if saved:
            del self._open[run.id]
        dropped = self.unsaved()[:-UNSAVED_RUNS]
        for one in dropped:
            del self._open[one.id]
        return dropped

    def withdraw(self, run: WorkflowRun) -> None:
        """Another attempt has taken over the run: nothing of it counts here."""
        if (opened := self._open_attempt(run)) is not None:
            del self._open[run.id]
            self._count(opened, opened.base)
            self._forget(run.id)

    def unsaved(self) -> list[WorkflowRun]:
        """The runs that ended here and could not be saved, in the order in which they began."""
        return [opened.run for opened in self._open.values() if opened.has_ended]

    def _open_attempt(self, run: WorkflowRun) -> _OpenRun | None:
        # Several invocations of one instance may save a run at once, and a later one may have taken it over.
        opened = self._open.get(run.id)
        is_it = opened is not None and (opened.run.started_at, opened.run.attempt) == (run.started_at, run.attempt)
        return opened if is_it else None

    def _forget(self, run_id: str) -> None:
        self._recent = deque((run for run in self._recent if run.id != run_id), maxlen=RECENT_RUNS)

    def _count(self, run: _OpenRun, status: RunStatus | None) -> None:
        for changed, by in count_changes(run.counted, status).items():
            self._by_status[changed.value] += by
            self._total += by if changed is not RunStatus.SKIPPED else 0
            self._successful += by if changed is RunStatus.SUCCESS else 0
        run.counted = status


def success_rate(stats: Mapping[str, Any]) -> float:
    """Successful of total in percent, to one decimal; 0.0 with no runs."""
    return round(100 * stats["successful"] / stats["total"], 1) if stats["total"] else 0.0
