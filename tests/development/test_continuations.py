"""Runs that were cut off on a developer's machine go on."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import pytest

from autopilot.core.store import Store
from autopilot.dispatch.local import Continuations
from autopilot.models import RunStatus
from autopilot.storage.sqlite.store import SQLiteStore
from autopilot.testing import ManualClock
from tests.runs import MakeRun


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
def functions() -> Functions:
    return Functions()


@pytest.fixture
def history(clock: ManualClock) -> Store:
    return SQLiteStore(":memory:", clock=clock)


@pytest.fixture
def continuations(history: Store, functions: Functions, clock: ManualClock) -> Continuations:
    return Continuations({"digest": "digest_function"}, lambda: history, functions, clock)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_run_goes_on_once_its_lease_has_ended(
    continuations: Continuations, history: Store, functions: Functions, clock: ManualClock, make_run: MakeRun
) -> None:
    due_at = clock.now() + timedelta(minutes=1)
    await history.save_run(make_run(id="held", status=RunStatus.RUNNING, due_at=due_at))
    await history.save_run(make_run(id="over"))
    await history.save_run(make_run(id="other", workflow_id="not_here", status=RunStatus.RUNNING, due_at=due_at))

    await continuations.look()
    await settled()
    before = list(functions.asked)
    clock.advance(timedelta(minutes=1))
    await continuations.look()
    await settled()

    assert (before, functions.asked) == ([], ["/digest_function/runs/held/continue"])


async def test_a_run_that_is_being_continued_is_not_asked_for_again(
    continuations: Continuations, history: Store, functions: Functions, clock: ManualClock, make_run: MakeRun
) -> None:
    await history.save_run(make_run(id="due", status=RunStatus.RUNNING, due_at=clock.now()))
    functions.may_answer.clear()

    await continuations.look()
    await settled()
    await continuations.look()
    await settled()
    during = len(functions.asked)
    functions.may_answer.set()
    await settled()
    await continuations.look()
    await settled()

    assert (during, len(functions.asked)) == (1, 2)
