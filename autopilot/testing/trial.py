"""One run of the crash matrix: what is done to it, and what is wrong with it afterwards."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from autopilot.core.store import Store
from autopilot.errors import AutopilotError
from autopilot.models import RunStats, RunStatus, WorkflowRun
from autopilot.testing.clock import ManualClock
from autopilot.testing.effects import Effects, Observation, World
from autopilot.testing.expectation import (
    Expectation,
    Judgement,
    bodies_of,
    cut_off,
    effect_errors,
    errors_of_awaiting,
    errors_of_catching,
)
from autopilot.testing.harness import Harness, MakeWorkflow
from autopilot.testing.instance import InstanceKilled, Trace

MAX_DELIVERIES = 25
"""How often a trigger is delivered before the matrix says that its run does not end."""

AS_IT_IS = "run again, undisturbed"
"""What was done to a run to which nothing was done."""

_AT_ONCE = timedelta(0)


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What is done to the instances of one run; each moment is a number. Nothing at all: the run is as it should be."""

    kills: tuple[int, ...] = ()
    """The moments of the first delivery, and of the one after its lease, at which the instance is killed."""
    shut_down_at: int | None = None
    pause_at: int | None = None

    @property
    def verb(self) -> str:
        """What was done, as a report says it."""
        if self.kills:
            return "killed" if len(self.kills) == 1 else "killed twice"
        if self.shut_down_at is not None:
            return "shut down"
        return AS_IT_IS if self.pause_at is None else "paused"


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """A run whose instance was killed, shut down or paused at one moment, or killed at two."""

    how: str
    """``killed``, ``killed twice``, ``shut down``, ``paused``, or ``run again, undisturbed``."""
    moment: str
    """The moment, or both."""
    run: WorkflowRun
    deliveries: int
    """How often the trigger was delivered until the run had ended."""
    repeated: dict[str, int]
    """How often more than in the undisturbed run each body was begun."""
    errors: tuple[str, ...] = ()
    """Everything that is wrong with the run, its steps, its effects or its statistics."""

    def __str__(self) -> str:
        line = (
            f"{' '.join(filter(None, (self.how, self.moment)))}: {self.run.status} after {self.deliveries} deliveries"
        )
        if self.repeated:
            line += "; again: " + ", ".join(f"{key} x{count}" for key, count in sorted(self.repeated.items()))
        return "".join([line, *(f"\n    - {error}" for error in self.errors)])


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything that the runs of one matrix have in common."""

    workflow: MakeWorkflow
    payload: Any
    store: Store | None
    judgement: Judgement
    prepare: Callable[[], object]
    world: World

    def harness(self, seen: Observation) -> Harness:
        """Cold instances for one run."""
        if self.store is None:
            return Harness(self.workflow, observer=seen, in_threads=False)
        # A store with a time of its own would see runs of another time as expired.
        clock = ManualClock(datetime.now(UTC))
        return Harness(
            self.workflow, store=self.store, clock=clock, lease_duration=_AT_ONCE, observer=seen, in_threads=False
        )

    @property
    def identity(self) -> str:
        """The trigger's: with a store for each run always the same, so that ids and idempotency keys are too."""
        return "crash matrix" if self.store is None else uuid4().hex

    async def undisturbed(self) -> Expectation:
        """The run to which nothing is done.

        Raises:
            ValueError: it does not end.
        """
        self.prepare()
        seen = Observation(self.world)
        harness = self.harness(seen)
        run = await harness.run(self.payload, identity=self.identity)
        if not run.status.is_terminal:
            raise ValueError(f"the undisturbed run did not end: it is {run.status}")
        return Expectation(run, harness.trace, self.judgement.snapshot(run), seen.total())

    async def try_out(self, expected: Expectation, disturbance: Disturbance) -> "Trial":
        """A run to which this is done; again, and line by line, when only that shows what is wrong."""
        trial = Trial(self, expected, disturbance)
        if disturbance == Disturbance():
            with trial.seen.line_by_line():
                await trial.run()
            trial.explain(trial)
            return trial
        await trial.run()
        if trial.is_to_be_explained:
            explained = Trial(self, expected, disturbance)
            with explained.seen.line_by_line():
                await explained.run()
            trial.explain(explained)
        return trial


@dataclass(slots=True)
class Trial:
    """One run with one disturbance in it."""

    bench: Bench
    expected: Expectation
    disturbance: Disturbance
    errors: list[str] = field(default_factory=list)
    resumed_moments: int = 0
    """How many moments the first delivery had after the kill and the end of its lease."""
    seen: Observation = field(init=False)
    _harness: Harness = field(init=False)
    _identity: str = field(init=False)
    _cuts: list[Trace] = field(default_factory=list)
    _moments: list[str] = field(default_factory=list)
    _deliveries: int = 0
    _run: WorkflowRun | None = None
    _over: Effects = field(default_factory=Counter)
    _is_other_path: bool = False

    def __post_init__(self) -> None:
        self.bench.prepare()
        self.seen = Observation(self.bench.world)
        self._harness = self.bench.harness(self.seen)
        self._identity = self.bench.identity

    async def run(self) -> None:
        """Do it, and look at everything."""
        before = await self._harness.stats()
        self._run = await self._disturbed()
        while not self._run.status.is_terminal and self._deliveries < MAX_DELIVERIES:
            self._harness.expire_lease()
            self._run = await self._deliver()
        outcome = self.bench.judgement.snapshot(self._run)
        self._over = self._check_run(self._run, outcome)
        await self._check_records(self._run, before)

    @property
    def ended_run(self) -> WorkflowRun:
        """The run as the last delivery left it."""
        assert self._run is not None  # noqa: S101 - it was run
        return self._run

    @property
    def point(self) -> CrashPoint:
        """The trial in the report."""
        run = self.ended_run
        repeated = bodies_of(self._harness.trace, run.id) - self.expected.bodies
        moment = ", then ".join(self._moments)
        return CrashPoint(self.disturbance.verb, moment, run, self._deliveries, dict(repeated), tuple(self.errors))

    @property
    def is_to_be_explained(self) -> bool:
        """Whether lines of code are missing from what is known."""
        return bool(self._over) or self._harness.trace.went_on

    def explain(self, same: "Trial") -> None:
        """Say what ``same``, which was followed line by line, shows."""
        self.errors += errors_of_catching(same.seen)
        self.errors += errors_of_awaiting(same.ended_run, self._harness.trace, same.seen)
        if self._over and self.bench.world.is_declared:
            self.errors += effect_errors(self._over, self.expected.effects, same.seen)
        elif self._over:
            # Effects in bodies are as right as the bodies' executions, which are checked on their own.
            outside = same.seen.total(outside_of_steps=True)
            over = self._over & outside
            self.errors += effect_errors(over, self.expected.effects, same.seen)

    async def _disturbed(self) -> WorkflowRun:
        """The run after everything was done to it."""
        what = self.disturbance
        if what.pause_at is not None:
            return await self._overtaken(what.pause_at)
        if what.shut_down_at is not None:
            run = await self._deliver(shut_down_at=what.shut_down_at)
            self._cut(self._moment(what.shut_down_at))
            return run
        ended: WorkflowRun | None = None
        for kill_at in what.kills:
            ended = await self._killed(kill_at)
        if ended is None and len(what.kills) == 1:
            held = await self._delivered_under_lease() if self.bench.store is None else None
            ended = held if held is not None and held.status.is_terminal else await self._resumed()
        return ended or await self._deliver()

    def _let_lease_end(self) -> None:
        """Let time pass only where something is held: a run's start is part of many results."""
        if self.bench.store is None and "start" in self._harness.trace.commits:
            self._harness.expire_lease()

    async def _resumed(self) -> WorkflowRun:
        self._let_lease_end()
        moments = len(self._harness.trace.moments)
        run = await self._deliver()
        self.resumed_moments = len(self._harness.trace.moments) - moments
        return run

    async def _killed(self, kill_at: int) -> WorkflowRun | None:
        try:
            run = await self._deliver(kill_at=kill_at)
        except InstanceKilled as killed:
            self._cut(killed.moment)
            if len(self.disturbance.kills) > 1:
                self._let_lease_end()
            return None
        self._cut(f"nowhere: moment {kill_at} did not come")
        return run

    async def _delivered_under_lease(self) -> WorkflowRun:
        """The trigger comes again at once: while the dead instance seems to hold the run, nothing may be executed."""
        held = await self._harness.runs(status=RunStatus.RUNNING)
        run = await self._deliver()
        if held and self._harness.trace.bodies != self._cuts[-1].bodies:
            self.errors.append("a body was begun while another attempt held the run")
        return run

    async def _overtaken(self, pause_at: int) -> WorkflowRun:
        """An instance stops, its lease ends, others bring the run to its end, and it goes on as if nothing had been."""
        self._deliveries += 1
        paused = await self._harness.pause(self.bench.payload, identity=self._identity, pause_at=pause_at)
        self._moments.append(paused.moment or f"nowhere: moment {pause_at} did not come")
        at_pause = paused.trace
        self._cuts.append(at_pause)
        run = None
        while (run is None or not run.status.is_terminal) and self._deliveries < MAX_DELIVERIES:
            if "start" in at_pause.commits:  # also with a store of another time: the instance's own deadline is over
                self._harness.expire_lease()
            run = await self._deliver()
        before = await self._records(run), paused.trace.bodies
        with suppress(AutopilotError):  # it has nothing to answer: its trigger was delivered to others
            await paused.wake()
        if (await self._records(run), paused.trace.bodies) != before:
            self.errors.append("the instance that was overtaken changed something when it went on")
        assert run is not None  # noqa: S101 - it was delivered once at least
        return run

    async def _records(self, run: WorkflowRun | None) -> Any:
        if run is None:
            return None
        steps = await self._harness.store.get_run_steps(run.workflow_id, run.id)
        return await self._harness.get_run(run.id), steps, await self._harness.stats()

    async def _deliver(self, *, kill_at: int | None = None, shut_down_at: int | None = None) -> WorkflowRun:
        self._deliveries += 1
        return await self._harness.run(
            self.bench.payload, identity=self._identity, kill_at=kill_at, shut_down_at=shut_down_at
        )

    def _cut(self, moment: str) -> None:
        self._moments.append(moment)
        self._cuts.append(self._harness.trace.copy())

    def _moment(self, number: int) -> str:
        moments = self._harness.trace.moments
        return moments[number] if number < len(moments) else f"nowhere: moment {number} did not come"

    def _check_run(self, run: WorkflowRun, outcome: Any) -> Effects:
        expected, trace = self.expected, self._harness.trace
        if not run.status.is_terminal:
            self.errors.append(f"it did not end: it is {run.status} after {MAX_DELIVERIES} deliveries")
        interrupted = {key for cut in self._cuts for key in cut_off(cut)}
        is_other_path = bool(interrupted) and self.bench.judgement.interrupted(run)
        self.errors += expected.errors_of_ending(run, outcome, interrupted=interrupted, is_other_path=is_other_path)
        if outcome != expected.outcome and self.disturbance == Disturbance():
            self.errors.append("nothing was done to it: it depends on time, on chance, or on what an earlier run left")
        is_same_path = outcome == expected.outcome and not interrupted
        self.errors += expected.errors_of_steps(run.id, trace, is_same_path=is_same_path)
        self.errors += expected.errors_of_bodies(run.id, trace, self._cuts, is_other_path=is_other_path)
        return expected.too_often(self.seen.total(), is_other_path=is_other_path)

    async def _check_records(self, run: WorkflowRun, before: RunStats) -> None:
        if await self._harness.get_run(run.id) != run:
            self.errors.append("what is recorded is not what the last delivery was answered")
        counted = Counter((await self._harness.stats())["by_status"]) - Counter(before["by_status"])
        if counted != {run.status: 1}:
            self.errors.append(f"the statistics count {dict(counted)} more, not one {run.status}")
