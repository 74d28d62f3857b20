"""Calls to Firestore whose answers are lost, within the time that is left of an invocation."""

from collections.abc import Awaitable, Callable
from itertools import pairwise
from random import Random

import pytest

from autopilot import RunContext
from autopilot.core.deadline import deadline
from autopilot.core.outcome import Ended
from autopilot.errors import AutopilotError, StoreUnavailable
from autopilot.storage.firestore.store import FirestoreStore
from autopilot.testing import Harness, ManualClock
from tests.durable.scripts import scripted
from tests.firestore_wire import Wire
from tests.journal import start_of
from tests.runs import MakeRun

pytestmark = pytest.mark.emulator

Call = Callable[[FirestoreStore], Awaitable[object]]


@pytest.fixture
def store(wire: Wire, clock: ManualClock) -> FirestoreStore:
    """A store whose time, and that of its network, is the test's clock; its pauses are the longest there are."""
    wire.clock = clock
    return FirestoreStore(connect=wire.connect, clock=clock, deadline_clock=clock, random=lambda: 1.0)


def losing(first: int) -> Callable[[], bool]:
    """Loses the answers of the first RPCs."""
    left = [True] * first
    return lambda: bool(left) and left.pop()


@pytest.mark.parametrize("seconds", (0.2, 0.6, 10))
@pytest.mark.parametrize("call", ("start", "save", "read", "query"))
async def test_a_call_is_tried_three_times_in_whatever_time_it_has(
    store: FirestoreStore, wire: Wire, clock: ManualClock, make_run: MakeRun, *, call: str, seconds: float
) -> None:
    run = make_run()
    calls: dict[str, Call] = {
        "start": lambda store: store.start_run(start_of(run)),
        "save": lambda store: store.save_run(run),
        "read": lambda store: store.get_run("digest", run.id),
        "query": lambda store: store.get_latest_run("digest"),
    }
    wire.loses = losing(2)
    began = clock.monotonic()
    with deadline(clock, began + seconds):
        await calls[call](store)

    assert clock.monotonic() - began < seconds
    assert not wire.loses()


async def test_a_call_without_an_answer_ends_in_the_time_that_is_left(
    store: FirestoreStore, wire: Wire, clock: ManualClock, make_run: MakeRun
) -> None:
    wire.loses = lambda: True
    began = clock.monotonic()
    with (
        deadline(clock, began + 0.6),
        pytest.raises(StoreUnavailable, match=r"no success within 0\.6 s; the last try: 504 the answer was lost"),
    ):
        await store.save_run(make_run())

    assert clock.monotonic() - began < 1
    assert wire.calls.total() >= 3


async def test_a_call_without_time_sends_nothing(store: FirestoreStore, wire: Wire, clock: ManualClock) -> None:
    with deadline(clock, clock.monotonic()), pytest.raises(StoreUnavailable, match="no time is left for it"):
        await store.get_run("digest", "run-1")

    assert not wire.calls


async def test_a_third_try_has_as_long_as_a_slow_network_needs(
    store: FirestoreStore, wire: Wire, clock: ManualClock
) -> None:
    def note() -> bool:
        began.append(clock.monotonic())
        return True

    began: list[float] = []
    wire.loses = note
    with pytest.raises(StoreUnavailable):
        await store.get_run("digest", "run-1")

    waits = [after - before for before, after in pairwise(began)]
    assert max(waits) >= 5, "of ten seconds, half in one go"


@pytest.mark.slow
async def test_over_a_network_that_loses_a_tenth_of_the_answers_short_invocations_succeed(
    store: FirestoreStore, wire: Wire, clock: ManualClock
) -> None:
    async def execute(ctx: RunContext) -> list[int]:
        return [await ctx.step(name, lambda: 1) for name in ("a", "b")]

    chance = Random(3)
    wire.loses = lambda: chance.random() < 0.1
    harness = Harness(scripted(execute, timeout_seconds=3), store=store, clock=clock)
    ended = 0
    for number in range(60):
        try:
            outcome = await harness.deliver(identity=f"order {number}")
        except AutopilotError:
            continue
        ended += isinstance(outcome, Ended) and outcome.persisted and outcome.run.status == "success"

    assert ended >= 59, "nearly half of them failed when one lost answer cost a whole call"
