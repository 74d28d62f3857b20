"""Programs out of steps, and a world in which they run: it counts for itself what the engine does."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from hypothesis import strategies as st

from autopilot import Completion, MapFailed, Retry, RunContext, StepFailed
from autopilot.core.clock import Clock
from autopilot.core.store import Lease, StepRecord
from autopilot.models import StepStatus, WorkflowRun
from autopilot.storage.sqlite.store import SQLiteStore

How = Literal["collect", "group", "gather"]
Then = Literal["go on", "raise", "raise another"]

FOR_GOOD = 99


@dataclass(frozen=True, slots=True)
class Work:
    """A step that does something."""

    fails: int = 0
    """It fails until so many failures of it are recorded: what a killed instance knew alone does not count."""
    flaky: int = 0
    """How many of its first executions by one instance fail."""
    tries: int = 1
    once: bool = False
    plain: bool = False
    ticks: int = 0


@dataclass(frozen=True, slots=True)
class Inside:
    """A step whose body is a program."""

    node: "Node"
    tries: int = 1


@dataclass(frozen=True, slots=True)
class Sequence:
    nodes: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Together:
    how: How
    nodes: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Each:
    """A fan-out, one program for each item."""

    nodes: tuple["Node", ...]
    at_once: int
    tolerant: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """A program, and what compensates for its failure."""

    node: "Node"
    undo: "Node"
    then: Then


Node = Work | Inside | Sequence | Together | Each | Attempt


def may_fail(node: Node) -> bool:
    """Whether any step of it can fail."""
    match node:
        case Work():
            return node.fails > 0
        case Attempt():
            return may_fail(node.node) or may_fail(node.undo)
        case Inside():
            return may_fail(node.node)
        case _:
            return any(may_fail(each) for each in node.nodes)


@st.composite
def nodes(draw: st.DrawFn, *, depth: int = 3, heals: bool = True, bare: bool = True, fails: bool = True) -> Node:
    """Programs whose outcome does not depend on the time that anything takes.

    Args:
        heals: steps may fail once and succeed when they are retried. Not under a step's own ``retry``, whose tries an
            instance takes with it when it dies.
        bare: nothing catches a failure before the scope ends, and with it what is left of a gather.
        fails: steps may fail.
    """

    def part(**changes: Any) -> Node:
        return draw(nodes(**{"depth": depth - 1, "heals": heals, "bare": bare, "fails": fails} | changes))

    def parts(one_fails: bool, **changes: Any) -> tuple[Node, ...]:  # noqa: FBT001
        found: list[Node] = []
        for _ in range(draw(st.integers(1, 3))):
            may = fails and not (one_fails and any(map(may_fail, found)))
            found.append(part(fails=may, **changes))
        return tuple(found)

    match draw(st.sampled_from(("work", "inside", "sequence", "together", "each", "attempt")[: 6 if depth else 1])):
        case "inside":
            tries = draw(st.integers(1, 2))
            return Inside(part(bare=True, heals=heals and tries == 1), tries)
        case "sequence":
            return Sequence(parts(one_fails=False))
        case "together":
            hows: tuple[How, ...] = ("collect", "group", "gather")
            how = draw(st.sampled_from(hows[: 3 if bare else 2]))
            return Together(how, parts(one_fails=how != "collect"))
        case "each":
            at_once, is_tolerant = draw(st.integers(1, 3)), draw(st.booleans())
            return Each(parts(one_fails=at_once > 1 and not is_tolerant, bare=True), at_once, is_tolerant)
        case "attempt":
            thens: tuple[Then, ...] = ("go on", "raise", "raise another")
            return Attempt(part(bare=False), part(depth=0), draw(st.sampled_from(thens)))
    return draw(works(heals=heals, fails=fails))


@st.composite
def works(draw: st.DrawFn, *, heals: bool, fails: bool) -> Work:
    """Steps that do something; see :func:`nodes`."""
    if draw(st.integers(0, 4)) == 4:
        return Work(once=True, plain=draw(st.booleans()), ticks=draw(st.integers(0, 3)))
    tries = draw(st.integers(1, 2))
    return Work(
        fails=draw(st.sampled_from((0, 1, FOR_GOOD) if heals else (0, FOR_GOOD))) if fails else 0,
        flaky=draw(st.integers(0, tries - 1)),
        tries=tries,
        plain=draw(st.integers(0, 3)) == 3,
        ticks=draw(st.integers(0, 3)),
    )


class Sick(Exception):
    """A step's failure; its text is of one execution."""


class Another(Exception):
    """Raised in the handling of a failure."""


class CountingStore(SQLiteStore):
    """SQLite in memory that counts the records it took.

    Attributes:
        last: the last record of each step.
        taken: how many it took, by the step's key, the run's round and the record's status.
        faults: what should not have reached it.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(":memory:", clock=clock)
        self.last: dict[str, StepRecord] = {}
        self.taken: Counter[tuple[str, int, StepStatus]] = Counter()
        self.errors: list[str] = []
        self._is_over = False

    async def record_step(self, lease: Lease, step: StepRecord, *, expires_at: datetime) -> StepRecord:
        recorded = await super().record_step(lease, step, expires_at=expires_at)
        if recorded == step:
            self.last[step.key] = step
            self.taken[step.key, step.round, step.status] += 1
            if self._is_over:
                self.errors.append(f"{step.key} was recorded as {step.status} after the end of the run")
        return recorded

    async def save_run(self, run: WorkflowRun) -> None:
        await super().save_run(run)
        self._is_over |= run.status.is_terminal

    def count(self, key: str, status: StepStatus) -> int:
        """How often a step was recorded in this status."""
        return sum(taken for (each, _, its), taken in self.taken.items() if (each, its) == (key, status))


class World:
    """Where the steps of a program do their work.

    Attributes:
        begun: how often each body was begun.
        faults: what should not be so, in words.
    """

    def __init__(self, store: CountingStore) -> None:
        self.store = store
        self.begun: Counter[str] = Counter()
        self.errors: list[str] = []
        self._of_this_instance: Counter[str] = Counter()
        self._at_work: Counter[str] = Counter()
        self._lock = threading.Lock()

    def begin_instance(self) -> None:
        """The instance before is dead, or has answered: nothing of it may be at work."""
        self.errors += [f"{key}: its body is still at work" for key, bodies in self._at_work.items() if bodies]
        self._of_this_instance.clear()

    @contextmanager
    def at_work(self, key: str) -> Iterator[int]:
        """Within this a body of the step is at work; the how-many-eth execution by this instance it is."""
        with self._lock:
            self.begun[key] += 1
            self._of_this_instance[key] += 1
            self._at_work[key] += 1
            if self._at_work[key] > 1:
                self.errors.append(f"{key}: {self._at_work[key]} bodies at work at once")
            if (known := self.store.last.get(key)) is not None and known.status is StepStatus.SUCCESS:
                self.errors.append(f"{key}: begun again although its result is recorded")
        try:
            yield self._of_this_instance[key]
        finally:
            with self._lock:
                self._at_work[key] -= 1

    def do(self, key: str, work: Work) -> str:
        """The outcome of one execution of a step's work."""
        with self.at_work(key) as executions:
            return self._outcome(key, work, executions)

    async def do_in_a_while(self, key: str, work: Work) -> str:
        """The same, with other things happening meanwhile."""
        with self.at_work(key) as executions:
            for _ in range(work.ticks):
                await asyncio.sleep(0)
            return self._outcome(key, work, executions)

    def _outcome(self, key: str, work: Work, executions: int) -> str:
        if executions <= work.flaky or self.store.count(key, StepStatus.FAILED) < work.fails:
            raise Sick(f"{key}, execution {self.begun[key]}")
        return key

    def saw(self, failure: StepFailed, key: str) -> None:
        """The code saw this failure of a step: in every attempt it is the one that is recorded."""
        known = self.store.last.get(key)
        said = str(failure) if isinstance(failure, MapFailed) else failure.error
        if known is None or (known.error_type, known.error) != (failure.error_type, said):
            self.errors.append(f"{key}: the code saw {failure.error_type}: {said}, and recorded is {known}")


@dataclass(frozen=True, slots=True)
class Program:
    """A program as an author's ``execute``, in a world."""

    node: Node
    world: World

    async def execute(self, ctx: RunContext) -> Any:
        return await self._node(ctx, self.node, "", "n")

    async def _node(self, ctx: RunContext, node: Node, scope: str, name: str) -> Any:
        match node:
            case Work():
                return await self._work(ctx, node, scope, name)
            case Inside():
                return await self._inside(ctx, node, scope, name)
            case Each():
                return await self._each(ctx, node, scope, name)
            case Attempt():
                return await self._attempt(ctx, node, scope, name)
        parts = (self._node(ctx, part, scope, f"{name}.{number}") for number, part in enumerate(node.nodes))
        if isinstance(node, Sequence):
            return [await part for part in parts]
        return await _together(node.how, list(parts))

    async def _work(self, ctx: RunContext, work: Work, scope: str, name: str) -> Any:
        key = scope + name
        body = self.world.do if work.plain else self.world.do_in_a_while
        semantics: Literal["at_most_once", "at_least_once"] = "at_most_once" if work.once else "at_least_once"
        step = ctx.step(name, body, key, work, retry=at_once(work.tries), semantics=semantics)
        return await self._watched(step, key)

    async def _inside(self, ctx: RunContext, inside: Inside, scope: str, name: str) -> Any:
        async def body() -> Any:
            with self.world.at_work(scope + name):
                return await self._node(ctx, inside.node, f"{scope}{name}/", "n")

        return await self._watched(ctx.step(name, body, retry=at_once(inside.tries)), scope + name)

    async def _each(self, ctx: RunContext, each: Each, scope: str, name: str) -> Any:
        async def body(index: int) -> Any:
            with self.world.at_work(f"{scope}{name}[{index}]"):
                return await self._node(ctx, each.nodes[index], f"{scope}{name}[{index}]/", "n")

        completion = Completion(tolerated_failures=len(each.nodes) if each.tolerant else 0)
        fan_out = ctx.map(name, body, range(len(each.nodes)), max_concurrency=each.at_once, completion=completion)
        return (await self._watched(fan_out, scope + name)).successes

    async def _attempt(self, ctx: RunContext, attempt: Attempt, scope: str, name: str) -> Any:
        try:
            return await self._node(ctx, attempt.node, scope, f"{name}.do")
        except Exception as error:
            undone = await self._node(ctx, attempt.undo, scope, f"{name}.undo")
            match attempt.then:
                case "raise":
                    raise
                case "raise another":
                    raise Another(name) from error
            return [type(error).__name__, undone]

    async def _watched(self, step: Any, key: str) -> Any:
        try:
            return await step
        except StepFailed as failure:
            self.world.saw(failure, key)
            raise


def at_once(tries: int) -> Retry:
    """A policy without pauses."""
    return Retry(attempts=tries, first_delay=timedelta(0))


async def _together(how: str, parts: list[Any]) -> list[Any]:
    if how == "gather":
        return list(await asyncio.gather(*parts))
    if how == "group":
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in parts]
        return [task.result() for task in tasks]
    ended = await asyncio.gather(*parts, return_exceptions=True)
    for each in ended:
        if isinstance(each, BaseException) and not isinstance(each, Exception):
            raise each
    if failures := [each for each in ended if isinstance(each, Exception)]:
        raise ExceptionGroup("together", failures)
    return ended


def most_bodies(node: Node, lives: int, scope: str = "", name: str = "n") -> Iterator[tuple[str, int]]:
    """Each step of a program by its full key, and how often at most its body may be begun.

    Args:
        lives: the instances that execute it, times the rounds of the run.
    """
    match node:
        case Work():
            yield scope + name, 1 if node.once else lives * node.tries
        case Inside():
            yield scope + name, lives * node.tries
            yield from most_bodies(node.node, lives * node.tries, f"{scope}{name}/")
        case Each():
            for index, part in enumerate(node.nodes):
                yield f"{scope}{name}[{index}]", lives
                yield from most_bodies(part, lives, f"{scope}{name}[{index}]/")
        case Attempt():
            yield from most_bodies(node.node, lives, scope, f"{name}.do")
            yield from most_bodies(node.undo, lives, scope, f"{name}.undo")
        case _:
            for number, part in enumerate(node.nodes):
                yield from most_bodies(part, lives, scope, f"{name}.{number}")
