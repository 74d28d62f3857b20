"""Requests whose store does not answer: they end before the platform ends them."""

import time

import httpx
import pytest

from autopilot.core.deadline import seconds_left
from autopilot.core.run_log import use_store
from autopilot.core.store import Store
from autopilot.storage.sqlite.store import SQLiteStore
from autopilot.testing import ManualClock
from tests.api_client import ApiOver
from tests.functions_in_process import BrokenStore, Serve


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "path", "hangs_in"),
    (
        ("GET", "/runs/run-1", "get_run"),
        ("POST", "/runs/run-1/cancel", "request_cancel"),
        ("POST", "/runs/run-1/retry", "get_run"),
        ("POST", "/runs/run-1/continue", "claim_run"),
    ),
)
async def test_a_function_whose_store_hangs_answers_503_in_its_time(
    serve: Serve, default_store: Store, monkeypatch: pytest.MonkeyPatch, *, method: str, path: str, hangs_in: str
) -> None:
    monkeypatch.setenv("CLOUD_RUN_TIMEOUT_SECONDS", "1")
    broken = BrokenStore(default_store)
    broken.hanging = {hangs_in}
    function = serve("Echo")
    with use_store(broken):
        began = time.monotonic()
        answer = await function.request(method, path)
        took = time.monotonic() - began

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert took < 5


@pytest.mark.parametrize(("timeout", "left"), (("20", 18.0), (None, float("inf"))))
async def test_the_api_hands_the_platforms_limit_down(
    api_over: ApiOver, clock: ManualClock, timeout: str | None, left: float
) -> None:
    seen: list[float] = []

    class Seeing(SQLiteStore):
        async def check_connection(self) -> None:
            seen.append(seconds_left())

    store = Seeing(":memory:")
    variables = {} if timeout is None else {"CLOUD_RUN_TIMEOUT_SECONDS": timeout}
    with use_store(store):
        answer: httpx.Response = await api_over(clock=clock, **variables).get("/api/v1/health")

    assert answer.status_code == 200
    assert seen == [left]
