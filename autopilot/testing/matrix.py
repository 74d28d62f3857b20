"""Killing a workflow at every moment of a run, to see that it ends as if nothing had happened."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from structlog.testing import capture_logs

from autopilot.core.steps.keys import is_within
from autopilot.core.store import Store
from autopilot.models import RunStats, RunStatus, StepStatus, WorkflowRun
from autopilot.testing.clock import ManualClock
from autopilot.testing.harness import Harness, MakeWorkflow
from autopilot.testing.instance import InstanceKilled, Trace

MAX_DELIVERIES = 25
"""How often a trigger is delivered before the matrix says that its run does not end."""

_AT_ONCE = timedelta(0)


def outcome_of(run: WorkflowRun) -> Any:
    """Status, result and error type of a run: the same wherever its instance was killed."""
    return run.status.value, run.result, run.error_type


def failed_as_interrupted(run: WorkflowRun) -> bool:
    """Return True if the run failed because an at-most-once step was interrupted."""
    return run.status is RunStatus.FAILED and run.error_type in {"StepInterrupted", "MapFailed"}


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """A run whose instance was killed at one moment."""

    moment: str
    run: WorkflowRun
    deliveries: int
    """How often the trigger was delivered until the run had ended."""
    repeated: dict[str, int]
    """How often more than in the undisturbed run each body was begun."""
    errors: tuple[str, ...] = ()
    """Everything that is wrong with the run, its steps or its statistics."""

    def __str__(self) -> str:
        line = f"killed {self.moment}: {self.run.status} after {self.deliveries} deliveries"
        if self.repeated:
            line += "; again: " + ", ".join(f"{key} x{count}" for key, count in sorted(self.repeated.items()))
        return "".join([line, *(f"\n    - {error}" for error in self.errors)])


@dataclass(frozen=True, slots=True)
class CrashReport:
    """The runs of a crash matrix, one for each kill."""

    undisturbed: WorkflowRun
    points: tuple[CrashPoint, ...]

    @property
    def errors(self) -> list[CrashPoint]:
        """The points at which something is wrong."""
        return [point for point in self.points if point.errors]

    def __str__(self) -> str:
        wrong = self.errors
        head = f"{self.undisturbed.workflow_id}: {len(self.points)} kills, {len(wrong)} with errors"
        return "\n".join([head, f"undisturbed: {outcome_of(self.undisturbed)}", *map(str, wrong or self.points)])


class CrashMatrixFailed(AssertionError):
    """A run did not survive a kill; ``report`` has every point."""

    def __init__(self, report: CrashReport) -> None:
        super().__init__(str(report))
        self.report = report


async def crash_matrix(
    workflow: MakeWorkflow,
    payload: Any = None,
    *,
    store: Store | None = None,
    outcome: Callable[[WorkflowRun], Any] = outcome_of,
    interrupted: Callable[[WorkflowRun], bool] = failed_as_interrupted,
    prepare: Callable[[], None] = lambda: None,
) -> CrashReport:
    """Run a workflow once undisturbed, and then again and again, killing its instance at one moment each time.

    The moments: before and after every step's body, before and after every commit. After each kill time passes until
    the dead instance's lease has ended, and the same trigger is delivered to a cold instance, until the run ends. Then:

    - it ended like the undisturbed run;
    - every step's result was recorded once, under the same keys;
    - the statistics count one run more, under its status;
    - no body was begun again whose result or final failure was recorded, and those that were under way were begun again
      once (with steps in sequence: at most one body is repeated);
    - no at-most-once body was begun twice. Where it was cut off, the run may end as ``interrupted`` says.

    The moments are those of the undisturbed run by their number. A workflow whose steps run at once may reach them in
    another order; each point of the report tells the moment at which the instance was killed.

    Args:
        workflow: the workflow's class, or a function that makes an instance.
        payload: of every run.
        store: any store, for all runs; its leases are cut to nothing, since its time may not be ours to move. Default:
            a new database in memory for each run, with leases as they are.
        outcome: what must be equal. Leave out what depends on the time or the number of attempts.
        interrupted: whether a run in which an at-most-once step was cut off ended as it should.
        prepare: is called before each run, to put back what the workflow changed elsewhere.

    Raises:
        CrashMatrixFailed: an AssertionError that shows every point at which something is wrong.
    """
    with capture_logs():  # hundreds of runs: what a failing test shows is the report
        prepare()
        undisturbed = await _undisturbed(_harness(workflow, store), payload)
        points = []
        for number in range(len(undisturbed.trace.moments)):
            prepare()
            trial = _Trial(
                _harness(workflow, store),
                undisturbed,
                outcome=outcome,
                interrupted=interrupted,
                has_leases=store is None,
            )
            points.append(await trial.run(payload, kill_at=number))
    report = CrashReport(undisturbed.run, tuple(points))
    if report.errors:
        raise CrashMatrixFailed(report)
    return report


@dataclass(frozen=True, slots=True)
class _Undisturbed:
    run: WorkflowRun
    trace: Trace
    bodies: Counter[str]
    recorded: frozenset[str]
    """The keys of the steps whose results were recorded."""


def _harness(workflow: MakeWorkflow, store: Store | None) -> Harness:
    if store is None:
        return Harness(workflow)
    # A store with a time of its own would see runs of another time as expired.
    return Harness(workflow, store=store, clock=ManualClock(datetime.now(UTC)), lease_duration=_AT_ONCE)


async def _undisturbed(harness: Harness, payload: Any) -> _Undisturbed:
    run = await harness.run(payload, identity=uuid4().hex)
    if not run.status.is_terminal:
        raise ValueError(f"the undisturbed run did not end: it is {run.status}")
    return _Undisturbed(run, harness.trace, harness.executions(run.id), _recorded(harness.trace))


def _recorded(trace: Trace) -> frozenset[str]:
    return frozenset(key for (_, key), statuses in trace.steps.items() if StepStatus.SUCCESS in statuses)


def _failed(trace: Trace) -> frozenset[str]:
    """The keys of the steps that failed for good.

    Not of those within another: when the body around them is executed again, its ``retry`` may try them again. Nor of a
    run that its manifest's ``retry`` has begun again.
    """
    if "retry" in trace.commits:
        return frozenset()
    last = {key: statuses[-1] for (_, key), statuses in trace.steps.items() if not is_within(key)}
    return frozenset(key for key, status in last.items() if status is StepStatus.FAILED)


@dataclass(slots=True)
class _Trial:
    """One run with one kill in it."""

    harness: Harness
    undisturbed: _Undisturbed
    outcome: Callable[[WorkflowRun], Any]
    interrupted: Callable[[WorkflowRun], bool]
    has_leases: bool
    errors: list[str] = field(default_factory=list)

    async def run(self, payload: Any, *, kill_at: int) -> CrashPoint:
        identity = uuid4().hex
        before = await self.harness.stats()
        try:
            run: WorkflowRun | None = await self.harness.run(payload, identity=identity, kill_at=kill_at)
            moment = f"nowhere: moment {kill_at} did not come"
        except InstanceKilled as killed:
            run, moment = None, killed.moment
        at_kill = Trace()
        at_kill.add(self.harness.trace)
        deliveries = 1
        if run is None:
            run = await self._deliver_under_lease(payload, identity, at_kill)
            deliveries += 1
        while not run.status.is_terminal and deliveries < MAX_DELIVERIES:
            self.harness.expire_lease()
            run = await self.harness.run(payload, identity=identity)
            deliveries += 1
        repeated = self.harness.executions(run.id) - self.undisturbed.bodies
        self._check_ending(run, at_kill)
        self._check_steps(run, at_kill, repeated)
        await self._check_records(run, before)
        return CrashPoint(moment, run, deliveries, dict(repeated), tuple(self.errors))

    async def _deliver_under_lease(self, payload: Any, identity: str, at_kill: Trace) -> WorkflowRun:
        """The trigger comes again at once: while the dead instance seems to hold the run, nothing may be executed."""
        held = await self.harness.runs(status=RunStatus.RUNNING) if self.has_leases else []
        run = await self.harness.run(payload, identity=identity)
        if held and self.harness.trace.bodies != at_kill.bodies:
            self.errors.append("a body was begun while another attempt held the run")
        return run

    def _check_ending(self, run: WorkflowRun, at_kill: Trace) -> None:
        expected, got = self.outcome(self.undisturbed.run), self.outcome(run)
        if not run.status.is_terminal:
            self.errors.append(f"it did not end: it is {run.status} after {MAX_DELIVERIES} deliveries")
        elif got != expected and not (_cut_off(at_kill) and self.interrupted(run)):
            error = f" ({run.error})" if run.error else ""
            self.errors.append(f"it ended as {got!r}{error}, not as {expected!r}")

    def _check_steps(self, run: WorkflowRun, at_kill: Trace, repeated: Counter[str]) -> None:
        trace = self.harness.trace
        for (_, key), statuses in trace.steps.items():
            if (count := statuses.count(StepStatus.SUCCESS)) > 1:
                self.errors.append(f"step {key}: its result was recorded {count} times")
        if self.outcome(run) == self.outcome(self.undisturbed.run) and not _cut_off(at_kill):
            for key in sorted(_recorded(trace) ^ self.undisturbed.recorded):
                self.errors.append(f"step {key}: its result was recorded in only one of the two runs")
        over = _recorded(at_kill) | _failed(at_kill)
        for key, count in repeated.items():
            allowed = 0 if key in over else at_kill.bodies[run.id, key]
            if count > allowed:
                self.errors.append(f"step {key}: its body was begun {count} times more; {allowed} would be right")
        for key in _cut_off(at_kill):
            if trace.bodies[run.id, key] > at_kill.bodies[run.id, key]:
                self.errors.append(f"step {key}: it may be begun at most once, and was begun again")

    async def _check_records(self, run: WorkflowRun, before: RunStats) -> None:
        if await self.harness.get_run(run.id) != run:
            self.errors.append("what is recorded is not what the last delivery was answered")
        counted = Counter((await self.harness.stats())["by_status"]) - Counter(before["by_status"])
        if counted != {run.status: 1}:
            self.errors.append(f"the statistics count {dict(counted)} more, not one {run.status}")


def _cut_off(trace: Trace) -> list[str]:
    """The at-most-once steps that were begun and have no ending."""
    return [key for (_, key), statuses in trace.steps.items() if statuses[-1] is StepStatus.STARTED]
