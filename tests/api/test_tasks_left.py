"""When an answer has been sent, no task of the API's is left: after it the CPU is gone."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from autopilot.core.runs.identity import run_id_of
from autopilot.core.store import Store
from autopilot.models import RunStatus
from autopilot.testing import ManualClock
from tests.api_client import ApiOver
from tests.functions_by_name import FunctionsTransport
from tests.functions_in_process import assert_error
from tests.http_workflows import Waiting
from tests.runs import MakeRun

pytestmark = pytest.mark.parametrize("store", ("sqlite in memory",), indirect=True)

Answered = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


@pytest.fixture
def waiting() -> Iterator[type[Waiting]]:
    Waiting.may_go_on, Waiting.began = asyncio.Event(), asyncio.Event()
    yield Waiting
    Waiting.may_go_on.set()


class Unanswered(httpx.AsyncBaseTransport):
    """A function that never answers; tells when it was called and when its caller went away."""

    def __init__(self) -> None:
        self.called, self.left = asyncio.Event(), asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.called.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()
        raise AssertionError


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "call"),
    (
        (200, lambda api: api.get("/workflows")),
        (200, lambda api: api.get("/runs")),
        (200, lambda api: api.get("/health")),
        (200, lambda api: api.get("/events")),
        (404, lambda api: api.get("/workflows/shop/runs/nope")),
        (422, lambda api: api.get("/runs?limit=0")),
        (200, lambda api: api.post("/workflows/shop/trigger", json={"item": "tea"})),
        (200, lambda api: api.post("/workflows/shop/trigger", json={"item": "nothing"})),
        (422, lambda api: api.post("/workflows/shop/trigger", json={})),
        (404, lambda api: api.post("/workflows/shop/runs/nope/retry")),
        (200, lambda api: api.get("../../workflows/shop")),
        (200, lambda api: api.get("../../static/dashboard.css")),
    ),
)
async def test_an_answer_leaves_no_task(api: httpx.AsyncClient, status: int, call: Answered) -> None:
    before = asyncio.all_tasks()

    answer = await call(api)

    assert answer.status_code == status
    assert asyncio.all_tasks() == before


async def test_an_answer_before_the_end_of_its_run_leaves_no_task(
    api_over: ApiOver, process_store: Store, make_run: MakeRun
) -> None:
    class BegunFunction(Unanswered):
        """Has recorded its start."""

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            run_id = run_id_of("shop", f"key\n{request.headers['Idempotency-Key']}")
            await process_store.save_run(make_run(id=run_id, workflow_id="shop", status=RunStatus.RUNNING))
            return await super().handle_async_request(request)

    clock, function = ManualClock(), BegunFunction()
    before = asyncio.all_tasks()
    triggered = asyncio.create_task(api_over(clock=clock, transport=function).post("/api/v1/workflows/shop/trigger"))
    await function.called.wait()

    clock.advance(timedelta(seconds=5))
    answer = await triggered

    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    assert function.left.is_set()
    assert asyncio.all_tasks() == before


async def test_a_start_that_is_not_recorded_within_the_wait_is_waited_for(
    api_over: ApiOver, functions: FunctionsTransport, process_store: Store, waiting: type[Waiting]
) -> None:
    may_start = asyncio.Event()

    class ColdFunction(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            clock.advance(timedelta(minutes=5))  # the wait is over
            await may_start.wait()
            return await functions.handle_async_request(request)

    class StartingClock(ManualClock):
        async def sleep(self, seconds: float) -> None:
            assert not waiting.began.is_set(), "a recorded start was not seen"
            may_start.set()
            await waiting.began.wait()

    clock = StartingClock()
    api = api_over(clock=clock, transport=ColdFunction())

    answer = await api.post("/api/v1/workflows/waiting/trigger")

    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    waiting.may_go_on.set()
    await functions.finish()


async def test_a_function_that_neither_answers_nor_records_a_start_is_502_and_its_call_is_over(
    api_over: ApiOver, process_store: Store
) -> None:
    clock, function = ManualClock(), Unanswered()
    api = api_over(clock=clock, transport=function)
    before = asyncio.all_tasks()
    triggered = asyncio.create_task(api.post("/api/v1/workflows/shop/trigger"))
    await function.called.wait()

    clock.advance(timedelta(seconds=5))
    error = assert_error(await triggered, 502, "function_unavailable")

    assert "recorded a start" in error["message"]
    assert function.left.is_set()
    assert sum(clock.slept) == pytest.approx(30, abs=1)
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("action", ("retry", "cancel"))
async def test_an_action_is_not_answered_by_the_record_of_the_attempt_before(
    api_over: ApiOver, process_store: Store, functions: FunctionsTransport, action: str
) -> None:
    run_id = (await api_over().post("/api/v1/workflows/shop/trigger", json={"item": "nothing"})).json()["run_id"]
    clock, function = ManualClock(), Unanswered()
    asked = asyncio.create_task(
        api_over(clock=clock, transport=function).post(f"/api/v1/workflows/shop/runs/{run_id}/{action}")
    )
    await function.called.wait()

    clock.advance(timedelta(seconds=5))

    assert_error(await asked, 502, "function_unavailable")


async def test_a_caller_that_goes_away_takes_the_call_of_the_function_with_it(
    api_over: ApiOver, process_store: Store
) -> None:
    function = Unanswered()
    before = asyncio.all_tasks()
    triggered = asyncio.create_task(api_over(transport=function).post("/api/v1/workflows/shop/trigger"))
    await function.called.wait()

    triggered.cancel()
    with pytest.raises(asyncio.CancelledError):
        await triggered

    assert function.left.is_set()
    assert asyncio.all_tasks() == before


@pytest.mark.slow
@pytest.mark.parametrize("version", ("2.0", "2.4"))
async def test_a_stream_ends_with_its_client(api_over: ApiOver, process_store: Store, version: str) -> None:
    app: Any = api_over(clock=ManualClock())._transport.app  # type: ignore[attr-defined]
    is_gone = asyncio.Event()
    before = asyncio.all_tasks()

    async def receive() -> dict[str, Any]:
        await is_gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            if is_gone.is_set():
                raise OSError  # as a server of ASGI 2.4 does
            is_gone.set()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": version},
        "method": "GET",
        "path": "/api/v1/events",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    await asyncio.wait_for(app(scope, receive, send), timeout=30)

    assert asyncio.all_tasks() == before
