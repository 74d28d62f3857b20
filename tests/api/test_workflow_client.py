"""How the API calls the workflows' functions."""

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import httpx
import pytest
from google.auth.compute_engine import IDTokenCredentials

from autopilot.api.identity_tokens import Credentials, IdentityTokens, IdentityUnavailable
from autopilot.api.workflow_client import WorkflowClient
from autopilot.errors import FunctionUnavailable

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
    await client.post("digest", "/runs/a/retry")

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

    assert await client.post("digest", "/") is not None


class MetadataServer:
    """Google's, as google-auth asks it: gives tokens that are valid for ``lifetime``."""

    def __init__(self, lifetime: timedelta) -> None:
        self.lifetime = lifetime
        self.given = 0
        self.status = 200

    def __call__(self, url: str, **_: object) -> SimpleNamespace:
        if "/identity" not in url:
            account = json.dumps({"email": "api@project"}).encode()
            return SimpleNamespace(status=200, headers={"content-type": "application/json"}, data=account)
        self.given += 1
        claims = {"exp": int((datetime.now(UTC) + self.lifetime).timestamp()), "iat": 0, "number": self.given}
        token = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()) for part in ({}, claims, {}))
        return SimpleNamespace(status=self.status, headers={"content-type": "application/text"}, data=token)

    def credentials_for(self, audience: str) -> Credentials:
        credentials: Credentials = IDTokenCredentials(  # type: ignore[no-untyped-call]
            self, audience, use_metadata_identity_endpoint=True, bind_id_token=False
        )
        return credentials


async def test_a_token_is_used_again_while_google_auth_says_that_it_is_valid() -> None:
    server = MetadataServer(timedelta(hours=1))
    tokens = IdentityTokens(server.credentials_for, server)

    first, again, other = await tokens("a"), await tokens("a"), await tokens("b")

    assert first == again != other
    assert server.given == 2


async def test_a_token_that_is_about_to_expire_is_fetched_again() -> None:
    server = MetadataServer(timedelta(seconds=20))
    tokens = IdentityTokens(server.credentials_for, server)

    assert await tokens("a") != await tokens("a")


async def test_an_identity_that_google_refuses_is_an_error_that_says_so() -> None:
    server = MetadataServer(timedelta(hours=1))
    server.status = 404

    with pytest.raises(IdentityUnavailable, match="404"):
        await IdentityTokens(server.credentials_for, server)("a")


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
        await client.post("digest", "/")


async def test_a_workflow_without_an_address_is_named() -> None:
    with pytest.raises(FunctionUnavailable, match="AUTOPILOT_FUNCTION_URLS does not name it"):
        await WorkflowClient({}).post("digest", "/")


async def test_a_cancelled_call_is_over_at_once() -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def never_answer(request: httpx.Request) -> httpx.Response:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    client = WorkflowClient({"digest": URL}, transport=httpx.MockTransport(never_answer))
    call = asyncio.create_task(client.post("digest", "/"))
    await asked.wait()

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert ended.is_set()
