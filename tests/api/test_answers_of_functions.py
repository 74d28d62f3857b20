"""What the API makes of the answers of functions, ours and others."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import httpx
import pytest

from autopilot.core.run_log import use_store
from autopilot.core.store import Store
from tests.api_client import ApiOver
from tests.functions_in_process import BrokenStore, assert_error

pytestmark = pytest.mark.parametrize("store", ("sqlite in memory",), indirect=True)

OURS = {"Autopilot-Run-Id": "a", "Autopilot-Run-Status": "failed"}


async def trigger(
    api_over: ApiOver, status: int, body: object, headers: dict[str, str] | None = None
) -> httpx.Response:
    transport = httpx.MockTransport(lambda request: httpx.Response(status, json=body, headers=headers))
    return await api_over(transport=transport).post("/api/v1/workflows/shop/trigger")


async def test_a_run_that_failed_was_triggered_all_the_same(api_over: ApiOver, process_store: Store) -> None:
    of_run = await trigger(api_over, 500, {"id": "a", "status": "failed", "error": "no tea"}, OURS)
    of_result = await trigger(api_over, 500, {"error": {"code": "run_failed", "message": "no tea"}}, OURS)

    assert [(each.status_code, each.json()["status"]) for each in (of_run, of_result)] == [(200, "failed")] * 2


async def test_a_result_that_looks_like_an_error_is_a_result(api_over: ApiOver, process_store: Store) -> None:
    headers = OURS | {"Autopilot-Run-Status": "success"}

    answer = await trigger(api_over, 200, {"error": {"code": "payload_invalid"}}, headers)

    assert (answer.status_code, answer.json()["status"]) == (200, "success")


async def test_an_attempt_that_ended_before_its_run_is_a_run_that_goes_on(
    api_over: ApiOver, process_store: Store
) -> None:
    headers = OURS | {"Autopilot-Run-Status": "running"}

    answer = await trigger(api_over, 503, {"error": {"code": "attempt_ended", "message": "x"}}, headers)

    assert (answer.status_code, answer.json()["status"]) == (202, "running")


@pytest.mark.parametrize("status", (409, 413, 422, 503))
async def test_what_a_function_refuses_is_told_as_it_says_it(
    api_over: ApiOver, process_store: Store, status: int
) -> None:
    answer = await trigger(api_over, status, {"error": {"code": "why", "message": "because", "details": [1]}})

    assert assert_error(answer, status, "why") == {"code": "why", "message": "because", "details": [1]}


@pytest.mark.parametrize(
    ("status", "body"), ((200, {}), (404, "x"), (500, {"error": {"code": "internal"}}), (302, None))
)
async def test_what_no_function_of_ours_says_is_502(
    api_over: ApiOver, process_store: Store, status: int, body: object
) -> None:
    assert_error(await trigger(api_over, status, body), 502, "function_unavailable")


@pytest.mark.parametrize("path", ("/workflows", "/runs", "/workflows/shop", "/workflows/shop/stats", "/events"))
async def test_a_store_that_is_away_is_503(api_over: ApiOver, process_store: Store, path: str) -> None:
    with away(process_store):
        answer = await api_over().get(f"/api/v1{path}")

    assert_error(answer, 503, "store_unavailable")


async def test_health_says_whether_the_store_answers(api_over: ApiOver, process_store: Store) -> None:
    well = await api_over().get("/api/v1/health")
    with away(process_store):
        ill = await api_over().get("/api/v1/health")

    assert (well.status_code, well.json()["status"], well.json()["store"]) == (200, "ok", "sqlite")
    assert (ill.status_code, ill.json()["status"]) == (503, "store_unavailable")
    assert "away" in ill.json()["error"]


async def test_a_page_says_that_the_store_is_away(api_over: ApiOver, process_store: Store) -> None:
    with away(process_store):
        page = await api_over().get("/")

    assert page.status_code == 503
    assert "The store does not answer" in page.text


@contextmanager
def away(store: Store) -> Iterator[None]:
    broken = BrokenStore(store)
    broken.away = {name for name in dir(type(store)) if not name.startswith("_") and name != "close"}
    with use_store(cast("Store", broken)):
        yield
