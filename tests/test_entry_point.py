"""The HTTP contract, through functions-framework's own application around the registered function."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from autopilot import WorkflowRun, entry_point
from autopilot.bundle import load_workflow
from autopilot.errors import WorkflowInvalid
from autopilot.function.entry_point import WorkflowFunction
from autopilot.testing import ManualClock
from tests.functions_in_process import BrokenStore, Serve, assert_error, total
from tests.http_workflows import Waiting
from tests.log_events import Events, named

pytestmark = pytest.mark.usefixtures("events", "default_store")

A_TICK = "2025-03-02T12:00:00Z"


class TestAnswersToARun:
    async def test_a_success_is_200_and_the_run(self, shop: httpx.AsyncClient) -> None:
        answer = await shop.post("/", json={"item": "tea"})

        run = answer.json()
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert (run["status"], run["trigger_type"], run["result"]) == ("success", "http", {"text": "1 x tea"})
        assert run["trigger_data"] == {"item": "tea"}
        assert WorkflowRun.model_validate(run).completed_at is not None
        assert answer.headers["autopilot-run-id"] == run["id"]
        assert answer.headers["autopilot-persisted"] == "true"
        assert "autopilot-replayed" not in answer.headers

    async def test_a_failure_is_500_and_the_run(self, shop: httpx.AsyncClient) -> None:
        answer = await shop.post("/", json={"item": "nothing"})

        run = answer.json()
        assert answer.status_code == 500
        assert (run["status"], run["error"]) == ("failed", "there is no such item")
        assert run["error_type"] == "LookupError"
        assert answer.headers["autopilot-run-id"] == run["id"]
        assert "Traceback" not in answer.text

    async def test_a_skipped_one_is_200(self, serve: Serve) -> None:
        answer = await serve("ClosedShop").post("/", json={"item": "tea"})

        assert (answer.status_code, answer.json()["status"]) == (200, "skipped")
        assert answer.headers["autopilot-persisted"] == "true"

    async def test_the_authors_result_can_be_the_body(self, serve: Serve) -> None:
        client = serve("PlainShop")

        answer = await client.post("/", json={"item": "tea"})
        failed = await client.post("/", json={"item": "nothing"})

        assert (answer.status_code, answer.json()) == (200, {"text": "1 x tea"})
        assert answer.headers["autopilot-run-status"] == "success"
        assert answer.headers["autopilot-run-id"]
        assert assert_error(failed, 500, "run_failed")["details"] == {"error_type": "LookupError"}
        assert failed.headers["autopilot-run-id"] != answer.headers["autopilot-run-id"]

    async def test_a_cancellation_of_the_workflows_own_is_answered_too(self, serve: Serve) -> None:
        answer = await serve("OwnCancellation").post("/")

        assert answer.json()["status"] == "cancelled"
        assert answer.headers["autopilot-run-id"] == answer.json()["id"]

    @pytest.mark.parametrize("body", (b"", b"  \n", b"{}"))
    async def test_an_empty_body_is_an_empty_payload(self, echo: httpx.AsyncClient, body: bytes) -> None:
        answer = await echo.post("/", content=body)

        assert answer.json()["result"] == {"payload": {}, "trigger": "http"}


class TestRepeatedTriggers:
    @pytest.mark.parametrize(
        "headers",
        (
            {"Idempotency-Key": "order-1"},
            {"X-CloudScheduler-JobName": "hourly", "X-CloudScheduler-ScheduleTime": A_TICK},
            {"ce-id": "1", "ce-source": "//storage/bucket", "ce-type": "made", "ce-specversion": "1.0"},
        ),
    )
    @pytest.mark.parametrize("item", ("tea", "nothing"))
    async def test_one_of_a_finished_run_has_the_first_answer(
        self, serve: Serve, headers: dict[str, str], item: str
    ) -> None:
        first = await serve("Shop").post("/", json={"item": item, "count": 2}, headers=headers)
        again = await serve("Shop").post("/", json={"count": 2, "item": item}, headers=headers)

        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert again.headers["autopilot-replayed"] == "true"
        assert "autopilot-replayed" not in first.headers
        assert again.headers["autopilot-run-id"] == first.headers["autopilot-run-id"]
        assert await total(serve("Shop")) == 1

    async def test_one_of_a_running_run_is_202_and_where_to_look(self, serve: Serve) -> None:
        Waiting.may_go_on, Waiting.began = asyncio.Event(), asyncio.Event()
        client, key = serve("Waiting"), {"Idempotency-Key": "1"}
        first = asyncio.create_task(client.post("/", headers=key))
        await Waiting.began.wait()

        answer = await serve("Waiting").post("/", headers=key)
        shown = await client.get(answer.headers["location"])
        Waiting.may_go_on.set()
        finished = await first

        assert (answer.status_code, answer.json()["status"]) == (202, "running")
        assert answer.headers["location"] == f"runs/{answer.headers['autopilot-run-id']}"
        assert 1 <= int(answer.headers["retry-after"]) <= 300
        assert answer.headers["autopilot-persisted"] == "true"
        assert shown.json()["status"] == "running"
        assert (finished.status_code, finished.json()["id"]) == (200, answer.json()["id"])

    async def test_one_with_another_payload_is_422(self, shop: httpx.AsyncClient) -> None:
        key = {"Idempotency-Key": "1"}
        first = await shop.post("/", json={"item": "tea"}, headers=key)

        answer = await shop.post("/", json={"item": "milk"}, headers=key)

        error = assert_error(answer, 422, "payload_conflict")
        assert error["details"] == {"run_id": first.json()["id"]}
        assert await total(shop) == 1

    async def test_senders_are_told_apart(self, echo: httpx.AsyncClient) -> None:
        tick = {"X-CloudScheduler-JobName": "hourly", "X-CloudScheduler-ScheduleTime": A_TICK}
        event = {"ce-id": "1", "ce-source": "here"}
        answers = [
            await echo.post("/", headers=headers)
            for headers in (
                {},
                {},
                {"X-CloudScheduler-JobName": "hourly"},
                tick,
                tick | {"X-CloudScheduler-ScheduleTime": "2025-03-02T13:00:00Z"},
                event,
                event | {"ce-id": "2"},
                {"ce-id": "c", "ce-source": "a b"},
                {"ce-id": "b c", "ce-source": "a"},
                event | {"Idempotency-Key": "1"},
            )
        ]

        kinds = [answer.json()["trigger_type"] for answer in answers]
        assert kinds == ["http", "http", *["schedule"] * 3, *["event"] * 5]
        assert len({answer.json()["id"] for answer in answers}) == len(answers)

    async def test_the_same_time_in_another_zone_is_the_same_tick(self, echo: httpx.AsyncClient) -> None:
        ids = {
            (
                await echo.post(
                    "/", headers={"X-CloudScheduler-JobName": "hourly", "X-CloudScheduler-ScheduleTime": time}
                )
            ).json()["id"]
            for time in (A_TICK, "2025-03-02T14:00:00.000+02:00")
        }

        assert len(ids) == 1


class TestReading:
    async def test_the_function_describes_itself_and_never_runs(self, serve: Serve) -> None:
        await serve("Shop").post("/", json={"item": "tea"})
        failed = (await serve("Shop").post("/", json={"item": "nothing"})).json()

        answer = await serve("Shop").get("/")

        described = answer.json()
        assert answer.status_code == 200
        assert described["manifest"]["name"] == "shop"
        assert described["manifest"]["display_name"] == "The shop"
        assert described["payload_schema"]["required"] == ["item"]
        assert (described["total_runs"], described["success_rate"]) == (2, 50.0)
        assert described["by_status"] == {"success": 1, "failed": 1}
        assert described["last_run"] == failed
        assert described["stale"] is False

    async def test_it_reads_the_run_log_each_time(self, serve: Serve) -> None:
        here, there = serve("Shop"), serve("Shop")
        assert await total(here) == 0

        await there.post("/", json={"item": "tea"})

        assert await total(here) == 1

    @pytest.mark.parametrize("method", ("get_stats", "get_latest_run"))
    async def test_it_answers_from_memory_while_the_run_log_is_away_without_the_payload_and_the_result(
        self, shop: httpx.AsyncClient, broken_store: BrokenStore, method: str
    ) -> None:
        run = (await shop.post("/", json={"item": "tea"})).json()
        broken_store.away = {method}

        described = (await shop.get("/")).json()

        assert (described["total_runs"], described["success_rate"], described["stale"]) == (1, 100.0, True)
        assert described["last_run"] == run | {"trigger_data": {}, "result": None}

    async def test_it_does_not_wait_long_for_a_run_log_that_hangs(
        self, broken_store: BrokenStore, clock: ManualClock
    ) -> None:
        function = WorkflowFunction("tests.http_workflows:Shop", clock=clock)
        broken_store.hanging = {"get_stats"}
        broken_store.while_hanging = lambda: clock.advance(timedelta(seconds=3))

        described = await function(Request({"type": "http", "method": "GET", "path": "/", "headers": []}))

        assert json.loads(bytes(described.body))["stale"] is True

    async def test_a_run_can_be_read(self, shop: httpx.AsyncClient) -> None:
        run = (await shop.post("/", json={"item": "tea"})).json()

        answer = await shop.get(f"/runs/{run['id']}")

        assert (answer.status_code, answer.json()) == (200, run)

    async def test_one_of_another_workflow_is_not_shown(self, shop: httpx.AsyncClient, echo: httpx.AsyncClient) -> None:
        run = (await shop.post("/", json={"item": "tea"})).json()

        assert_error(await echo.get(f"/runs/{run['id']}"), 404, "run_not_found")

    async def test_a_run_that_cannot_be_read_is_503(self, shop: httpx.AsyncClient, broken_store: BrokenStore) -> None:
        broken_store.away = {"get_run"}

        assert_error(await shop.get("/runs/x"), 503, "store_unavailable")

    async def test_head_is_get_without_running(self, shop: httpx.AsyncClient) -> None:
        answer = await shop.head("/")

        assert answer.status_code == 200
        assert await total(shop) == 0


class TestWithoutTheStore:
    async def test_a_best_effort_run_without_an_identity_goes_on_unrecorded(
        self, shop: httpx.AsyncClient, broken_store: BrokenStore
    ) -> None:
        broken_store.away = {"start_run", "save_run"}

        answer = await shop.post("/", json={"item": "tea"})

        assert (answer.status_code, answer.json()["status"]) == (200, "success")
        assert answer.headers["autopilot-persisted"] == "false"

    async def test_a_best_effort_run_that_asks_for_a_step_can_be_sent_again(
        self, serve: Serve, broken_store: BrokenStore
    ) -> None:
        client = serve("Counting")
        broken_store.away = {"start_run", "save_run"}
        refused = await client.post("/", json={"to": 2})
        broken_store.away = set()
        answer = await client.post("/", json={"to": 2})

        assert_error(refused, 503, "start_not_recorded")
        assert "retry-after" in refused.headers
        assert (answer.status_code, answer.headers["autopilot-persisted"]) == (200, "true")
        assert await total(client) == 1

    async def test_with_an_identity_nothing_is_run(self, shop: httpx.AsyncClient, broken_store: BrokenStore) -> None:
        broken_store.away = {"start_run"}

        answer = await shop.post("/", json={"item": "tea"}, headers={"Idempotency-Key": "1"})

        assert_error(answer, 503, "start_not_recorded")
        broken_store.away = set()
        assert await total(shop) == 0

    async def test_with_required_durability_nothing_is_run(self, serve: Serve, broken_store: BrokenStore) -> None:
        broken_store.away = {"start_run"}
        client = serve("CarefulShop")

        assert_error(await client.post("/", json={"item": "tea"}), 503, "start_not_recorded")

        broken_store.away = set()
        assert (await client.post("/", json={"item": "tea"})).headers["autopilot-persisted"] == "true"
        assert await total(client) == 1

    async def test_an_ending_that_was_not_recorded_is_503_and_made_good_by_the_next_delivery(
        self, shop: httpx.AsyncClient, broken_store: BrokenStore
    ) -> None:
        key = {"Idempotency-Key": "1"}
        broken_store.away = {"save_run"}

        answer = await shop.post("/", json={"item": "tea"}, headers=key)
        broken_store.away = set()
        again = await shop.post("/", json={"item": "tea"}, headers=key)

        assert_error(answer, 503, "ending_not_recorded")
        assert answer.headers["autopilot-persisted"] == "false"
        assert answer.headers["autopilot-run-id"] == again.json()["id"]
        assert (again.status_code, again.json()["status"]) == (200, "success")
        assert again.headers["autopilot-replayed"] == "true"
        assert await total(shop) == 1

    async def test_a_fault_of_ours_is_a_plain_500_and_a_traceback_in_the_log(
        self, shop: httpx.AsyncClient, broken_store: BrokenStore, events: Events, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def broken(workflow_id: str, run_id: str) -> None:
            raise ZeroDivisionError("s3cret")

        monkeypatch.setattr(broken_store, "get_run", broken, raising=False)

        answer = await shop.get("/runs/x")

        assert "s3cret" not in json.dumps(assert_error(answer, 500, "internal"))
        assert [event["exc_info"] for event in named(events, "request_failed")] == [True]

    async def test_settings_that_cannot_work_are_503(
        self, shop: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("K_SERVICE", "shop")

        error = assert_error(await shop.get("/"), 503, "configuration_error")

        assert "AUTOPILOT_STORE" in error["message"]


class TestMakingAFunction:
    def test_it_is_named_after_its_module(self) -> None:
        function: Any = entry_point("functions.somewhere.my_job:MyJob")

        assert function.__name__ == "my_job"
        assert function.workflow_path == "functions.somewhere.my_job:MyJob"

    @pytest.mark.parametrize("path", ("", "module", "module:", ":Class"))
    def test_a_malformed_path_is_refused(self, path: str) -> None:
        with pytest.raises(WorkflowInvalid, match=r"functions\.uptime_check:UptimeCheck"):
            entry_point(path)

    @pytest.mark.parametrize(
        ("path", "reason"),
        (
            ("tests.absent:Shop", r"no module tests\.absent"),
            ("absent.module:Shop", "no module absent"),
            ("tests.http_workflows:Absent", "no workflow class Absent"),
            ("tests.http_workflows:Order", "no workflow class Order"),
        ),
    )
    def test_what_is_no_workflow_is_told(self, path: str, reason: str) -> None:
        with pytest.raises(WorkflowInvalid, match=reason):
            load_workflow(path)
