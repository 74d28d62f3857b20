"""The authenticated local proxy of ``autopilot dashboard``."""

from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.types import Message

from autopilot.cli.dashboard import AuthenticatingProxy
from autopilot.cli.exits import CommandFailed, ExitCode

HERE = "http://127.0.0.1:8080"


class Upstream:
    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        headers = [
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=2"),
            ("Content-Type", "text/event-stream"),
            ("Connection", "x"),
        ]
        return httpx.Response(207, content=events(), headers=headers)


async def events() -> AsyncIterator[bytes]:
    yield b"data: 1\n\n"
    yield b"data: 2\n\n"


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


def client_of(proxy: AuthenticatingProxy) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(proxy), base_url=HERE)


@pytest.fixture
def browser(upstream: Upstream) -> httpx.AsyncClient:
    token = {"Authorization": "Bearer token"}
    return client_of(
        AuthenticatingProxy(
            "https://api.example/base", credentials=lambda: token, port=8080, transport=httpx.MockTransport(upstream)
        )
    )


async def test_a_request_is_handed_on_with_the_callers_credentials(
    browser: httpx.AsyncClient, upstream: Upstream
) -> None:
    answer = await browser.post("/a%2Fb?c=d%20e", content=b"body", headers={"Origin": HERE, "X-CSRF-Token": "t"})

    (request,) = upstream.requests
    assert (request.method, str(request.url), request.content) == (
        "POST",
        "https://api.example/base/a%2Fb?c=d%20e",
        b"body",
    )
    assert request.headers["authorization"] == "Bearer token"
    assert (request.headers["host"], request.headers["origin"]) == ("api.example", "https://api.example")
    assert request.headers["x-csrf-token"] == "t"
    assert (answer.status_code, answer.text) == (207, "data: 1\n\ndata: 2\n\n")
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert "connection" not in answer.headers


@pytest.mark.parametrize(
    "headers", ({"Host": "evil.example:8080"}, {"Origin": "https://evil.example"}, {"Origin": "null"})
)
async def test_pages_of_other_sites_cannot_use_it(
    browser: httpx.AsyncClient, upstream: Upstream, headers: dict[str, str]
) -> None:
    answer = await browser.get("/", headers=headers)

    assert (answer.status_code, upstream.requests) == (403, [])


async def test_an_api_that_is_away_is_told_in_the_page() -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route")

    proxy = AuthenticatingProxy("https://api.example", credentials=dict, port=8080, transport=httpx.MockTransport(away))
    answer = await client_of(proxy).get("/")

    assert (answer.status_code, answer.text) == (502, "https://api.example does not answer: ConnectError: no route")


async def test_a_sign_in_that_has_ended_is_told_in_the_page(upstream: Upstream) -> None:
    def nobody() -> dict[str, str]:
        raise CommandFailed(ExitCode.REFUSED, "gcloud: sign in again")

    proxy = AuthenticatingProxy(
        "https://api.example", credentials=nobody, port=8080, transport=httpx.MockTransport(upstream)
    )
    answer = await client_of(proxy).get("/")

    assert (answer.status_code, answer.text) == (502, "autopilot: gcloud: sign in again")


TARGETS = (
    b"@evil.example/",
    b".evil.example/",
    b":8443/",
    b"evil.example",
    b"https://evil.example/",
    b"http://127.0.0.1:8080/runs",
    b"\\\\evil.example/",
    b"*",
    b"",
    b"?/",
    b"/#@evil.example/",
    b"/\xff",
)


async def status_of(proxy: AuthenticatingProxy, target: bytes) -> int:
    """The answer to a request whose target is sent as it is, as by a raw socket."""
    statuses: list[int] = []
    received: list[Message] = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        return received.pop()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    path, _, query = target.partition(b"?")
    scope = {
        "type": "http",
        "method": "GET",
        "path": path.decode("latin-1"),
        "raw_path": path,
        "query_string": query,
        "headers": [(b"host", b"127.0.0.1:8080")],
    }
    await proxy(scope, receive, send)
    return statuses[0]


@pytest.mark.parametrize("base", ("https://api.example", "https://api.example/base", "http://127.0.0.1:9000"))
@pytest.mark.parametrize("target", TARGETS)
async def test_a_target_that_is_not_a_path_goes_nowhere(upstream: Upstream, base: str, target: bytes) -> None:
    asked: list[bool] = []

    def credentials() -> dict[str, str]:
        asked.append(True)
        return {"X-API-Key": "secret"}

    proxy = AuthenticatingProxy(base, credentials=credentials, port=8080, transport=httpx.MockTransport(upstream))

    assert await status_of(proxy, target) == 400
    assert (upstream.requests, asked) == ([], [])


@pytest.mark.parametrize(
    "target", (b"//evil.example/", b"/@evil.example/", b"/a//b?x=@evil.example", b"/..//evil.example")
)
async def test_a_path_stays_at_the_api_whatever_is_in_it(upstream: Upstream, target: bytes) -> None:
    proxy = AuthenticatingProxy(
        "https://api.example", credentials=dict, port=8080, transport=httpx.MockTransport(upstream)
    )

    assert await status_of(proxy, target) == 207
    assert [request.url.host for request in upstream.requests] == ["api.example"]
    assert upstream.requests[0].headers["host"] == "api.example"
