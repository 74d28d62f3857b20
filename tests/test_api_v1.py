"""API v1, against every store."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import httpx
import pytest

from autopilot.core.shutdown import Shutdown
from autopilot.core.store import RunArchive, Store
from autopilot.models import RunStatus, TriggerType
from autopilot.testing import ManualClock
from tests.api_client import ApiOver
from tests.functions_by_name import FunctionsTransport
from tests.functions_in_process import assert_error
from tests.http_workflows import Counting, Waiting
from tests.runs import MakeRun

pytestmark = pytest.mark.parametrize(
    "store", ("sqlite", pytest.param("firestore", marks=pytest.mark.emulator)), indirect=True
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def seed(store: Store, make_run: MakeRun, number: int, **fields: Any) -> list[str]:
    runs = [make_run(workflow_id="shop", **fields) for _ in range(number)]
    for run in runs:
        await store.save_run(run)
    return [run.id for run in reversed(runs)]


async def trigger(api: httpx.AsyncClient, workflow: str, payload: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = await api.post(f"/workflows/{workflow}/trigger", json=payload, headers=headers)
    assert answer.status_code in {200, 202}, answer.text
    accepted: dict[str, Any] = answer.json()
    return accepted


async def trigger_waiting(api: httpx.AsyncClient, clock: ManualClock) -> httpx.Response:
    """Trigger a run that goes on until ``Waiting.may_go_on`` is set; the wait for it ends once it has begun."""
    Waiting.may_go_on, Waiting.began = asyncio.Event(), asyncio.Event()
    triggered = asyncio.create_task(api.post("/workflows/waiting/trigger", headers={"Prefer": "wait=7"}))
    await Waiting.began.wait()
    clock.advance(timedelta(seconds=6))
    await asyncio.sleep(0)
    assert not triggered.done()
    clock.advance(timedelta(seconds=1))
    return await triggered


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "in_the_way", 2)


# Looking


async def test_workflows_are_listed_with_their_statistics(
    api: httpx.AsyncClient, process_store: Store, make_run: MakeRun
) -> None:
    await seed(process_store, make_run, 3)
    await seed(process_store, make_run, 1, status=RunStatus.FAILED, error="out of tea", error_type="LookupError")

    workflows = {each["name"]: each for each in (await api.get("/workflows")).json()["workflows"]}

    assert set(workflows) == {"counting", "echo", "parcel", "shop", "waiting"}
    shop = workflows["shop"]
    assert (shop["total_runs"], shop["success_rate"], shop["by_status"]) == (4, 75.0, {"success": 3, "failed": 1})
    assert shop["last_run"]["error"] == "out of tea"
    assert workflows["echo"]["last_run"] is None


async def test_a_workflow_tells_its_manifest_its_payload_and_its_next_tick(api: httpx.AsyncClient) -> None:
    counting = (await api.get("/workflows/counting")).json()
    shop = (await api.get("/workflows/shop")).json()

    assert counting["manifest"]["name"] == "counting"
    assert counting["next_tick"]["at"] == "2026-03-01T13:00:00Z"
    assert [tick["schedule"] for tick in counting["next_ticks"]] == ["hourly"]
    assert shop["next_tick"] is None
    assert set(shop["payload_schema"]["properties"]) == {"item", "count"}
    listed = {each["name"]: each for each in (await api.get("/workflows")).json()["workflows"]}
    assert (listed["counting"], listed["shop"]) == (counting, shop)


async def test_walking_the_pages_meets_every_run_once_newest_first(
    api: httpx.AsyncClient, process_store: Store, make_run: MakeRun
) -> None:
    ids = await seed(process_store, make_run, 5)
    met: list[str] = []
    cursor: str | None = ""

    while cursor is not None:
        asked = {"limit": 2} | ({"start_after": cursor} if cursor else {})
        page = (await api.get("/workflows/shop/runs", params=asked)).json()
        met += [run["id"] for run in page["runs"]]
        cursor = page["next_cursor"]

    assert met == ids


async def test_a_page_of_filtered_runs_is_full_when_enough_runs_fit(
    api: httpx.AsyncClient, process_store: Store, make_run: MakeRun
) -> None:
    failed = await seed(process_store, make_run, 3, status=RunStatus.FAILED)
    await seed(process_store, make_run, 10)

    page = (await api.get("/workflows/shop/runs", params={"status": "failed", "limit": 3})).json()

    assert [run["id"] for run in page["runs"]] == failed


@pytest.mark.parametrize(
    ("filters", "expected"),
    (
        ({"trigger": "manual"}, {"run-0002"}),
        ({"since": "2026-03-01T12:00:02Z"}, {"run-0002", "run-0003"}),
        ({"until": "2026-03-01T13:00:02+01:00"}, {"run-0001"}),
        ({"since": "2026-03-01T12:00:02Z", "until": "2026-03-01T12:00:03Z"}, {"run-0002"}),
    ),
)
async def test_runs_are_filtered_by_trigger_and_time(
    api: httpx.AsyncClient,
    process_store: Store,
    make_run: MakeRun,
    filters: dict[str, str],
    expected: set[str],
) -> None:
    await seed(process_store, make_run, 1)
    await seed(process_store, make_run, 1, trigger_type=TriggerType.MANUAL)
    await seed(process_store, make_run, 1)

    of_shop = (await api.get("/workflows/shop/runs", params=filters)).json()
    of_all = (await api.get("/runs", params=filters)).json()

    assert {run["id"] for run in of_shop["runs"]} == expected
    assert of_all == of_shop


async def test_a_list_of_runs_leaves_out_payloads_and_results(
    api: httpx.AsyncClient, process_store: Store, make_run: MakeRun
) -> None:
    await seed(process_store, make_run, 1, trigger_data={"item": "tea"}, result={"text": "tea"})

    (run,) = (await api.get("/runs")).json()["runs"]

    assert not {"trigger_data", "result"} & run.keys()


async def test_a_run_comes_with_its_steps_attempts_and_the_step_it_failed_at(
    api: httpx.AsyncClient, counting: None
) -> None:
    run_id = (await trigger(api, "counting", {"to": 4}))["run_id"]

    detail = (await api.get(f"/workflows/counting/runs/{run_id}")).json()

    assert [(step["key"], step["status"]) for step in detail["steps"]] == [
        ("count[0]", "success"),
        ("count[1]", "success"),
        ("count[2]", "failed"),
    ]
    assert detail["failed_step"] == "count[2]"
    assert detail["steps"][1]["result"] == 1
    assert detail["steps"][2]["error_type"] == "ArithmeticError"
    assert [attempt["number"] for attempt in detail["attempts"]] == [1]
    assert detail["actions"] == ["retry", "rerun", "delete"]
    assert f'jsonPayload.run_id="{run_id}"' in detail["log_query"]
    assert detail["run"]["trigger_data"] == {"to": 4}


async def test_statistics_of_a_window_have_every_hour_and_what_ended_in_it(
    api: httpx.AsyncClient, process_store: Store, make_run: MakeRun
) -> None:
    for minutes, duration_ms in ((10, 100), (20, 100), (90, 4000)):
        ended = NOON - timedelta(minutes=minutes)
        await seed(process_store, make_run, 1, started_at=ended, completed_at=ended, duration_ms=duration_ms)

    report = (await api.get("/workflows/shop/stats", params={"window": "4h"})).json()

    assert report["size"] == "hour"
    assert [bucket["by_status"] for bucket in report["buckets"]] == [{}, {"success": 1}, {"success": 2}, {}]
    assert report["buckets"][2]["duration_ms"]["p50"] == pytest.approx(100, rel=0.1)
    assert report["buckets"][1]["duration_ms"]["max"] == pytest.approx(4000, rel=0.1)


# Acting


async def test_a_trigger_runs_the_workflow_in_its_own_function_as_a_person_s(
    api: httpx.AsyncClient, functions: FunctionsTransport
) -> None:
    accepted = await trigger(api, "shop", {"item": "tea"})

    run = (await api.get(f"/workflows/shop/runs/{accepted['run_id']}")).json()["run"]
    assert (accepted["status"], run["status"], run["trigger_type"]) == ("success", "success", "manual")
    assert run["result"] == {"text": "1 x tea"}
    assert [request.url.host for request in functions.requests] == ["shop"]


async def test_a_trigger_that_comes_again_with_its_key_is_the_same_run(api: httpx.AsyncClient) -> None:
    first = await trigger(api, "shop", {"item": "tea"}, **{"Idempotency-Key": "order 1"})
    second = await trigger(api, "shop", {"item": "tea"}, **{"Idempotency-Key": "order 1"})

    assert (first["run_id"], first["replayed"], second["replayed"]) == (second["run_id"], False, True)


async def test_a_run_that_takes_longer_than_the_wait_is_answered_while_it_is_running(
    api: httpx.AsyncClient, api_clock: ManualClock, functions: FunctionsTransport
) -> None:
    answer = await trigger_waiting(api, api_clock)

    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    location = answer.headers["location"].removeprefix("/api/v1")
    assert (await api.get(location)).json()["run"]["status"] == "running"

    Waiting.may_go_on.set()
    await functions.finish()
    assert (await api.get(location)).json()["run"]["status"] == "success"


async def test_a_payload_that_the_workflow_refuses_is_told_with_its_fields(api: httpx.AsyncClient) -> None:
    error = assert_error(await api.post("/workflows/shop/trigger", json={"count": 1}), 422, "payload_invalid")

    assert error["details"][0]["loc"] == ["item"]


async def test_a_retry_goes_on_at_the_step_that_failed(
    api: httpx.AsyncClient, counting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = (await trigger(api, "counting", {"to": 4}))["run_id"]
    monkeypatch.setattr(Counting, "in_the_way", None)

    accepted = (await api.post(f"/workflows/counting/runs/{run_id}/retry")).json()

    detail = (await api.get(f"/workflows/counting/runs/{run_id}")).json()
    assert (accepted["run_id"], accepted["status"]) == (run_id, "success")
    assert {step["key"]: step["attempt"] for step in detail["steps"]} == {
        "count[0]": 1,
        "count[1]": 1,
        "count[2]": 2,
        "count[3]": 2,
    }
    assert [attempt["number"] for attempt in detail["attempts"]] == [1, 2]


async def test_a_rerun_is_a_new_run_of_the_same_payload(api: httpx.AsyncClient) -> None:
    run_id = (await trigger(api, "shop", {"item": "tea", "count": 3}))["run_id"]

    rerun_id = (await api.post(f"/workflows/shop/runs/{run_id}/rerun")).json()["run_id"]

    rerun = (await api.get(f"/workflows/shop/runs/{rerun_id}")).json()["run"]
    assert rerun_id != run_id
    assert (rerun["rerun_of"], rerun["result"], rerun["trigger_type"]) == (run_id, {"text": "3 x tea"}, "manual")


async def test_a_cancelled_run_stays_cancelled_when_its_attempt_ends(
    api: httpx.AsyncClient, api_clock: ManualClock, functions: FunctionsTransport
) -> None:
    run_id = (await trigger_waiting(api, api_clock)).json()["run_id"]

    cancelled = await api.post(f"/workflows/waiting/runs/{run_id}/cancel")
    Waiting.may_go_on.set()
    await functions.finish()

    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert (await api.get(f"/workflows/waiting/runs/{run_id}")).json()["run"]["status"] == "cancelled"


async def test_a_removed_run_is_gone_and_its_statistics_stay(api: httpx.AsyncClient) -> None:
    run_id = (await trigger(api, "shop", {"item": "tea"}))["run_id"]

    removed = await api.delete(f"/workflows/shop/runs/{run_id}")

    assert (removed.status_code, removed.content) == (204, b"")
    assert_error(await api.get(f"/workflows/shop/runs/{run_id}"), 404, "run_not_found")
    assert_error(await api.delete(f"/workflows/shop/runs/{run_id}"), 404, "run_not_found")
    assert (await api.get("/workflows/shop")).json()["total_runs"] == 1


# Refusals


@pytest.mark.parametrize("action", ("retry", "cancel"))
async def test_an_action_that_does_not_go_with_the_status_is_409(api: httpx.AsyncClient, action: str) -> None:
    run_id = (await trigger(api, "shop", {"item": "tea"}))["run_id"]

    error = assert_error(await api.post(f"/workflows/shop/runs/{run_id}/{action}"), 409, "run_state_conflict")

    assert error["details"] == {"run_id": run_id, "status": "success"}


async def test_a_run_that_is_not_over_is_not_removed(
    api: httpx.AsyncClient, api_clock: ManualClock, functions: FunctionsTransport
) -> None:
    run_id = (await trigger_waiting(api, api_clock)).json()["run_id"]

    assert_error(await api.delete(f"/workflows/waiting/runs/{run_id}"), 409, "run_state_conflict")
    Waiting.may_go_on.set()
    await functions.finish()


async def test_of_two_retries_at_once_one_is_told_that_the_run_is_at_work(
    api: httpx.AsyncClient, counting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = (await trigger(api, "counting", {"to": 4}))["run_id"]
    monkeypatch.setattr(Counting, "in_the_way", None)

    answers = await asyncio.gather(*(api.post(f"/workflows/counting/runs/{run_id}/retry") for _ in range(2)))

    assert sorted(answer.status_code for answer in answers) == [200, 409]


async def test_a_cursor_of_another_list_is_422(api: httpx.AsyncClient, process_store: Store, make_run: MakeRun) -> None:
    await seed(process_store, make_run, 3)
    cursor = (await api.get("/runs", params={"limit": 1})).json()["next_cursor"]

    assert_error(await api.get("/workflows/shop/runs", params={"start_after": cursor}), 422, "cursor_invalid")


# Changes


@pytest.mark.slow
async def test_a_stream_tells_of_runs_as_they_change_and_ends_by_itself(
    api: httpx.AsyncClient, process_store: Store, make_run: MakeRun
) -> None:
    before = await position(process_store)
    (run_id,) = await seed(process_store, make_run, 1)

    answer = await api.get("/events", headers={"Last-Event-ID": before})

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [json.loads(data)["id"] for data in data_of(answer.text)] == [run_id]
    assert ": still here" in answer.text


async def test_a_stream_ends_when_its_process_is_told_to(
    api_over: ApiOver, process_store: Store, clock: ManualClock
) -> None:
    shutdown = Shutdown()
    shutdown.begin()

    answer = await api_over(clock=clock, shutdown=shutdown).get("/api/v1/events")

    assert answer.text.startswith("retry: ")
    assert clock.slept == []


@pytest.mark.slow
@pytest.mark.parametrize(("timeout", "seconds"), ((None, 290), ("60", 50), ("540", 300)))
async def test_a_stream_ends_before_its_request_is_cut_off_and_is_never_silent_for_long(
    api_over: ApiOver, process_store: Store, clock: ManualClock, timeout: str | None, seconds: int
) -> None:
    variables = {} if timeout is None else {"CLOUD_RUN_TIMEOUT_SECONDS": timeout}

    answer = await api_over(clock=clock, **variables).get("/api/v1/events")

    assert sum(clock.slept) == seconds
    assert answer.text.count(": still here") == seconds // 15 - (1 if seconds % 15 == 0 else 0)


@pytest.mark.parametrize(
    ("prefer", "seconds"), ((None, 5), ("wait=0", 1), ("respond-async, wait=20", 20), ("wait=9999", 300), ("wait=x", 5))
)
async def test_a_caller_says_how_long_to_wait_within_limits(
    api_over: ApiOver, process_store: Store, prefer: str | None, seconds: int
) -> None:
    class Waits(ManualClock):
        waits: ClassVar[list[float | None]] = []

        def timeout(self, seconds: float | None) -> Any:
            self.waits.append(seconds)
            return super().timeout(seconds)

    clock = Waits()
    await api_over(clock=clock).post(
        "/api/v1/workflows/shop/trigger", json={"item": "tea"}, headers={} if prefer is None else {"Prefer": prefer}
    )

    assert clock.waits == [seconds]


@pytest.mark.slow
async def test_a_stream_goes_on_where_the_last_one_ended(
    api: httpx.AsyncClient, process_store: Store, make_run: MakeRun
) -> None:
    before = await position(process_store)
    await seed(process_store, make_run, 2)
    first = await api.get("/events", headers={"Last-Event-ID": before})
    last_id = [line.removeprefix("id: ") for line in first.text.splitlines() if line.startswith("id: ")][-1]
    (run_id,) = await seed(process_store, make_run, 1)

    second = await api.get("/events", headers={"Last-Event-ID": last_id})

    assert [json.loads(data)["id"] for data in data_of(second.text)] == [run_id]


async def test_a_stream_of_one_run_tells_of_no_other(
    api: httpx.AsyncClient, process_store: Store, make_run: MakeRun
) -> None:
    before = await position(process_store)
    ids = await seed(process_store, make_run, 3)

    answer = await api.get("/events", params={"workflow": "shop", "run": ids[1]}, headers={"Last-Event-ID": before})

    assert [json.loads(data)["id"] for data in data_of(answer.text)] == [ids[1]]


async def test_a_position_that_is_none_is_422(api: httpx.AsyncClient) -> None:
    assert_error(await api.get("/events", headers={"Last-Event-ID": "here"}), 422, "cursor_invalid")


async def position(archive: RunArchive) -> str:
    return await archive.get_last_position()


def data_of(stream: str) -> list[str]:
    return [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: ")]
