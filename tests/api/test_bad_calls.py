"""Calls that name nothing or ask for what there is not: the same answers whatever the store."""

from typing import Any

import httpx
import pytest

from tests.functions_in_process import assert_error

pytestmark = pytest.mark.parametrize("store", ("sqlite in memory",), indirect=True)


@pytest.mark.parametrize(
    ("method", "path", "code"),
    (
        ("GET", "/workflows/nope", "workflow_not_found"),
        ("GET", "/workflows/nope/runs", "workflow_not_found"),
        ("GET", "/workflows/nope/stats", "workflow_not_found"),
        ("GET", "/workflows/nope/runs/a", "workflow_not_found"),
        ("POST", "/workflows/nope/trigger", "workflow_not_found"),
        ("DELETE", "/workflows/nope/runs/a", "workflow_not_found"),
        ("GET", "/workflows/shop/runs/nope", "run_not_found"),
        ("GET", "/workflows/shop/runs/..%2f..%2fx", "not_found"),
        ("GET", f"/workflows/shop/runs/{'x' * 1500}", "run_not_found"),
        ("POST", "/workflows/shop/runs/nope/retry", "run_not_found"),
        ("POST", "/workflows/shop/runs/nope/rerun", "run_not_found"),
        ("POST", "/workflows/shop/runs/nope/cancel", "run_not_found"),
        ("GET", "/workflows/shop/runs/nope/step?key=a", "step_not_found"),
        ("GET", "/nothing", "not_found"),
    ),
)
async def test_unknown_names_are_404(api: httpx.AsyncClient, method: str, path: str, code: str) -> None:
    assert_error(await api.request(method, path), 404, code)


@pytest.mark.parametrize(
    ("query", "code"),
    (
        ("status=lost", "request_invalid"),
        ("trigger=magic", "request_invalid"),
        ("since=yesterday", "request_invalid"),
        ("since=2026-03-01T12:00:00", "request_invalid"),  # whose noon?
        ("since=0001-01-01T00:00:00%2B14:00", "request_invalid"),
        ("since=2026-03-02T00:00:00Z&until=2026-03-01T00:00:00Z", "request_invalid"),
        ("since=2026-03-02T00:00:00Z&until=2026-03-02T00:00:00Z", "request_invalid"),
        ("since=2026-03-02T01:00:00%2B01:00&until=2026-03-02T00:00:00Z", "request_invalid"),
        ("limit=0", "request_invalid"),
        ("limit=201", "request_invalid"),
        ("limit=many", "request_invalid"),
        ("start_after=nonsense", "cursor_invalid"),
        ("start_after=%00", "cursor_invalid"),
        (f"start_after={'x' * 5000}", "cursor_invalid"),
    ),
)
@pytest.mark.parametrize("path", ("/runs", "/workflows/shop/runs"))
async def test_bad_filters_and_cursors_are_422(api: httpx.AsyncClient, path: str, query: str, code: str) -> None:
    assert_error(await api.get(f"{path}?{query}"), 422, code)


@pytest.mark.parametrize("window", ("", "7", "0d", "7w", "-1d", "401d", "99999h"))
async def test_a_window_that_means_nothing_is_422(api: httpx.AsyncClient, window: str) -> None:
    assert_error(await api.get("/workflows/shop/stats", params={"window": window}), 422, "request_invalid")


@pytest.mark.parametrize("method", ("TRACE", "PROPFIND", "PUT", "PATCH", "DELETE", "OPTIONS", "x"))
@pytest.mark.parametrize("path", ("/runs", "/workflows/shop/trigger", "/nothing", "/events", ""))
async def test_a_method_that_a_path_does_not_take_is_refused_in_the_one_shape(
    api: httpx.AsyncClient, method: str, path: str
) -> None:
    answer = await api.request(method, path)

    assert_error(answer, answer.status_code, answer.json()["error"]["code"])
    assert answer.status_code in {404, 405}


@pytest.mark.parametrize("ranges", ("bytes=9999999-", "bytes=x", "lines=1-2", "bytes=5-1"))
async def test_a_range_of_a_file_that_cannot_be_read_is_refused_in_the_one_shape(
    api: httpx.AsyncClient, ranges: str
) -> None:
    answer = await api.get("http://localhost/static/dashboard.css", headers={"Range": ranges})

    assert_error(answer, answer.status_code, answer.json()["error"]["code"])
    assert answer.status_code in {400, 416}
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "headers",
    (
        {"Idempotency-Key": ""},
        {"Idempotency-Key": "\u00e4".encode()},
        {"Content-Type": "text/plain"},
        {"Content-Length": "99999999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Cookie": "autopilot=\u00e4".encode()},
        {"Origin": "\x00"},
    ),
)
async def test_a_header_that_cannot_be_used_is_refused_in_the_one_shape(api: httpx.AsyncClient, headers: Any) -> None:
    answer = await api.post("/workflows/shop/trigger", content=b"{", headers=headers)

    assert_error(answer, answer.status_code, answer.json()["error"]["code"])
    assert 400 <= answer.status_code < 500
