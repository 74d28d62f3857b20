"""Ticks of Cloud Scheduler: one that comes before its time would be executed in place of the one that is on time."""

from datetime import timedelta

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from autopilot.function.entry_point import WorkflowFunction
from autopilot.testing import ManualClock
from tests.functions_in_process import assert_error, total

pytestmark = pytest.mark.usefixtures("events", "default_store")


@pytest.fixture
def echo(clock: ManualClock) -> httpx.AsyncClient:
    """A client of the workflow Echo, whose function has the test's clock."""
    function = WorkflowFunction("tests.http_workflows:Echo", clock=clock)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answer = await function(Request(scope, receive))
        await answer(scope, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


def tick(clock: ManualClock, ahead: timedelta, **headers: str) -> dict[str, str]:
    """The headers of a tick whose time is ``ahead`` of now."""
    scheduled_for = (clock.now() + ahead).isoformat()
    return {"X-CloudScheduler-JobName": "hourly", "X-CloudScheduler-ScheduleTime": scheduled_for, **headers}


HOUR = timedelta(hours=1)


@pytest.mark.parametrize("payload", ({}, {"forged": True}))
@pytest.mark.parametrize("named", ({}, {"Idempotency-Key": "1"}, {"Autopilot-Schedule": "hourly"}), ids=str)
async def test_a_tick_from_the_future_is_refused_and_the_real_one_is_executed(
    echo: httpx.AsyncClient, clock: ManualClock, payload: dict[str, bool], named: dict[str, str]
) -> None:
    early = await echo.post("/", json=payload, headers=tick(clock, HOUR, **named))

    error = assert_error(early, 400, "schedule_time_in_the_future")
    assert error["message"].startswith("X-CloudScheduler-ScheduleTime: ")
    assert (clock.now() + HOUR).isoformat() in error["message"]
    assert await total(echo) == 0
    clock.advance(HOUR)
    on_time = await echo.post("/", json={}, headers=tick(clock, timedelta(0), **named))
    assert (on_time.status_code, on_time.headers.get("autopilot-replayed")) == (200, None)


@pytest.mark.parametrize(
    ("ahead", "status"),
    (
        (timedelta(minutes=1, microseconds=1), 400),
        (timedelta(minutes=1), 200),
        (timedelta(0), 200),
        (timedelta(days=-30), 200),
    ),
    ids=str,
)
async def test_clocks_may_differ_by_a_minute(
    echo: httpx.AsyncClient, clock: ManualClock, ahead: timedelta, status: int
) -> None:
    answer = await echo.post("/", headers=tick(clock, ahead))

    assert answer.status_code == status


async def test_the_last_time_there_is_is_refused_too(echo: httpx.AsyncClient) -> None:
    headers = {
        "X-CloudScheduler-JobName": "hourly",
        "X-CloudScheduler-ScheduleTime": "9999-12-31T23:59:59.999999Z",
    }

    assert_error(await echo.post("/", headers=headers), 400, "schedule_time_in_the_future")
