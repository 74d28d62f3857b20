"""Runs of workflows that main.py no longer defines, in the API and on the pages, on every store."""

import re
from datetime import timedelta
from typing import Any

import httpx
import pytest

from autopilot.core.store import Lease, RunStart, StepRecord, Store
from autopilot.models import RunStatus, StepStatus
from autopilot.testing import ManualClock
from tests.api_client import ApiOver
from tests.functions_by_name import FunctionsTransport
from tests.functions_in_process import assert_error
from tests.runs import MakeRun

pytestmark = pytest.mark.parametrize(
    "store", ("sqlite", pytest.param("firestore", marks=pytest.mark.emulator)), indirect=True
)

RUN = "/workflows/retired/runs/run-0001"
MARK = "no longer in main.py"


@pytest.fixture
def client(api_over: ApiOver, process_store: Store, clock: ManualClock) -> httpx.AsyncClient:
    return api_over(clock=clock)


@pytest.fixture(autouse=True)
async def retired(process_store: Store, make_run: MakeRun, clock: ManualClock) -> None:
    """A run of a workflow that no code is left of: failed, with a step."""
    run = make_run(workflow_id="retired", status=RunStatus.RUNNING, started_at=clock.now(), version="7")
    await process_store.start_run(RunStart(run=run, owner="o", incarnation="n", lease_duration=timedelta(hours=1)))
    lease = Lease(workflow_id="retired", run_id=run.id, attempt=1, owner="o", incarnation="n")
    step = StepRecord(
        key="find", status=StepStatus.SUCCESS, attempt=1, tries=1, started_at=clock.now(), result='"found"'
    )
    await process_store.record_step(lease, step, expires_at=clock.now() + timedelta(days=1))
    await process_store.save_run(
        run.model_copy(update={"status": RunStatus.FAILED, "completed_at": clock.now(), "error": "too old"})
    )


async def read(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.get(f"/api/v1{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_its_runs_are_listed_and_marked(
    client: httpx.AsyncClient, process_store: Store, make_run: MakeRun
) -> None:
    await process_store.save_run(make_run(workflow_id="shop"))

    for path in ("/runs", "/workflows/retired/runs"):
        runs = {run["workflow_id"]: run["defined"] for run in (await read(client, path))["runs"]}
        assert runs in ({"retired": False, "shop": True}, {"retired": False})


async def test_its_statistics_and_histories_can_be_read(client: httpx.AsyncClient) -> None:
    workflow = await read(client, "/workflows/retired")
    stats = await read(client, "/workflows/retired/stats?window=24h")

    assert (workflow["defined"], workflow["enabled"], workflow["manifest"]) == (False, False, None)
    assert (workflow["total_runs"], workflow["by_status"], workflow["version"]) == (1, {"failed": 1}, "7")
    assert (workflow["last_run"]["id"], workflow["next_ticks"]) == ("run-0001", [])
    assert [bucket["by_status"] for bucket in stats["buckets"] if bucket["by_status"]] == [{"failed": 1}]


async def test_its_run_can_be_read_and_says_which_actions_are_disabled_and_why(client: httpx.AsyncClient) -> None:
    detail = await read(client, RUN)
    step = await read(client, f"{RUN}/step?key=find")

    assert (detail["defined"], detail["run"]["error"], detail["actions"]) == (False, "too old", ["delete"])
    assert set(detail["disabled_actions"]) == {"retry", "rerun"}
    assert all("main.py no longer defines" in reason for reason in detail["disabled_actions"].values())
    assert step["result"] == "found"


@pytest.mark.parametrize("path", ("/workflows/retired/trigger", f"{RUN}/retry", f"{RUN}/rerun", f"{RUN}/cancel"))
async def test_an_action_that_needs_its_function_is_409(
    client: httpx.AsyncClient, functions: FunctionsTransport, path: str
) -> None:
    error = assert_error(await client.post(f"/api/v1{path}"), 409, "workflow_not_defined")

    assert "main.py no longer defines workflow retired" in error["message"]
    assert functions.requests == []


async def test_its_run_can_be_deleted_and_with_the_last_one_the_workflow_is_gone(client: httpx.AsyncClient) -> None:
    assert (await client.delete(f"/api/v1{RUN}")).status_code == 204

    assert_error(await client.get("/api/v1/workflows/retired"), 404, "workflow_not_found")


async def test_the_run_of_a_workflow_that_never_was_is_not_found(client: httpx.AsyncClient) -> None:
    assert_error(await client.get("/api/v1/workflows/never/runs/run-0001"), 404, "workflow_not_found")
    assert_error(await client.get("/api/v1/workflows/retired/runs/run-0002"), 404, "run_not_found")


async def test_its_events_are_marked(client: httpx.AsyncClient, process_store: Store, make_run: MakeRun) -> None:
    before = await process_store.get_last_position()
    await process_store.save_run(make_run(workflow_id="retired"))

    answer = await client.get("/api/v1/events", headers={"Last-Event-ID": before})

    assert '"defined":false' in answer.text


# Pages


@pytest.mark.parametrize("path", ("/", "/runs", "/workflows/retired", RUN))
async def test_every_page_with_its_runs_marks_them(client: httpx.AsyncClient, path: str) -> None:
    page = await client.get(path)

    assert page.status_code == 200
    assert MARK in page.text


async def test_pages_mark_no_run_of_a_workflow_that_is_defined(
    client: httpx.AsyncClient, process_store: Store, make_run: MakeRun
) -> None:
    run = make_run(workflow_id="shop", status=RunStatus.FAILED)
    await process_store.save_run(run)

    for path in ("/workflows/shop", f"/workflows/shop/runs/{run.id}"):
        assert MARK not in (await client.get(path)).text
    assert (await client.get("/runs")).text.count(MARK) == 1


async def test_every_link_to_it_works(client: httpx.AsyncClient) -> None:
    for path in ("/", "/runs", "/workflows/retired", RUN):
        page = await client.get(path)
        links = {str(page.request.url.join(link)) for link in re.findall(r'href="([^"]*retired[^"]*)"', page.text)}
        assert links or path == "/workflows/retired"
        for link in links:
            assert (await client.get(link)).status_code == 200, link


async def test_its_run_s_page_has_disabled_buttons_with_the_reason_and_one_that_deletes(
    client: httpx.AsyncClient,
) -> None:
    page = (await client.get(RUN)).text

    buttons = re.findall(r'<button type="button" class="button[^"]*"([^>]*)>(Retry|Rerun|Delete)</button>', page)
    assert {label: " disabled" in attributes for attributes, label in buttons} == {
        "Retry": True,
        "Rerun": True,
        "Delete": False,
    }
    assert "Edit and rerun" not in page
    assert 'id="disabled-actions">Disabled: main.py no longer defines the workflow' in page
    assert "/delete" in page
    assert "/retry" not in page


async def test_its_page_offers_no_trigger_and_says_why(client: httpx.AsyncClient) -> None:
    page = (await client.get("/workflows/retired")).text

    assert re.search(r"<button[^>]* disabled [^>]*>Trigger a run</button>", page)
    assert "main.py no longer defines this workflow" in page
    assert "version 7" in page
    refused = await client.get("/workflows/retired/trigger")
    assert (refused.status_code, MARK in refused.text) == (409, False)
    assert "main.py no longer defines workflow retired" in refused.text
