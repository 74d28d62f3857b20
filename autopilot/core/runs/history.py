"""One instance's view of its workflow's past: the statistics it read, and the runs it had since.

What it holds is bounded in bytes, whatever the runs were given and returned: an instance serves for days in the memory
that its manifest asks for, and parsed JSON takes up to fifty times the room of its text.
"""

import json
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from autopilot.core.runs.limits import json_text
from autopilot.core.runs.transitions import count_changes
from autopilot.models import RunStats, RunStatus, WorkflowRun

RECENT_RUNS = 100
"""How many runs the in-memory history holds."""

UNSAVED_RUNS = 100
"""How many runs are kept for another try while the run log is away."""

UNSAVED_BYTES = 16 * 1024 * 1024
"""How large the payloads and results of these runs may be together, as JSON. At the limits of a run these are 25 runs."""


def outline_of(run: WorkflowRun) -> WorkflowRun:
    """``run`` without its payload and its result, the parts of it that have no place in a list."""
    return run.model_copy(update={"trigger_data": {}, "result": None})


@dataclass(frozen=True, slots=True)
class _WholeRun:
    """A run that ended, with its payload and result as JSON: the smallest form in which nothing of it is lost."""

    outline: WorkflowRun
    payload: bytes
    result: bytes

    @classmethod
    def of(cls, run: WorkflowRun) -> Self:
        return cls(outline_of(run), json_text(run.trigger_data).encode(), json_text(run.result).encode())

    @property
    def size(self) -> int:
        return len(self.payload) + len(self.result)

    def restored(self) -> WorkflowRun:
        found = {"trigger_data": json.loads(self.payload), "result": json.loads(self.result)}
        return self.outline.model_copy(update=found)


@dataclass(slots=True)
class _OpenRun:
    """A run of this instance that the run log does not have as it is here."""

    run: WorkflowRun
    """The run as it began; without payload and result once it has ended."""
    recorded: RunStatus | None
    """The status under which the run log counts it; None: not at all."""
    counted: RunStatus | None
    """The status under which this history counts it now."""
    base: RunStatus | None
    """The status under which it counted before anything that happened here."""
    unsaved: _WholeRun | None = None
    """The run as its attempt here left it, if that could not be saved yet."""


class RunHistory:
    """An instance's view of its workflow: what it hydrated plus its own runs, each counted once.

    Hydrating late, while runs are under way or still unsaved, keeps the view exact: what the run log counts already
    is not counted again.

    The runs that it lists have neither payload nor result: those are in the run log. Only what the run log does not
    have yet is kept whole: runs that are under way, and those that could not be saved (:meth:`unsaved`).
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
        """The run with the greatest ``started_at`` that this instance knows of, without payload and result."""
        known = [*self._recent, *([self._hydrated_latest] if self._hydrated_latest else [])]
        return max(known, key=lambda run: (run.started_at, run.id), default=None)

    @property
    def recent_runs(self) -> list[WorkflowRun]:
        """This instance's runs, newest first, at most :data:`RECENT_RUNS`, without payloads and results."""
        return list(reversed(self._recent))

    def hydrate(self, stats: Mapping[str, Any], latest: WorkflowRun | None) -> None:
        """Take over what the run log says."""
        self._total, self._successful = stats["total"], stats["successful"]
        self._by_status = Counter(stats.get("by_status", {}))
        self._hydrated_latest = None if latest is None else outline_of(latest)
        for run in self._open.values():
            run.counted = run.base = run.recorded
            if run.unsaved is not None:
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
        if opened is None:
            return None
        return opened.run if opened.unsaved is None else opened.unsaved.restored()

    def settle(self, run: WorkflowRun, *, saved: bool) -> list[WorkflowRun]:
        """An attempt that began here has ended, and its run was saved or could not be.

        Returns:
            The oldest unsaved runs, without payload and result, given up since there are more than
            :data:`UNSAVED_RUNS`, or larger ones than :data:`UNSAVED_BYTES`.
        """
        opened = self._open_attempt(run)
        if opened is None:
            return []
        if opened.unsaved is None:
            opened.run = outline_of(run)
            self._count(opened, run.status)
            if run.attempt > 1:
                self._forget(run.id)
            self._recent.append(opened.run)
            opened.unsaved = None if saved else _WholeRun.of(run)
        if saved:
            del self._open[run.id]
        return self._drop_unsaved()

    def withdraw(self, run: WorkflowRun) -> None:
        """Another attempt has taken over the run: nothing of it counts here."""
        if (opened := self._open_attempt(run)) is not None:
            del self._open[run.id]
            self._count(opened, opened.base)
            self._forget(run.id)

    def unsaved(self) -> Iterator[WorkflowRun]:
        """The runs that ended here and could not be saved, whole, in the order in which they began.

        One at a time, as each is asked for: parsed, all of them would not fit into an instance.
        """
        for kept in [opened.unsaved for opened in self._open.values()]:
            if kept is not None:
                yield kept.restored()

    def _drop_unsaved(self) -> list[WorkflowRun]:
        dropped, runs, size = [], 0, 0
        for opened in reversed(self._open.values()):  # the newest are kept
            if opened.unsaved is not None:
                runs, size = runs + 1, size + opened.unsaved.size
                if runs > UNSAVED_RUNS or size > UNSAVED_BYTES:
                    dropped.append(opened.run)
        for run in dropped:
            del self._open[run.id]
        return dropped[::-1]

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
