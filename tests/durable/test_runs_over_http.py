"""``/runs/{id}/continue`` and ``/retry``, and what a trigger is answered while a run is on its way."""

import sqlite3
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from autopilot import TriggerType
from autopilot.core.run_log import use_store
from autopilot.core.store import Store
from autopilot.testing import InstanceKilled
from autopilot.testing.instance import Instance
from tests.durable.served import Fragile
from tests.equipment import equipped
from tests.functions_in_process import BrokenStore, Serve, assert_error

KEY = {"Idempotency-Key": "1"}


@pytest.fixture
def fragile(serve: Serve, default_store: Store, monkeypatch: pytest.MonkeyPatch) -> httpx.AsyncClient:
    monkeypatch.setattr(Fragile, "is_well", False)
    return serve("tests.durable.served:Fragile")


async def orphan(store: Store) -> str:
    """A run whose instance was killed in the body of ``b``."""
    instance = Instance(store, kill_at="before body b")
    with use_store(cast("Store", instance.store)), pytest.raises(InstanceKilled):
        await equipped(Fragile(), probe=instance).run(TriggerType.HTTP, {})
    (run,) = (await store.list_runs("fragile"))[0]
    return run.id


def end_leases(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE runs SET due_at = 0 WHERE status = 'running'")
    connection.close()


async def test_a_failed_run_is_retried_at_its_first_unrecorded_step(
    fragile: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = await fragile.post("/", headers=KEY)
    again = await fragile.post(f"/runs/{failed.json()['id']}/retry")
    monkeypatch.setattr(Fragile, "is_well", True)
    retried = await fragile.post(f"/runs/{failed.json()['id']}/retry")

    assert (failed.status_code, again.status_code, retried.status_code) == (500, 500, 200)
    assert (again.json()["attempt"], again.json()["error_type"]) == (2, "OSError")
    assert (retried.json()["attempt"], retried.json()["result"]) == (3, [1, 3])
    assert retried.headers["autopilot-persisted"] == "true"
    assert (await fragile.get("/")).json()["by_status"] == {"success": 1}


async def test_what_is_answered_from_then_on_is_the_outcome_of_the_retry(
    fragile: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = await fragile.post("/", headers=KEY)
    monkeypatch.setattr(Fragile, "is_well", True)
    await fragile.post(f"/runs/{failed.json()['id']}/retry")
    replayed = await fragile.post("/", headers=KEY)

    assert (replayed.status_code, replayed.headers["autopilot-replayed"]) == (200, "true")
    assert replayed.json()["result"] == [1, 2]


async def test_a_run_that_succeeded_cannot_be_retried(
    fragile: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fragile, "is_well", True)
    run = (await fragile.post("/")).json()

    error = assert_error(await fragile.post(f"/runs/{run['id']}/retry"), 409, "run_state_conflict")

    assert error["details"] == {"run_id": run["id"], "status": "success"}


async def test_a_run_at_work_elsewhere_cannot_be_retried_and_a_continuation_is_told_to_wait(
    fragile: httpx.AsyncClient, default_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = await orphan(default_store)

    assert_error(await fragile.post(f"/runs/{run_id}/retry"), 409, "run_state_conflict")
    held = await fragile.post(f"/runs/{run_id}/continue")

    assert (held.status_code, held.json()["status"]) == (202, "running")
    assert held.headers["location"] == f"runs/{run_id}"
    assert int(held.headers["retry-after"]) > 0


async def test_an_orphan_is_continued(
    fragile: httpx.AsyncClient, default_store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_id = await orphan(default_store)
    end_leases(tmp_path / "runs.db")
    monkeypatch.setattr(Fragile, "is_well", True)
    continued = await fragile.post(f"/runs/{run_id}/continue")

    assert (continued.status_code, continued.json()["result"]) == (200, [1, 2])


@pytest.mark.parametrize("is_well", (True, False))
async def test_a_continuation_of_any_run_that_is_over_is_200_since_there_is_nothing_to_go_on_with(
    fragile: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, *, is_well: bool
) -> None:
    monkeypatch.setattr(Fragile, "is_well", is_well)
    run = (await fragile.post("/")).json()
    continued = await fragile.post(f"/runs/{run['id']}/continue")

    assert (continued.status_code, continued.json()) == (200, run)


@pytest.mark.parametrize("call", ("continue", "retry"))
@pytest.mark.parametrize("run_id", ("none", "x" * 300, "%20"))
async def test_a_run_that_does_not_exist_is_404(fragile: httpx.AsyncClient, call: str, run_id: str) -> None:
    assert_error(await fragile.post(f"/runs/{run_id}/{call}"), 404, "run_not_found")


@pytest.mark.parametrize("call", ("continue", "retry"))
async def test_these_paths_take_post_and_nothing_else(fragile: httpx.AsyncClient, call: str) -> None:
    answer = await fragile.get(f"/runs/any/{call}")

    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("call", ("continue", "retry"))
async def test_with_the_store_away_nothing_is_executed_and_the_caller_comes_again(
    serve: Serve, broken_store: BrokenStore, call: str
) -> None:
    client = serve("tests.durable.served:Fragile")
    run = (await client.post("/")).json()
    broken_store.away = {"claim_run"}

    assert_error(await client.post(f"/runs/{run['id']}/{call}"), 503, "store_unavailable")


async def test_an_attempt_whose_step_cannot_be_recorded_is_503_and_the_trigger_goes_on(
    serve: Serve, broken_store: BrokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fragile, "is_well", True)
    client = serve("tests.durable.served:Fragile")
    broken_store.away = {"record_step"}
    ended: Any = await client.post("/", headers=KEY)
    broken_store.away = set()
    went_on = await client.post("/", headers=KEY)

    assert_error(ended, 503, "attempt_ended")
    assert ended.headers["retry-after"] == "1"
    assert (went_on.status_code, went_on.json()["result"], went_on.json()["attempt"]) == (200, [2, 2], 2)
