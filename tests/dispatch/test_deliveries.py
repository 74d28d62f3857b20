"""Requests to functions of the same process."""

import asyncio

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from autopilot.dispatch.deliveries import Deliveries


class App:
    """Answers 201 once it may."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bytes, str | None]] = []
        self.answered = 0
        self.was_asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        self.asked.append((request.method, str(request.url), await request.body(), request.headers.get("x-from")))
        self.was_asked.set()
        await self.may_answer.wait()
        await PlainTextResponse("made", 201)(scope, receive, send)
        self.answered += 1


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def deliver(app: App) -> Deliveries:
    return Deliveries(app, "http://127.0.0.1:8080")


async def test_a_delivery_is_a_post_and_gives_the_status(app: App, deliver: Deliveries) -> None:
    app.may_answer.set()

    status = await deliver("/digest", b"{}", {"X-From": "test"})

    assert status == 201
    assert app.asked == [("POST", "http://127.0.0.1:8080/digest", b"{}", "test")]


async def test_a_request_outlives_its_caller_and_nothing_outlives_settling(app: App, deliver: Deliveries) -> None:
    caller = asyncio.create_task(deliver("/digest", b"", {}))
    await app.was_asked.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    answered_at_once = app.answered

    app.may_answer.set()
    await deliver.settle()

    assert (answered_at_once, app.answered) == (0, 1)
    assert asyncio.all_tasks() == {asyncio.current_task()}
