"""When a function's answer has been sent, no task is left in its process: after it the CPU is gone."""

import asyncio
from datetime import timedelta
from typing import Any, ClassVar

import httpx
import pytest

from autopilot import BaseWorkflow, Retry, RunContext, WorkflowManifest
from autopilot.testing import ManualClock
from tests.equipment import equipped
from tests.functions_in_process import BrokenStore, Serve

KEY = {"Idempotency-Key": "1"}
JSON = {"Content-Type": "application/json"}

pytestmark = pytest.mark.usefixtures("events")


class Steps(BaseWorkflow):
    """Ends in the way that its payload names; its clock moves by hand."""

    manifest = WorkflowManifest(name="steps", timeout_seconds=60)
    clock: ClassVar[ManualClock]

    def __init__(self) -> None:
        equipped(self, clock=self.clock)

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> Any:
        return await getattr(self, payload["way"])(ctx)

    async def step_timeout(self, ctx: RunContext) -> None:
        await ctx.step("slow", self.hang, timedelta(seconds=5), timeout=timedelta(seconds=5))

    async def deadline(self, ctx: RunContext) -> None:
        await self.hang(timedelta(seconds=60))

    async def deadline_of_many(self, ctx: RunContext) -> None:
        await ctx.map("each", self.hang, [timedelta(0), timedelta(0), timedelta(seconds=60)])

    async def one_of_many_fails(self, ctx: RunContext) -> list[int]:
        return (await ctx.map("each", self.divide, [1, 0, 2], retry=Retry(attempts=2))).successes

    async def group_fails(self, ctx: RunContext) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step("hang", self.hang, timedelta(0)))
            group.create_task(ctx.step("fail", self.divide, 0))

    async def hang(self, by: timedelta) -> None:
        self.clock.advance(by)
        await asyncio.Event().wait()

    def divide(self, number: int) -> int:
        return 10 // number


@pytest.fixture
def steps(serve: Serve, broken_store: BrokenStore) -> httpx.AsyncClient:
    Steps.clock = ManualClock()
    return serve(f"{__name__}:Steps")


@pytest.mark.parametrize(
    ("way", "status"),
    (
        ("step_timeout", 500),
        ("deadline", 503),
        ("deadline_of_many", 503),
        ("one_of_many_fails", 500),
        ("group_fails", 500),
    ),
)
async def test_the_end_of_a_run_leaves_no_task(steps: httpx.AsyncClient, way: str, status: int) -> None:
    before = asyncio.all_tasks()

    answer = await steps.post("/", json={"way": way})

    assert answer.status_code == status
    assert answer.headers["autopilot-run-id"]
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    ("status", "method", "path", "sent"),
    (
        (200, "GET", "/", {}),
        (200, "POST", "/", {"json": {"item": "tea"}}),
        (500, "POST", "/", {"json": {"item": "nothing"}}),
        (422, "POST", "/", {"json": {}}),
        (400, "POST", "/", {"content": b"{", "headers": JSON}),
        (413, "POST", "/", {"content": b" " * 300_000, "headers": JSON}),
        (415, "POST", "/", {"content": b"x", "headers": {"Content-Type": "text/plain"}}),
        (405, "DELETE", "/", {}),
        (404, "GET", "/nothing", {}),
        (404, "GET", "/runs/nope", {}),
        (404, "POST", "/runs/nope/continue", {}),
        (404, "POST", "/runs/nope/retry", {}),
        (404, "POST", "/runs/nope/cancel", {}),
    ),
)
@pytest.mark.usefixtures("broken_store")
async def test_an_answer_leaves_no_task(
    shop: httpx.AsyncClient, status: int, method: str, path: str, sent: dict[str, Any]
) -> None:
    before = asyncio.all_tasks()

    answer = await shop.request(method, path, **sent)

    assert answer.status_code == status
    assert asyncio.all_tasks() == before


async def test_an_answer_without_a_store_leaves_no_task(shop: httpx.AsyncClient, broken_store: BrokenStore) -> None:
    broken_store.away = {"start_run", "save_run", "get_stats", "get_latest_run"}
    before = asyncio.all_tasks()

    answers = [
        await shop.post("/", json={"item": "tea"}, headers=KEY),
        await shop.post("/", json={"item": "tea"}),
        await shop.get("/"),
    ]

    assert [answer.status_code for answer in answers] == [503, 200, 200]
    assert asyncio.all_tasks() == before


async def test_a_caller_that_goes_away_leaves_no_task(shop: httpx.AsyncClient, broken_store: BrokenStore) -> None:
    gone = asyncio.Event()

    async def body() -> Any:
        yield b'{"item":'
        gone.set()
        await asyncio.Event().wait()

    before = asyncio.all_tasks()
    sent = asyncio.ensure_future(shop.post("/", content=body(), headers=JSON))
    await gone.wait()
    sent.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sent

    assert asyncio.all_tasks() == before
