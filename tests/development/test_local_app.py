"""One address for a bundle, and who may ask it."""

from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from autopilot.base_workflow import BaseWorkflow
from autopilot.context import RunContext
from autopilot.development.local_app import LocalApp, LocalFunction
from autopilot.models import WorkflowManifest
from tests.functions_by_name import function_app
from tests.functions_in_process import assert_error


class Greeting(BaseWorkflow):
    manifest = WorkflowManifest(name="greeting")

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> str:
        return "hello"


def naming(name: str) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await PlainTextResponse(f"{name} {request.method} {request.url.path}")(scope, receive, send)

    return app


@pytest.fixture
def client() -> httpx.AsyncClient:
    app = LocalApp([LocalFunction("greet", Greeting(), naming("function"))], naming("api"), 8080)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8080")


@pytest.mark.parametrize(
    ("path", "answer"),
    (
        ("/greet", "function POST /"),
        ("/greet/", "function POST /"),
        ("/greet/runs/a/retry", "function POST /runs/a/retry"),
        ("/", "api POST /"),
        ("/greeting", "api POST /greeting"),
        ("/api/v1/runs", "api POST /api/v1/runs"),
    ),
)
async def test_a_function_is_below_its_name_and_the_api_everywhere_else(
    client: httpx.AsyncClient, path: str, answer: str
) -> None:
    assert (await client.post(path)).text == answer


@pytest.mark.parametrize(
    "headers",
    ({"Host": "evil.example:8080"}, {"Host": "127.0.0.1"}, {"Origin": "http://evil.example"}, {"Origin": "null"}),
)
@pytest.mark.parametrize("path", ("/greet", "/"))
async def test_pages_of_other_sites_are_refused(client: httpx.AsyncClient, path: str, headers: dict[str, str]) -> None:
    answer = await client.post(path, headers=headers)

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_local")


async def test_our_own_pages_are_not(client: httpx.AsyncClient) -> None:
    headers = {"Host": "localhost:8080", "Origin": "http://localhost:8080"}

    assert (await client.post("/greet", headers=headers)).status_code == 200


@pytest.mark.parametrize("method", ("TRACE", "PROPFIND", "x"))
async def test_what_the_framework_refuses_has_the_one_shape_of_errors(method: str) -> None:
    app = LocalApp([LocalFunction("echo", Greeting(), function_app("tests.http_workflows:Echo"))], naming("api"), 8080)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8080")

    assert_error(await client.request(method, "/echo"), 405, "method_not_allowed")
    assert_error(await client.get("/echo/robots.txt"), 404, "not_found")


@pytest.mark.parametrize("host", ("[", "a b", "a/b", "127.0.0.1:8080@evil.example"))
async def test_a_host_that_cannot_be_parsed_is_refused(client: httpx.AsyncClient, host: str) -> None:
    assert_error(await client.get("/greet", headers={"Host": host}), 400, "invalid_host")


async def test_the_settings_add_hosts() -> None:
    app = LocalApp([LocalFunction("greet", Greeting(), naming("function"))], naming("api"), 8080, ("runs.example",))
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://runs.example")

    assert (await client.post("/greet", headers={"Origin": "http://runs.example"})).status_code == 200
    assert_error(await client.post("/greet", headers={"Origin": "http://evil.example"}), 403, "not_local")
