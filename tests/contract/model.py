"""A plain statement of what every store must hold: dictionaries and a few rules, none of them taken from the stores.

The model is told what is called and says what must be answered. It keeps no statistics: they are counted from its runs.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from autopilot.core.store import Lease, RunClaim, RunStart, StepRecord
from autopilot.models import WorkflowRun

Key = tuple[str, str]
"""A workflow's name and the id of one of its runs."""
Facts = dict[str, Any]
"""The fields of a run that the model knows; a run may have more."""

FACTS = (
    "id",
    "workflow_id",
    "status",
    "trigger_type",
    "trigger_data",
    "started_at",
    "completed_at",
    "duration_ms",
    "result",
    "error",
    "error_type",
    "attempt",
    "due_at",
    "waiting_for",
    "round",
    "failed_steps",
    "expires_at",
)
OVER = ("success", "failed", "skipped", "cancelled")
WAITING = ("pending", "paused", "sleeping")
UNFINISHED = (*WAITING, "running")


def facts_of(run: WorkflowRun) -> Facts:
    return {name: getattr(run, name) for name in FACTS}


def listed(facts: Facts) -> Facts:
    """A run as lists, histories and streams have it."""
    return facts | {"trigger_data": {}, "result": None}


@dataclass(frozen=True)
class Refused:
    """A call that must raise."""

    error: str


@dataclass(frozen=True)
class Open:
    """A call that may be answered or refused: it changes nothing that anybody can read."""


@dataclass(frozen=True)
class Found:
    """What a start is told of the run."""

    created: bool
    is_due: bool
    run: Facts


@dataclass(frozen=True)
class Taken:
    """What a claim is told of the run; without a lease it was not taken."""

    run: Facts
    before: str | None
    """None, of a claim that was made before: not every store knows it then."""
    lease: Lease | None


@dataclass
class Ended:
    """What a run that is over counts as."""

    status: str
    at: datetime
    duration_ms: int | None


@dataclass
class Kept:
    """One run, with all that is known of it."""

    run: Facts
    owner: str | None = None
    incarnation: str | None = None
    held_until: datetime | None = None
    """When the lease of the last attempt that held it ends."""
    steps: dict[str, StepRecord] = field(default_factory=dict)
    changed: int = 0
    """The number of its last change, of all changes to all runs."""

    @property
    def status(self) -> str:
        return str(self.run["status"])

    @property
    def attempt(self) -> int:
        return int(self.run["attempt"])


class Model:
    """What a store must hold now.

    Attributes:
        now: the time.
        runs: the runs that there are.
        gone: those that were removed or replaced, which stay counted.
        saved: what was saved, in order.
        changes: the number of changes so far.
    """

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.runs: dict[Key, Kept] = {}
        self.gone: list[Facts] = []
        self.saved: list[Facts] = []
        self.changes = 0

    # Calls

    def start(self, start: RunStart) -> Found:
        key = (start.run.workflow_id, start.run.id)
        kept = self.runs.get(key)
        if kept is not None and kept.owner == start.owner:
            return Found(created=True, is_due=False, run=kept.run)
        if kept is not None and not self.is_expired(kept):
            return Found(created=False, is_due=self.is_due(kept), run=kept.run)
        self._drop(key)
        run = facts_of(start.run)
        until = self.now + start.lease_duration
        if run["status"] == "running":
            run["due_at"] = until
        self._put(key, Kept(run, start.owner, start.incarnation, held_until=until))
        return Found(created=True, is_due=False, run=run)

    def claim(self, key: Key, claim: RunClaim) -> Taken | None:
        kept = self.runs.get(key)
        if kept is None or self.is_expired(kept):
            return None
        if kept.owner == claim.owner and kept.status == "running":
            return Taken(kept.run, None, self._lease(key, kept))
        before, is_retry = kept.status, claim.begin_again is not None
        is_free = is_retry if before in {"failed", "cancelled"} else self.is_due(kept)
        if not is_free or claim.after_attempt not in {None, kept.attempt}:
            return Taken(kept.run, before, None)
        until = self.now + claim.lease_duration
        run = kept.run | {"status": "running", "attempt": kept.attempt + 1, "due_at": until, "waiting_for": None}
        run |= dict.fromkeys(("completed_at", "result", "error", "error_type", "expires_at"))
        if before in OVER:
            run |= {"round": kept.run["round"] + 1, "failed_steps": claim.begin_again}
        incarnation = kept.incarnation or claim.incarnation
        taken = Kept(run, claim.owner, incarnation, until, steps=kept.steps)
        self._put(key, taken)
        return Taken(run, before, self._lease(key, taken))

    def record(self, lease: Lease, step: StepRecord) -> StepRecord | Refused | Open:
        kept = self.runs.get((lease.workflow_id, lease.run_id))
        if kept is None or kept.incarnation != lease.incarnation:
            return Open()
        if kept.attempt != lease.attempt:
            return Refused("RunSuperseded")
        recorded = kept.steps.get(step.key)
        if recorded is not None and recorded.status == "success" and recorded.round == step.round:
            return recorded
        kept.steps[step.key] = step
        return step

    def save(self, run: WorkflowRun) -> Refused | Open | None:
        key = (run.workflow_id, run.id)
        kept, facts = self.runs.get(key), facts_of(run)
        if kept is None:
            self.saved.append(facts)
            self._put(key, Kept(facts))
            return None
        if facts["started_at"] < kept.run["started_at"] or facts["attempt"] < kept.attempt:
            return Open() if facts in self.saved else Refused("RunSuperseded")
        reopens = kept.status in OVER and facts["status"] not in OVER
        if reopens or facts == kept.run:
            return None
        if facts["status"] == "running":
            kept.held_until = facts["due_at"]
        kept.run = facts
        self.saved.append(facts)
        self._put(key, kept)
        return None

    def cancel(self, key: Key, owner: str, retention: timedelta | None) -> Facts | Refused | None:
        kept = self.runs.get(key)
        if kept is None:
            return None
        if kept.owner == owner:
            return kept.run
        if kept.status in OVER:
            return Refused("RunStateConflict")
        if kept.status != "running":
            kept.held_until = None
        kept.owner = owner
        kept.run = kept.run | {
            "status": "cancelled",
            "attempt": kept.attempt + 1,
            "completed_at": self.now,
            "due_at": None,
            "waiting_for": None,
            "expires_at": None if retention is None else self.now + retention,
        }
        self._put(key, kept)
        return kept.run

    def delete(self, key: Key) -> Facts | Refused | None:
        kept = self.runs.get(key)
        if kept is None:
            return None
        is_held = kept.held_until is not None and kept.held_until > self.now
        if kept.status not in OVER or (kept.status == "cancelled" and is_held):
            return Refused("RunStateConflict")
        self._drop(key)
        return kept.run

    # What is true now

    def is_expired(self, kept: Kept) -> bool:
        expires_at = kept.run["expires_at"]
        return expires_at is not None and bool(expires_at <= self.now)

    def is_due(self, kept: Kept) -> bool:
        """Whether a claim that is no retry may take the run."""
        if kept.status == "running":
            return kept.held_until is None or kept.held_until <= self.now
        due_at = kept.run["due_at"]
        return kept.status in WAITING and due_at is not None and bool(due_at <= self.now)

    def to_come(self) -> list[datetime]:
        """The times at which something changes by itself, the next one first."""
        times = {
            time
            for kept in self.runs.values()
            for time in (kept.held_until, kept.run["due_at"], kept.run["expires_at"])
        }
        return sorted(time for time in times if time is not None and time > self.now)

    def newest(self, workflow_id: str | None = None, status: str | None = None) -> list[Facts]:
        """The runs of a list, in its order."""
        runs = (kept.run for kept in self.runs.values())
        wanted = [
            run for run in runs if workflow_id in {None, run["workflow_id"]} and status in {None, str(run["status"])}
        ]
        return sorted(wanted, key=lambda run: (run["started_at"], run["id"]), reverse=True)

    def changed_after(self, change: int) -> list[Facts]:
        """The runs that were changed after the change of this number, in the order of their last change."""
        kept = sorted(self.runs.values(), key=lambda each: each.changed)
        return [each.run for each in kept if each.changed > change]

    def steps(self, key: Key) -> list[StepRecord]:
        kept = self.runs.get(key)
        return [] if kept is None else sorted(kept.steps.values(), key=lambda step: (step.started_at, step.key))

    def by_status(self, workflow_id: str) -> Counter[str]:
        """All runs that ever were, counted by their last status."""
        return Counter(str(run["status"]) for run in self._ever(workflow_id))

    def activity(self, workflow_id: str, *, by_day: bool) -> dict[datetime, list[Ended]]:
        """All runs that ended, by the hour or the day in which they did."""
        buckets: dict[datetime, list[Ended]] = {}
        for run in self._ever(workflow_id):
            if run["status"] in OVER:
                at: datetime = run["completed_at"]
                start = datetime(at.year, at.month, at.day, 0 if by_day else at.hour, tzinfo=at.tzinfo)
                buckets.setdefault(start, []).append(Ended(str(run["status"]), at, run["duration_ms"]))
        return buckets

    def _ever(self, workflow_id: str) -> Iterable[Facts]:
        runs = [*self.gone, *(kept.run for kept in self.runs.values())]
        return [run for run in runs if run["workflow_id"] == workflow_id]

    def _lease(self, key: Key, kept: Kept) -> Lease:
        assert kept.owner is not None
        assert kept.incarnation is not None
        return Lease(
            workflow_id=key[0], run_id=key[1], attempt=kept.attempt, owner=kept.owner, incarnation=kept.incarnation
        )

    def _put(self, key: Key, kept: Kept) -> None:
        self.changes += 1
        kept.changed = self.changes
        self.runs[key] = kept

    def _drop(self, key: Key) -> None:
        kept = self.runs.pop(key, None)
        if kept is not None:
            self.gone.append(kept.run)


def percentiles(ended: Iterable[Ended]) -> dict[str, int]:
    """Of the durations of the runs that succeeded or failed, by nearest rank."""
    durations = sorted(
        each.duration_ms for each in ended if each.status in {"success", "failed"} and each.duration_ms is not None
    )
    if not durations:
        return {}
    return {
        name: durations[ceil(len(durations) * share) - 1] for name, share in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))
    }
