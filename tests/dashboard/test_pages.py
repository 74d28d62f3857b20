"""Pages of runs that are larger than people are used to."""

import time
from datetime import timedelta

import httpx
import pytest

from autopilot.core.runs.limits import RESULT_LIMIT
from autopilot.core.steps.keys import key_digest
from autopilot.core.store import Lease, RunStart, StepRecord, Store
from autopilot.dashboard.run_pages import SHOWN_LINES
from autopilot.dashboard.timeline import STEPS_PER_PAGE
from autopilot.models import RunStatus, StepStatus
from autopilot.testing import ManualClock
from tests.api_client import ApiOver
from tests.runs import MakeRun

pytestmark = pytest.mark.parametrize("store", ("sqlite in memory",), indirect=True)


@pytest.fixture
def pages(api_over: ApiOver, process_store: Store, clock: ManualClock) -> httpx.AsyncClient:
    return api_over(clock=clock)


async def a_run_with_steps(
    store: Store, make_run: MakeRun, clock: ManualClock, number: int, *, failed: int, result: str = '"done"'
) -> str:
    """A run that failed at its step ``failed``; gives its path."""
    run = make_run(workflow_id="shop", status=RunStatus.RUNNING, started_at=clock.now())
    await store.start_run(RunStart(run=run, owner="o", incarnation="n", lease_duration=timedelta(hours=1)))
    lease = Lease(workflow_id="shop", run_id=run.id, attempt=1, owner="o", incarnation="n")
    for step in range(number):
        began = clock.now() + timedelta(milliseconds=10 * step)
        status = StepStatus.FAILED if step == failed else StepStatus.SUCCESS
        record = StepRecord(
            key=f"load[{step}]",
            status=status,
            attempt=1,
            tries=1,
            started_at=began,
            ended_at=began + timedelta(milliseconds=8),
            result=result if status is StepStatus.SUCCESS else None,
            error=None if status is StepStatus.SUCCESS else "the disk is full",
            error_type=None if status is StepStatus.SUCCESS else "OSError",
        )
        await store.record_step(lease, record, expires_at=began + timedelta(days=1))
    clock.advance(timedelta(milliseconds=10 * number))
    ended = run.model_copy(
        update={
            "status": RunStatus.FAILED,
            "completed_at": clock.now(),
            "error": "the disk is full",
            "failed_steps": (key_digest(f"load[{failed}]"),),
        }
    )
    await store.save_run(ended)
    return f"/workflows/shop/runs/{run.id}"


@pytest.mark.slow
async def test_a_run_of_ten_thousand_steps_opens_at_the_step_that_failed_and_stays_small(
    pages: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    path = await a_run_with_steps(process_store, make_run, clock, 10_000, failed=7_777)

    began = time.perf_counter()
    page = await pages.get(path)
    seconds = time.perf_counter() - began

    assert page.text.count("<details") == STEPS_PER_PAGE
    assert "load[7777]" in page.text
    assert "page 39 of 50" in page.text
    assert len(page.text) < 600_000
    assert seconds < 5


async def test_the_failed_steps_can_be_shown_alone(
    pages: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    path = await a_run_with_steps(process_store, make_run, clock, 300, failed=250)

    page = await pages.get(f"{path}?show=failed")

    assert page.text.count("<details") == 1


@pytest.mark.parametrize("asked", ("0", "-1", "99", "x", "9" * 50))
async def test_a_page_of_steps_that_there_is_not_is_one_that_there_is(
    pages: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock, asked: str
) -> None:
    path = await a_run_with_steps(process_store, make_run, clock, 3, failed=2)

    assert (await pages.get(f"{path}?steps={asked}")).text.count("<details") == 3


async def test_of_the_largest_result_the_first_part_is_shown_and_the_whole_is_a_link_away(
    pages: httpx.AsyncClient, process_store: Store, make_run: MakeRun
) -> None:
    run = make_run(workflow_id="shop", result="x" * (RESULT_LIMIT - 2))
    await process_store.save_run(run)

    page = await pages.get(f"/workflows/shop/runs/{run.id}")
    whole = await pages.get(f"/api/v1/workflows/shop/runs/{run.id}")

    assert len(page.text) < 100_000
    assert "more characters" in page.text
    assert whole.json()["run"]["result"] == run.result


async def test_large_results_of_steps_are_left_out_of_the_run_and_had_one_by_one(
    pages: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    large = '"' + "x" * (RESULT_LIMIT - 2) + '"'
    path = await a_run_with_steps(process_store, make_run, clock, 4, failed=-1, result=large)

    run = (await pages.get(f"/api/v1{path}")).json()
    step = (await pages.get(f"/api/v1{path}/step", params={"key": "load[3]"})).json()

    assert [step["result_omitted"] for step in run["steps"]] == [False, False, True, True]
    assert len(step["result"]) == RESULT_LIMIT - 2


async def test_what_a_run_logged_stands_on_its_page_and_nothing_of_it_is_markup(
    api_over: ApiOver, process_store: Store, make_run: MakeRun
) -> None:
    run = make_run(workflow_id="shop", status=RunStatus.FAILED)
    await process_store.save_run(run)
    told = {"run_id": run.id, "workflow": "shop", "attempt": 1}
    events = [
        {"timestamp": "2026-03-01T12:00:00.250+00:00", "level": "info", "event": "sold", "cups": 2, **told},
        {"level": "error", "event": "<b>", "exception": "Traceback\n<script>", "timestamp": "no time", **told},
    ]

    page = await api_over(read_log={run.id: events}.__getitem__).get(f"/workflows/shop/runs/{run.id}")

    log = page.text.partition('id="log-title"')[2].partition("</section>")[0]
    assert [log.count(part) for part in ("12:00:00.250", "<b>sold</b>", "cups=", run.id[:8])] == [1, 1, 1, 0]
    assert "<b>&lt;b&gt;</b>" in log
    assert "Traceback\n&lt;script&gt;" in log


async def test_a_line_that_does_not_name_its_attempt_stands_under_the_one_it_belongs_to(
    api_over: ApiOver, process_store: Store, make_run: MakeRun
) -> None:
    run = make_run(workflow_id="shop", status=RunStatus.FAILED, attempt=2)
    await process_store.save_run(run)
    events = [
        {"event": "tried-1"},
        {"event": "ended-1", "attempt": 1},
        {"event": "began-2", "attempt": 2},
        {"event": "tried-2"},
    ]

    page = (await api_over(read_log=lambda _: events).get(f"/workflows/shop/runs/{run.id}")).text

    log = page.partition('id="log-title"')[2].partition("</section>")[0]
    places = [log.index(text) for text in (">Attempt 1<", "tried-1", "ended-1", ">Attempt 2<", "began-2", "tried-2")]
    assert places == sorted(places)
    assert log.count('class="log-attempt"') == 2


async def test_a_page_that_does_not_exist_says_so_in_a_sentence(pages: httpx.AsyncClient) -> None:
    answer = await pages.get("/nothing")

    assert answer.status_code == 404
    assert "<h1>Not found</h1><p>There is no page at this address.</p>" in answer.text


async def test_what_turns_the_writing_direction_is_shown_and_not_obeyed(
    api_over: ApiOver, process_store: Store, make_run: MakeRun
) -> None:
    turned = "ab\u202edc\x9b"
    run = make_run(workflow_id="shop", status=RunStatus.FAILED, error=turned, result={turned: turned})
    await process_store.save_run(run)
    pages = api_over(read_log=lambda _: [{"event": turned, turned: turned, "exception": turned}])

    shown = [
        (await pages.get(path)).text for path in ("/", "/runs", "/workflows/shop", f"/workflows/shop/runs/{run.id}")
    ]

    assert all("ab\\u202edc\\x9b" in page for page in shown)
    assert not {"\u202e", "\x9b"} & {*"".join(shown)}
    assert shown[-1].count("ab\\u202edc\\u009b") == 4  # JSON: key and value, on the page and to be copied


async def test_of_a_long_log_the_latest_lines_are_shown(
    api_over: ApiOver, process_store: Store, make_run: MakeRun
) -> None:
    run = make_run(workflow_id="shop")
    await process_store.save_run(run)
    events = [{"event": f"event-{number}"} for number in range(SHOWN_LINES + 3)]

    page = (await api_over(read_log=lambda _: events).get(f"/workflows/shop/runs/{run.id}")).text

    assert "3 earlier lines not shown" in page
    assert "<b>event-2</b>" not in page
    assert page.count("<b>event-") == SHOWN_LINES


async def test_where_the_log_is_not_at_hand_a_page_has_none(
    pages: httpx.AsyncClient, process_store: Store, make_run: MakeRun
) -> None:
    run = make_run(workflow_id="shop")
    await process_store.save_run(run)

    assert "log-title" not in (await pages.get(f"/workflows/shop/runs/{run.id}")).text


async def test_a_page_of_a_run_that_there_is_not_says_so(pages: httpx.AsyncClient) -> None:
    page = await pages.get("/workflows/shop/runs/nope")

    assert page.status_code == 404
    assert "workflow shop has no run nope" in page.text


async def test_filters_that_mean_nothing_are_told_in_the_page(pages: httpx.AsyncClient) -> None:
    for query in ("status=lost", "since=yesterday", "since=2026-03-02T00:00&until=2026-03-01T00:00", "start_after=x"):
        page = await pages.get(f"/workflows/shop?{query}")

        assert page.status_code == 422
        assert 'role="alert"' in page.text
