"""Requests that no run may come from: each is told what is wrong with it, and leaves nothing behind."""

from typing import Any

import httpx
import pytest

from autopilot.core.runs.limits import PAYLOAD_LIMIT
from tests.functions_in_process import Serve, assert_error, total
from tests.log_events import Events, named

pytestmark = pytest.mark.usefixtures("events", "default_store")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    (
        (b"{", 400, "invalid_json"),
        (b"item=tea", 400, "invalid_json"),
        (b'{"item": "\xff"}', 400, "invalid_json"),
        (b'{"item": NaN}', 400, "invalid_json"),
        (b'{"item": "\\ud800"}', 400, "invalid_json"),
        (b'{"item":' + b"[" * 1000 + b"]" * 1000 + b"}", 400, "invalid_json"),
        (b'{"item": "tea", "count": ' + b"9" * 5000 + b"}", 400, "invalid_json"),
        (b"null", 422, "payload_invalid"),
        (b"[]", 422, "payload_invalid"),
        (b'"tea"', 422, "payload_invalid"),
        (b"5", 422, "payload_invalid"),
        (b'{"item": "tea", "count": 1e999}', 422, "payload_invalid"),
        (b'{"item": "' + b"x" * PAYLOAD_LIMIT + b'"}', 413, "payload_too_large"),
    ),
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else "",
)
@pytest.mark.parametrize("workflow", ("Shop", "Echo"))
async def test_a_body_that_is_no_payload_is_refused(
    serve: Serve, workflow: str, body: bytes, status: int, code: str
) -> None:
    client = serve(workflow)

    answer = await client.post("/", content=body)

    assert_error(answer, status, code)
    assert "autopilot-run-id" not in answer.headers
    assert await total(client) == 0


@pytest.mark.parametrize(
    ("payload", "location"),
    (
        ({}, ["item"]),
        ({"item": 5}, ["item"]),
        ({"item": "tea", "count": "many"}, ["count"]),
        ({"item": "tea", "coutn": 2}, ["coutn"]),
    ),
)
async def test_a_refused_payload_is_told_field_by_field_and_never_quoted(
    shop: httpx.AsyncClient, payload: dict[str, Any], location: list[str]
) -> None:
    answer = await shop.post("/", json=payload)

    error = assert_error(answer, 422, "payload_invalid")
    assert [fault["loc"] for fault in error["details"]] == [location]
    assert all(fault["msg"] and fault["type"] for fault in error["details"])
    assert "many" not in answer.text


async def test_a_body_without_its_length_is_read_no_further_than_the_limit(echo: httpx.AsyncClient) -> None:
    sent: list[int] = []

    async def endless() -> Any:
        for _ in range(1000):
            sent.append(64 * 1024)
            yield b" " * sent[-1]

    answer = await echo.post("/", content=endless())

    assert_error(answer, 413, "payload_too_large")


@pytest.mark.parametrize(
    ("content_type", "status"),
    (
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        ("application/vnd.acme+json", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/cloudevents+json", 415),
        ("application/jsonp", 415),
    ),
)
async def test_only_json_content_is_taken(shop: httpx.AsyncClient, content_type: str, status: int) -> None:
    answer = await shop.post("/", content=b'{"item": "tea"}', headers={"content-type": content_type})

    assert answer.status_code == status
    if status == 415:
        assert_error(answer, 415, "not_json_content")


@pytest.mark.parametrize(
    ("headers", "code"),
    (
        ({"Idempotency-Key": ""}, "invalid_idempotency_key"),
        ({"Idempotency-Key": "x" * 256}, "invalid_idempotency_key"),
        ({"Idempotency-Key": "schlüssel".encode()}, "invalid_idempotency_key"),
        *(
            (
                {"X-CloudScheduler-JobName": "hourly", "X-CloudScheduler-ScheduleTime": time},
                "invalid_schedule_time",
            )
            for time in ("", "tomorrow", "2026-03-02T12:00:00", "0001-01-01T00:00:00+14:00")
        ),
        ({"X-CloudScheduler-JobName": "x" * 3000}, "invalid_job_name"),
        ({"ce-id": "1", "ce-source": "x" * 2000}, "invalid_cloud_event"),
    ),
)
async def test_a_header_that_cannot_be_used_is_refused(echo: httpx.AsyncClient, headers: Any, code: str) -> None:
    assert_error(await echo.post("/", headers=headers), 400, code)
    assert await total(echo) == 0


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    (
        ("PUT", "/", "GET, POST"),
        ("DELETE", "/", "GET, POST"),
        ("POST", "/runs/x", "GET"),
        ("PATCH", "/", "GET, POST"),
    ),
)
async def test_a_wrong_method_is_405(echo: httpx.AsyncClient, method: str, path: str, allowed: str) -> None:
    answer = await echo.request(method, path)

    assert_error(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("path", ("/nothing", "/runs", "/runs/a/b", "/runs/a%2Fb", "/..%2f..%2fetc/passwd", "/%00"))
async def test_an_unknown_path_is_404(echo: httpx.AsyncClient, path: str) -> None:
    for method in ("GET", "POST"):
        assert_error(await echo.request(method, path), 404, "not_found")


@pytest.mark.parametrize("run_id", ("unknown", "...", "x" * 1500, "%C3%BC", "a%20b", "%00"))
async def test_an_unknown_run_is_404(echo: httpx.AsyncClient, run_id: str) -> None:
    assert_error(await echo.get(f"/runs/{run_id}"), 404, "run_not_found")


async def test_a_missing_configuration_value_is_503_and_named(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    monkeypatch.setenv("GUARDED_SHOP_LIMIT", "s3cret")
    client = serve("GuardedShop")

    answer = await client.post("/", json={"item": "tea"})

    error = assert_error(answer, 503, "config_invalid")
    assert [(fault["field"], fault["variable"]) for fault in error["details"]] == [
        ("token", "GUARDED_SHOP_TOKEN"),
        ("limit", "GUARDED_SHOP_LIMIT"),
    ]
    assert "s3cret" not in answer.text
    [told] = named(events, "request_failed")
    assert "GUARDED_SHOP_TOKEN" in told["error"]
    assert "\n" not in told["error"]
    assert await total(client) == 0


BLOB = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}


@pytest.mark.parametrize(
    "headers",
    (
        BLOB,
        {"Origin": "http://localhost:3000"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "rebound.example"},
        {"Host": "rebound.example", "Origin": "http://rebound.example", "Sec-Fetch-Site": "same-origin"},
    ),
)
@pytest.mark.parametrize(
    ("method", "path"),
    (("POST", "/"), ("GET", "/"), ("GET", "/runs/x"), ("POST", "/runs/x/cancel"), ("PUT", "/nothing")),
)
async def test_outside_the_cloud_no_page_of_another_site_is_answered(
    echo: httpx.AsyncClient, headers: dict[str, str], method: str, path: str
) -> None:
    assert_error(await echo.request(method, path, headers=headers), 403, "not_local")
    assert await total(echo) == 0


async def test_a_program_without_a_content_type_starts_a_run(echo: httpx.AsyncClient) -> None:
    assert (await echo.post("/", content=b'{"a": 1}')).status_code == 200


async def test_the_settings_say_at_which_hosts_a_function_answers_outside_the_cloud(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOPILOT_ALLOWED_HOSTS", "runs.example")
    client = serve("Echo")

    assert (await client.post("/", headers={"Host": "runs.example"})).status_code == 200
    assert_error(await client.post("/", headers={"Host": "other.example"}), 403, "not_local")
    assert_error(await client.post("/", headers={"Host": "runs.example"} | BLOB), 403, "not_local")


async def test_in_the_cloud_it_is_iam_that_decides_who_may_call(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K_SERVICE", "echo")
    monkeypatch.setenv("AUTOPILOT_STORE", "firestore")

    answer = await serve("Echo").post("/", headers={"Host": "echo-abc.a.run.app"} | BLOB)

    assert answer.status_code == 200


@pytest.mark.parametrize("cloud", (True, False))
@pytest.mark.parametrize("host", ("[", "a/runs/x", "a?b", "a b", "a:b", "evil@localhost", ""))
async def test_a_host_that_cannot_be_parsed_is_refused(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, host: str, *, cloud: bool
) -> None:
    if cloud:
        monkeypatch.setenv("K_SERVICE", "echo")
        monkeypatch.setenv("AUTOPILOT_STORE", "firestore")

    for method in ("GET", "POST"):
        assert_error(await serve("Echo").request(method, "/", headers={"Host": host}), 400, "invalid_host")
