"""What people ask of a run, as its workflow's own function takes it."""

import asyncio

import httpx
import pytest

from autopilot.core.store import Store
from tests.functions_in_process import Serve, assert_error
from tests.http_workflows import Waiting


async def test_a_run_that_a_person_asked_for_says_so(echo: httpx.AsyncClient, default_store: Store) -> None:
    run = (await echo.post("/", headers={"Autopilot-Trigger": "manual"})).json()

    assert run["trigger_type"] == "manual"


async def test_a_header_makes_no_other_kind_of_trigger(echo: httpx.AsyncClient, default_store: Store) -> None:
    run = (await echo.post("/", headers={"Autopilot-Trigger": "schedule"})).json()

    assert run["trigger_type"] == "http"


async def test_a_rerun_remembers_whose_it_is(echo: httpx.AsyncClient, default_store: Store) -> None:
    run = (await echo.post("/", headers={"Autopilot-Rerun-Of": "run-1"})).json()

    assert run["rerun_of"] == "run-1"


async def test_a_rerun_of_what_can_be_no_run_is_refused(echo: httpx.AsyncClient, default_store: Store) -> None:
    assert_error(await echo.post("/", headers={"Autopilot-Rerun-Of": "../x"}), 400, "invalid_run_id")


async def test_a_run_is_cancelled_while_it_is_at_work(serve: Serve, default_store: Store) -> None:
    waiting = serve("Waiting")
    Waiting.may_go_on, Waiting.began = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(waiting.post("/", headers={"Idempotency-Key": "a"}))
    await Waiting.began.wait()
    (run,), _ = await default_store.list_runs("waiting")

    cancelled = await waiting.post(f"/runs/{run.id}/cancel")
    Waiting.may_go_on.set()
    ended = await running

    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert cancelled.headers["autopilot-run-status"] == "cancelled"
    assert_error(ended, 503, "attempt_superseded")
    assert (await waiting.get(f"/runs/{run.id}")).json()["status"] == "cancelled"


@pytest.mark.parametrize("run_id", ("nope", "x" * 200))
async def test_a_run_that_there_is_not_cannot_be_cancelled(
    echo: httpx.AsyncClient, default_store: Store, run_id: str
) -> None:
    assert_error(await echo.post(f"/runs/{run_id}/cancel"), 404, "run_not_found")


async def test_a_run_that_is_over_cannot_be_cancelled(echo: httpx.AsyncClient, default_store: Store) -> None:
    run = (await echo.post("/")).json()

    assert_error(await echo.post(f"/runs/{run['id']}/cancel"), 409, "run_state_conflict")
