"""Thousands of runs with trouble that a seed decides: each must end as if there had been none."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from structlog.testing import capture_logs

from autopilot.core.outcome import Ended, Outcome, Replayed
from autopilot.core.runtime import Runtime
from autopilot.errors import RunStartFailed, SetupTimedOut, StepNotAwaited, StoreError
from autopilot.models import StepStatus, TriggerType, WorkflowRun
from autopilot.testing.clock import ManualClock
from autopilot.testing.effects import Effects, Observation, World, excess
from autopilot.testing.expectation import (
    Expectation,
    Judgement,
    effect_errors,
    errors_of_awaiting,
    errors_of_catching,
    failed_as_interrupted,
    outcome_of,
    plain,
)
from autopilot.testing.faults import Fate, Ledger, SimulatedInstance
from autopilot.testing.harness import Harness, MakeWorkflow, require_maker
from autopilot.testing.instance import Instance, InstanceKilled
from autopilot.testing.store import MemoryStore

MAX_DELIVERIES = 40
"""How often a trigger is delivered before the simulation says that its run does not end."""

_STORY_SHOWN = 60


@dataclass(frozen=True, slots=True)
class SimulationReport:
    """What a simulation came to that found nothing."""

    workflow_id: str
    seeds: int
    runs: int
    """Triggers whose runs ended as they should."""
    deliveries: int
    faults: dict[str, int]
    """How often each kind of trouble there was."""
    interrupted: int
    """Runs in which an at-most-once step was cut off, and that ended as they should then."""
    seconds: float
    """Real time."""

    def __str__(self) -> str:
        faults = ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        return (
            f"{self.workflow_id}: {self.runs} runs of {self.seeds} seeds in {self.deliveries} deliveries, "
            f"{self.runs / max(self.seconds, 1e-9):.0f} runs a second; {faults}"
        )


class SimulationFailed(AssertionError):
    """A run did not end as it should.

    Attributes:
        seed: ``simulate(..., seeds=[seed])`` repeats it.
        errors: everything that is wrong.
        story: what happened, in order.
    """

    def __init__(self, workflow_id: str, seed: int, errors: Sequence[str], story: Sequence[str]) -> None:
        left_out = len(story) - _STORY_SHOWN
        told = [*story[:_STORY_SHOWN], *([f"... and {left_out} lines more in .story"] if left_out > 0 else [])]
        lines = [f"  - {error}" for error in errors]
        super().__init__(
            "\n".join([f"{workflow_id}: seed {seed} fails; seeds=[{seed}] repeats it", *lines, "what happened:", *told])
        )
        self.seed = seed
        self.errors = list(errors)
        self.story = list(story)


async def simulate(
    workflow: MakeWorkflow,
    payloads: Sequence[Any] | Mapping[str, Any] = ({},),
    *,
    seeds: int | Iterable[int] = 1000,
    outcome: Callable[[WorkflowRun], Any] = outcome_of,
    effects: Callable[[], Any] | None = None,
    interrupted: Callable[[WorkflowRun], bool] = failed_as_interrupted,
    prepare: Callable[[], object] = lambda: None,
    neighbours: bool = True,
) -> SimulationReport:
    """Run a workflow with trouble that is drawn from a seed, for many seeds, on a virtual clock and a store in memory.

    Each seed draws payloads, and what happens to their triggers: instances are killed, get SIGTERM, get no CPU for a
    while, or stand still until others have taken over, and go on; calls of the store are slow, fail, or are done and
    their answers lost; wall clocks jump, forward and back; triggers are delivered twice, at the same time or later; and
    a second run of the workflow works beside the first. There is no more trouble than a sound workflow survives. Each
    trigger is delivered until its run has ended. Then:

    - its run ended as the undisturbed run of the same payload did, or, where an at-most-once step was cut off, as
      ``interrupted`` says;
    - one result was recorded of each step; no body was begun again after that, and none at most once twice;
    - the statistics are what a recount of the runs gives;
    - no effect happened more often than it may, as in :func:`~autopilot.testing.crash_matrix`.

    The same seed is the same simulation: ids, pauses and the order of everything come from it. For that, plain functions
    run in the event loop, one at a time, and the code under test must not wait for real time or for a network.

    Args:
        workflow: the workflow's class, or a function that makes an instance.
        payloads: one of them is drawn for each run; a single payload is a list of one.
        seeds: how many, from 0; or which.
        outcome, effects, interrupted: as for ``crash_matrix``. Leave out of ``outcome`` what a time limit of the workflow's
            own decides: an instance that gets no CPU exceeds it.
        prepare: is called before each seed, to put back what the workflow changed elsewhere.
        neighbours: whether other runs of the workflow may work at the same time. False for one whose result depends on
            its earlier runs.

    Raises:
        SimulationFailed: an AssertionError with the first seed that fails and what happened, in order.
        ValueError: there is no payload or no seed, an undisturbed run did not end, ``outcome`` cannot be compared, or
            ``effects`` looked into.
        TypeError: ``workflow`` is an instance, or another argument no plain function.
    """
    listed = [payloads] if isinstance(payloads, Mapping) else list(payloads)
    if not listed:
        raise ValueError("payloads: there must be one at least")
    judgement = Judgement(plain("outcome", outcome), plain("interrupted", interrupted))
    world = World(workflow, effects and plain("effects", effects))
    bench = _Bench(workflow, listed, judgement, plain("prepare", prepare), world, neighbours)
    began = time.perf_counter()
    totals: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    drawn = list(range(seeds) if isinstance(seeds, int) else seeds)
    if not drawn:
        raise ValueError("seeds: there must be one at least")
    for seed in drawn:
        with capture_logs():
            done = await bench.simulated(seed)
        totals += Counter(seeds=1, runs=len(done.triggers), deliveries=done.deliveries, interrupted=done.interrupted)
        faults += done.fate.faults
    return SimulationReport(
        workflow_id=bench.workflow_id,
        seeds=totals["seeds"],
        runs=totals["runs"],
        deliveries=totals["deliveries"],
        faults=dict(faults),
        interrupted=totals["interrupted"],
        seconds=time.perf_counter() - began,
    )


@dataclass(slots=True)
class _Bench:
    """Everything that the seeds have in common."""

    workflow: MakeWorkflow
    payloads: list[Any]
    judgement: Judgement
    prepare: Callable[[], object]
    world: World
    neighbours: bool
    _expected: dict[int, Expectation] = field(default_factory=dict)
    workflow_id: str = field(init=False)
    timeout_seconds: float = field(init=False)

    def __post_init__(self) -> None:
        require_maker(self.workflow)
        manifest = self.workflow().manifest
        self.workflow_id, self.timeout_seconds = manifest.name, float(manifest.timeout_seconds)

    async def simulated(self, seed: int) -> "_Simulation":
        """The simulation of a seed.

        Raises:
            SimulationFailed: something is wrong with it.
        """
        done = await self._simulation(seed)
        await done.run()
        if done.errors or done.over or done.went_on:
            again = await self._simulation(seed)
            with again.seen.line_by_line():
                await again.run()
            done.explain(again)
        if done.errors:
            raise SimulationFailed(self.workflow_id, seed, done.errors, done.fate.story)
        return done

    async def _simulation(self, seed: int) -> "_Simulation":
        fate = Fate(seed, (clock := ManualClock()), self.timeout_seconds)
        numbers = [fate.random.randrange(len(self.payloads))]
        if self.neighbours and fate.chance(0.25):
            numbers.append(fate.random.randrange(len(self.payloads)))
        triggers = [_Trigger(place, await self._expectation(number)) for place, number in enumerate(numbers, 1)]
        self.prepare()
        return _Simulation(self, fate, triggers, Observation(self.world), MemoryStore(clock=clock))

    async def _expectation(self, number: int) -> Expectation:
        if number not in self._expected:
            self.prepare()
            seen = Observation(self.world)
            harness = Harness(self.workflow, observer=seen, in_threads=False)
            run = await harness.run(self.payloads[number], identity="undisturbed")
            if not run.status.is_terminal:
                raise ValueError(f"the undisturbed run of payload {number} did not end: it is {run.status}")
            if run.error_type == StepNotAwaited.__name__ or harness.trace.not_awaited:
                await self._explain_not_awaited(number)
            self._expected[number] = Expectation(run, harness.trace, self.judgement.snapshot(run), seen.total())
        return self._expected[number]

    async def _explain_not_awaited(self, number: int) -> None:
        seen = Observation(self.world)
        harness = Harness(self.workflow, observer=seen, in_threads=False)
        with seen.line_by_line():
            run = await harness.run(self.payloads[number], identity="undisturbed")
        errors = errors_of_awaiting(run, harness.trace, seen)
        raise SimulationFailed(self.workflow_id, number, errors, ["nothing was done to it"])


@dataclass(slots=True)
class _Trigger:
    """A trigger of a simulation, and what became of it."""

    number: int
    expected: Expectation
    run: WorkflowRun | None = None
    is_done: bool = False

    @property
    def identity(self) -> str:
        return f"trigger {self.number}"

    @property
    def payload(self) -> Any:
        return self.expected.run.trigger_data


class _SimulatedHarness(Harness):
    """Instances that a simulation does things to."""

    simulation: "_Simulation"

    def simulated_instance(self, trigger: _Trigger) -> SimulatedInstance:
        simulation = self.simulation
        simulation.deliveries += 1
        instance = SimulatedInstance(
            self.store,
            simulation.fate,
            name=f"instance {simulation.deliveries}",
            ledger=simulation.ledger,
            overtake=lambda: simulation.call(trigger),
            observer=simulation.seen,
        )
        instance.observed.on_step = simulation.ledger.record
        return instance

    def _runtime(self, instance: Instance) -> Runtime:
        assert isinstance(instance, SimulatedInstance)  # noqa: S101 - it makes no other
        store = instance.faulty_store
        return replace(super()._runtime(instance), clock=instance.clock, run_log=lambda: store, journal=lambda: store)

    async def served(self, trigger: _Trigger, instance: SimulatedInstance) -> Outcome:
        return await self._deliver(instance, trigger.payload, trigger.identity, TriggerType.MANUAL)


class _Simulation:
    """One seed."""

    def __init__(
        self, bench: _Bench, fate: Fate, triggers: list[_Trigger], seen: Observation, store: MemoryStore
    ) -> None:
        self.fate = fate
        self.triggers = triggers
        self.seen = seen
        self.ledger = Ledger()
        self.deliveries = 0
        self.interrupted = 0
        self.errors: list[str] = []
        self.over: Effects = Counter()
        self._bench = bench
        self._store = store
        self._harness = _SimulatedHarness(
            bench.workflow, store=store, clock=fate.clock, seed=fate.seed, observer=seen, in_threads=False
        )
        self._harness.simulation = self
        self._callers: list[asyncio.Task[None]] = []
        self._at_work = 0
        """Instances that are under way and do not stand still."""

    async def run(self) -> None:
        """Do everything, and look at what came of it."""
        for trigger in self.triggers:
            self.call(trigger)
            if self.fate.chance(0.3):
                self.call(trigger)
        await self._all_callers()
        self.errors += [f"trigger {each.number}: its run did not end" for each in self.triggers if not each.is_done]
        for trigger in self.triggers:
            if trigger.is_done and self.fate.chance(0.2):
                await self._come_late(trigger)
        for trigger in self.triggers:
            await self._check(trigger)
        await self._check_statistics()
        self.errors += self.ledger.errors
        self._check_effects()

    @property
    def went_on(self) -> bool:
        """Whether code may have caught the end of its attempt."""
        return self._harness.trace.went_on

    def call(self, trigger: _Trigger) -> None:
        """Let somebody deliver a trigger until its run has ended."""
        self._callers.append(asyncio.ensure_future(self._deliver_until_done(trigger)))

    def explain(self, same: "_Simulation") -> None:
        """Say which lines had the effects that happened too often; those in bodies only if the author asked for it."""
        over = self.over if self._bench.world.is_declared else self.over & same.seen.total(outside_of_steps=True)
        self.errors += effect_errors(over, self._effects, same.seen)
        self.errors += errors_of_catching(same.seen)
        if same.fate.story != self.fate.story:
            self.errors.append(
                "the same seed went another way: the code depends on chance, or on real time, a network or a thread"
            )

    async def _all_callers(self) -> None:
        done = 0
        while done < len(self._callers):  # those that stand still call others
            await self._callers[done]
            done += 1

    async def _deliver_until_done(self, trigger: _Trigger) -> None:
        await self.fate.let_others_work(5)
        for _ in range(MAX_DELIVERIES):
            outcome = await self._deliver(trigger)
            if outcome is not None and outcome.run.status.is_terminal and _is_recorded(outcome):
                trigger.run, trigger.is_done = outcome.run, True
                return
            await self._wait()

    async def _deliver(self, trigger: _Trigger) -> Outcome | None:
        instance = self._harness.simulated_instance(trigger)
        self.fate.tell(f"trigger {trigger.number} is delivered to {instance.name}")
        self._at_work += 1
        try:
            outcome = await self._harness.served(trigger, instance)
        except InstanceKilled:
            return None
        except (RunStartFailed, SetupTimedOut, StoreError) as error:
            self.fate.tell(f"{instance.name} answers {type(error).__name__}")
            return None
        finally:
            self._at_work -= 1
        self.fate.tell(f"{instance.name}: {type(outcome).__name__.lower()}, {outcome.run.status}")
        return outcome

    async def _wait(self) -> None:
        """Wait before a trigger is delivered again: while others are at work for them, otherwise for a lease to end."""
        waited = 0
        while self._at_work and waited < _TURNS:
            waited += 1
            await asyncio.sleep(0)
        if not waited:
            self.fate.pass_lease()

    async def _come_late(self, trigger: _Trigger) -> None:
        bodies = self._harness.trace.bodies.copy()
        outcome = await self._deliver(trigger)
        if self._harness.trace.bodies != bodies:
            self.errors.append(f"trigger {trigger.number}: delivered again after its run's end, it began a body")
        if isinstance(outcome, Replayed) and outcome.run.status.is_terminal:
            trigger.run = outcome.run

    async def _check(self, trigger: _Trigger) -> None:
        if trigger.run is None:
            return
        stored = await self._store.get_run(trigger.run.workflow_id, trigger.run.id)
        if stored != trigger.run:
            self.errors.append(f"trigger {trigger.number}: what is recorded is not what was answered")
        steps = await self._store.get_run_steps(trigger.run.workflow_id, trigger.run.id)
        outcome = self._bench.judgement.snapshot(trigger.run)
        interrupted = {step.key for step in steps if step.status in {StepStatus.STARTED, StepStatus.INTERRUPTED}}
        is_other_path = bool(interrupted) and self._bench.judgement.interrupted(trigger.run)
        self.interrupted += is_other_path
        errors = trigger.expected.errors_of_ending(
            trigger.run, outcome, interrupted=interrupted, is_other_path=is_other_path
        )
        if not interrupted:
            errors += trigger.expected.errors_of_keys(trigger.run.id, self._harness.trace)
        self.errors += [f"trigger {trigger.number}: {error}" for error in errors]

    async def _check_statistics(self) -> None:
        runs, _ = await self._store.list_runs(self._bench.workflow_id, limit=1000)
        counted = Counter(run.status.value for run in runs)
        stats = await self._store.get_stats(self._bench.workflow_id)
        if Counter(stats["by_status"]) != counted or len(runs) != len(self.triggers):
            self.errors.append(f"the statistics count {stats['by_status']}; a recount gives {dict(counted)}")

    @property
    def _effects(self) -> Effects:
        """The effects that the undisturbed runs had."""
        total: Effects = Counter()
        for trigger in self.triggers:
            total += trigger.expected.effects
        return total

    def _check_effects(self) -> None:
        found, expected = self.seen.total(), self._effects
        if self.interrupted:
            found = Counter({effect: count for effect, count in found.items() if effect in expected})
        self.over = excess(expected, found)


def _is_recorded(outcome: Outcome) -> bool:
    return isinstance(outcome, Ended | Replayed) and outcome.persisted


_TURNS = 2000
"""How long somebody waits for instances that are at work, in turns of the event loop."""
