"""What happens to the instances of a simulation, drawn from a seed: kills, signals, stores, clocks, time."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any, TypeVar, cast

from autopilot.core.clock import Timeout
from autopilot.core.deadline import store_seconds
from autopilot.core.engine import LEASE_MARGIN
from autopilot.core.store import Store
from autopilot.core.tasks import uninterrupted
from autopilot.errors import StoreUnavailable
from autopilot.models import StepStatus
from autopilot.testing.clock import ManualClock
from autopilot.testing.instance import BodyKey, Instance, InstanceObserver

T = TypeVar("T")

_MAX_FAULTS = 4
_MAX_LOST_INVOCATIONS = 2
"""How often time passes until the invocations that are under way are over: with a third, the engine gives up."""
_MAX_SLOW = 0.4
"""The share of an invocation's time, at most, that passes otherwise while the simulation lasts."""
_AT_A_MOMENT = 0.12
_IN_A_CALL = 0.1
_MAX_JUMP = timedelta(minutes=10)

_MOMENTS = {"kill": 6, "shut down": 2, "compute": 2, "clock": 1}
_CALLS = {"absent": 3, "lost": 4, "slow": 2, "pause": 2}


class SkewedClock:
    """An instance's clock: the wall clock can be wrong, time passes as everywhere."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        return self._clock.now() + self.ahead

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    def timeout(self, seconds: float | None) -> Timeout:
        return self._clock.timeout(seconds)


@dataclass(slots=True)
class Fate:
    """What is drawn from a seed, in the order in which it is asked for.

    No more than a sound workflow survives: few faults, and seldom time enough for an invocation to be over.
    """

    seed: int
    clock: ManualClock
    timeout_seconds: float
    story: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    furthest_ahead: timedelta = timedelta(0)
    """By how much a wall clock went before, at most: what such an instance wrote may be due that much later."""
    random: Random = field(init=False)
    _began: float = field(init=False)
    _faults_left: int = field(init=False)
    _invocations_left: int = _MAX_LOST_INVOCATIONS
    _slow_left: float = field(init=False)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)  # noqa: S311 - to be the same each time
        self._began = self.clock.monotonic()
        self._faults_left = self.random.randint(0, _MAX_FAULTS)
        self._slow_left = _MAX_SLOW * self.timeout_seconds

    def tell(self, what: str) -> None:
        """Add a line to the story."""
        self.story.append(f"{self.clock.monotonic() - self._began:9.3f} s  {what}")

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.random.random() < probability

    def at_a_moment(self) -> str | None:
        """The fault of a moment, if it has one."""
        return self._fault(_AT_A_MOMENT, _MOMENTS)

    def in_a_call(self) -> str | None:
        """The fault of a call of the store, if it has one."""
        return self._fault(_IN_A_CALL, _CALLS)

    def jump(self) -> timedelta:
        """How far a wall clock jumps."""
        jump = self.random.uniform(-1, 1) * _MAX_JUMP
        self.furthest_ahead = max(self.furthest_ahead, jump)
        return jump

    def pass_time(self, most: float) -> float:
        """Let some seconds pass, ``most`` at most, or as many as are left."""
        seconds = min(self.random.uniform(0, most), self._slow_left)
        self._slow_left -= seconds
        self.clock.advance(timedelta(seconds=seconds))
        return seconds

    def pass_lease(self) -> None:
        """Let so much time pass that whatever was under way is over, and what was written is due."""
        self.clock.advance(timedelta(seconds=self.timeout_seconds) + LEASE_MARGIN + self.furthest_ahead)

    async def let_others_work(self, most: int) -> None:
        """Give other instances some turns of the event loop."""
        for _ in range(self.random.randint(0, most)):
            await asyncio.sleep(0)

    def _fault(self, probability: float, kinds: dict[str, int]) -> str | None:
        if not self._faults_left or not self.chance(probability):
            return None
        (kind,) = self.random.choices(list(kinds), list(kinds.values()))
        if kind == "pause":
            if not self._invocations_left:
                return None
            self._invocations_left -= 1
        self._faults_left -= 1
        self.faults[kind] += 1
        return kind


class SimulatedInstance(Instance):
    """An instance to which things happen.

    Args:
        name: in the story.
        ledger: of all instances.
        overtake: is called when the instance stands still: its trigger is delivered again elsewhere.
    """

    def __init__(
        self,
        store: Store,
        fate: Fate,
        *,
        name: str,
        ledger: "Ledger",
        overtake: Callable[[], None],
        observer: InstanceObserver,
    ) -> None:
        super().__init__(store, observer=observer)
        self.clock = SkewedClock(fate.clock)
        self.name = name
        self._fate = fate
        self._ledger = ledger
        self._overtake = overtake
        self.observed = self.store
        self.faulty_store = cast("Store", FaultyStore(self.store, self, fate))

    def before_body(self, run_id: str, key: str) -> None:
        super().before_body(run_id, key)
        self._ledger.begin_body(self, run_id, key)

    def reach(self, moment: str) -> None:
        super().reach(moment)
        fault = self._fate.at_a_moment()
        if fault == "kill":
            self._fate.tell(f"{self.name} is killed {moment}")
            self.kill(moment)
        elif fault == "shut down":
            self._fate.tell(f"{self.name} gets SIGTERM {moment}")
            self.shutdown.begin()
        elif fault == "compute":
            seconds = self._fate.pass_time(self._fate.timeout_seconds / 5)
            self._fate.tell(f"{self.name} gets no CPU for {seconds:.3f} s, which a neighbour needs, {moment}")
        elif fault == "clock":
            self.clock.ahead += (jump := self._fate.jump())
            self._fate.tell(f"the clock of {self.name} jumps by {jump.total_seconds():+.0f} s {moment}")

    async def stand_still(self, doing: str) -> None:
        """Get no CPU until the lease is over and others may have taken over."""
        self._fate.tell(f"{self.name} stands still in {doing}, until after its lease")
        self._fate.pass_lease()
        self._overtake()
        await self._fate.let_others_work(60)
        self._fate.tell(f"{self.name} goes on in {doing}")


class FaultyStore:
    """An instance's store, with calls that are slow, that fail, or whose answers are lost."""

    def __init__(self, store: Any, instance: SimulatedInstance, fate: Fate) -> None:
        self._store = store
        self._instance = instance
        self._fate = fate

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = getattr(self._store, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._call(name, lambda: method(*args, **kwargs))

        return call

    async def _call(self, name: str, method: Callable[[], Awaitable[T]]) -> T:
        await self._fate.let_others_work(2)
        fault = self._fate.in_a_call()
        if fault == "absent":
            self._fate.tell(f"{self._instance.name}: {name} fails: the store is away")
            raise StoreUnavailable("the simulated store", name, "it is away")
        if fault == "slow":
            seconds = self._fate.pass_time(1.5 * store_seconds(self._fate.timeout_seconds))
            self._fate.tell(f"{self._instance.name}: {name} takes {seconds:.3f} s")
            await uninterrupted(self._fate.let_others_work(5))
        if fault == "pause":
            return await uninterrupted(self._late(name, method))
        answer = await method()
        if fault == "lost":
            self._fate.tell(f"{self._instance.name}: {name} is done, and its answer lost")
            raise StoreUnavailable("the simulated store", name, "the answer was lost")
        return answer

    async def _late(self, name: str, method: Callable[[], Awaitable[T]]) -> T:
        """The call arrives before the instance stands still, or only after it."""
        if self._fate.chance(0.5):
            await self._instance.stand_still(f"{name}, before it arrives")
            return await method()
        answer = await method()
        await self._instance.stand_still(f"{name}, after it was done")
        return answer


@dataclass(slots=True)
class Ledger:
    """The bodies and records of all instances, in the order in which they came, and what is wrong with them."""

    errors: list[str] = field(default_factory=list)
    _last: dict[BodyKey, StepStatus] = field(default_factory=dict)
    _begun_by: dict[BodyKey, "SimulatedInstance"] = field(default_factory=dict)

    def record(self, run_id: str, key: str, status: StepStatus) -> None:
        """A record of a step was committed."""
        if status is StepStatus.SUCCESS and self._last.get((run_id, key)) is StepStatus.SUCCESS:
            self.errors.append(f"step {key}: its result was recorded twice")
        self._last[run_id, key] = status

    def begin_body(self, instance: SimulatedInstance, run_id: str, key: str) -> None:
        """A body begins."""
        last, before = self._last.get((run_id, key)), self._begun_by.get((run_id, key))
        if last is StepStatus.SUCCESS:
            self.errors.append(f"step {key}: its body was begun again after its result was recorded")
        elif last is StepStatus.STARTED and before not in {None, instance}:
            self.errors.append(f"step {key}: it may be begun at most once, and was begun again")
        self._begun_by[run_id, key] = instance
