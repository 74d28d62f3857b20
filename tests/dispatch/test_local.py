"""Runs that were interrupted on a developer's machine are continued."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta

import pytest

from autopilot.core.store import Store
from autopilot.dispatch.local import LOOK_EVERY_SECONDS, Continuations
from autopilot.errors import StoreUnavailable
from autopilot.models import RunStatus
from autopilot.storage.sqlite.store import SQLiteStore
from autopilot.testing import ManualClock
from tests.runs import MakeRun

Step = Callable[[], object]


class Looks(ManualClock):
    """A clock that does one thing after each look, and cancels who sleeps when there is nothing left to do."""

    def __init__(self) -> None:
        super().__init__()
        self.then: list[Step] = []

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        for _ in range(10):
            await asyncio.sleep(0)  # deliveries get as far as they can
        if not self.then:
            raise asyncio.CancelledError
        self.then.pop(0)()


class Functions:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, path: str, body: bytes, headers: Mapping[str, str]) -> int:
        self.asked.append(path)
        await self.may_answer.wait()
        return 200


@pytest.fixture
def clock() -> Looks:
    return Looks()


@pytest.fixture
def functions() -> Functions:
    return Functions()


@pytest.fixture
def history(clock: Looks) -> Store:
    return SQLiteStore(":memory:", clock=clock)


async def look(history: Store, functions: Functions, clock: Looks, *then: Step) -> None:
    """Look once, and once more after each of ``then``."""
    clock.then = list(then)
    with pytest.raises(asyncio.CancelledError):
        await Continuations({"digest": "digest_function"}, lambda: history, functions, clock).run()


async def test_a_run_is_continued_once_its_lease_has_ended(
    history: Store, functions: Functions, clock: Looks, make_run: MakeRun
) -> None:
    due_at = clock.now() + timedelta(seconds=2 * LOOK_EVERY_SECONDS)
    await history.save_run(make_run(id="held", status=RunStatus.RUNNING, due_at=due_at))
    asked: list[int] = []

    await look(history, functions, clock, *[lambda: asked.append(len(functions.asked))] * 2)

    assert asked == [0, 0]
    assert functions.asked == ["/digest_function/runs/held/continue"]
    assert clock.slept == [LOOK_EVERY_SECONDS] * 3


async def test_runs_that_are_over_or_of_other_bundles_are_left_alone(
    history: Store, functions: Functions, clock: Looks, make_run: MakeRun
) -> None:
    due = {"status": RunStatus.RUNNING, "due_at": clock.now()}
    await history.save_run(make_run(id="over"))
    await history.save_run(make_run(id="not_due", status=RunStatus.RUNNING, due_at=None))
    await history.save_run(make_run(id="other", workflow_id="not_here", **due))
    await history.save_run(make_run(id="due", **due))

    await look(history, functions, clock)

    assert functions.asked == ["/digest_function/runs/due/continue"]


async def test_a_run_that_is_being_continued_is_not_asked_for_again(
    history: Store, functions: Functions, clock: Looks, make_run: MakeRun
) -> None:
    await history.save_run(make_run(id="due", status=RunStatus.RUNNING, due_at=clock.now()))
    functions.may_answer.clear()
    asked: list[int] = []

    def answer() -> None:
        asked.append(len(functions.asked))
        functions.may_answer.set()

    await look(history, functions, clock, lambda: asked.append(len(functions.asked)), answer, lambda: None)

    assert asked == [1, 1]
    assert len(functions.asked) > 1


async def test_a_store_that_is_away_is_asked_again(
    history: Store, functions: Functions, clock: Looks, make_run: MakeRun
) -> None:
    await history.save_run(make_run(id="due", status=RunStatus.RUNNING, due_at=clock.now()))
    stores: list[Store] = []

    def archive() -> Store:
        stores.append(history)
        if len(stores) == 1:
            raise StoreUnavailable("sqlite", "find_runs", "locked")
        return history

    clock.then = [lambda: None]
    with pytest.raises(asyncio.CancelledError):
        await Continuations({"digest": "digest_function"}, archive, functions, clock).run()

    assert functions.asked == ["/digest_function/runs/due/continue"]


async def test_no_task_outlives_the_dispatcher(
    history: Store, functions: Functions, clock: Looks, make_run: MakeRun
) -> None:
    await history.save_run(make_run(id="due", status=RunStatus.RUNNING, due_at=clock.now()))
    functions.may_answer.clear()

    await look(history, functions, clock)

    assert len(functions.asked) == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}
