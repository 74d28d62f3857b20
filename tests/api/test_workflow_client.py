"""How the API calls the workflows' functions."""

import asyncio
from datetime import timedelta

import httpx
import pytest

from autopilot.api.kept_token import TOKEN_KEPT
from autopilot.api.workflow_client import IdentityTokens, WorkflowClient
from autopilot.errors import FunctionUnavailable
from autopilot.testing import ManualClock

URL = "https://digest.example"


def answering(status: int, text: str = "{}") -> httpx.MockTransport:
    return httpx.MockTransport(lambda request: httpx.Response(status, text=text))


def refusing(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


async def token_for(audience: str) -> str:
    return f"token for {audience}"


async def test_a_function_in_the_cloud_is_shown_an_identity_token_for_its_address() -> None:
    seen: list[httpx.Request] = []

    def see(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={})

    client = WorkflowClient({"digest": URL}, fetch_token=token_for, transport=httpx.MockTransport(see))
    await client.post("digest", "/runs/a/retry", wait=1)

    assert [(str(request.url), request.headers["authorization"]) for request in seen] == [
        (f"{URL}/runs/a/retry", f"Bearer token for {URL}")
    ]


async def test_no_token_leaves_by_a_plain_connection() -> None:
    def check(request: httpx.Request) -> httpx.Response:
        assert "authorization" not in request.headers
        return httpx.Response(200, json={})

    client = WorkflowClient(
        {"digest": "http://127.0.0.1:1"}, fetch_token=token_for, transport=httpx.MockTransport(check)
    )

    assert await client.post("digest", "/", wait=1) is not None


async def test_a_token_is_used_again_until_it_is_old() -> None:
    fetched: list[str] = []
    clock = ManualClock()

    def fetch(audience: str) -> str:
        fetched.append(audience)
        return f"{audience} {len(fetched)}"

    tokens = IdentityTokens(fetch, clock)

    first, again = await tokens("a"), await tokens("a")
    clock.advance(TOKEN_KEPT + timedelta(seconds=1))

    assert (first, again, await tokens("a"), await tokens("b")) == ("a 1", "a 1", "a 2", "b 3")


@pytest.mark.parametrize(
    ("transport", "reason"),
    (
        (httpx.MockTransport(refusing), "did not answer: ConnectError"),
        (answering(403), "grant it roles/run.invoker"),
        (answering(401), "grant it roles/run.invoker"),
    ),
)
async def test_a_function_that_cannot_be_called_is_named_with_the_reason(
    transport: httpx.MockTransport, reason: str
) -> None:
    client = WorkflowClient({"digest": URL}, transport=transport)

    with pytest.raises(FunctionUnavailable, match=f"the function of workflow digest: .*{reason}"):
        await client.post("digest", "/", wait=1)


async def test_a_workflow_without_an_address_is_named() -> None:
    with pytest.raises(FunctionUnavailable, match="AUTOPILOT_FUNCTION_URLS does not name it"):
        await WorkflowClient({}).post("digest", "/", wait=1)


async def test_a_call_that_is_not_answered_in_time_is_left_open() -> None:
    may_answer, answered = asyncio.Event(), asyncio.Event()

    async def answer_later(request: httpx.Request) -> httpx.Response:
        await may_answer.wait()
        answered.set()
        return httpx.Response(200, json={})

    client = WorkflowClient({"digest": URL}, transport=httpx.MockTransport(answer_later))

    assert await client.post("digest", "/", wait=0) is None
    may_answer.set()
    await answered.wait()
