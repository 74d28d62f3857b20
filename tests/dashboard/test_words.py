"""The words, times and numbers on the pages: stated here, and not taken from the code."""

import re
from datetime import datetime, timedelta
from typing import Any
from xml.etree.ElementTree import Element

import httpx
import pytest

from autopilot.api.app import create_context
from autopilot.core.steps.keys import key_digest
from autopilot.core.store import Lease, RunStart, StepRecord, Store
from autopilot.dashboard.app import create_app
from autopilot.models import RunAttempt, RunStatus, StepStatus, TriggerType
from autopilot.settings import load_settings
from autopilot.testing import ManualClock
from tests.api_client import ApiOver
from tests.dashboard.markup import find, find_all, number, parsed, status_of, text
from tests.runs import MakeRun

pytestmark = pytest.mark.parametrize("store", ("sqlite in memory",), indirect=True)

STATUSES = ("pending", "running", "paused", "sleeping", "success", "failed", "skipped", "cancelled")


@pytest.fixture
def client(api_over: ApiOver, process_store: Store, clock: ManualClock) -> httpx.AsyncClient:
    return api_over(clock=clock)


async def read(client: httpx.AsyncClient, path: str, status: int = 200) -> Element:
    page = await client.get(path)
    assert page.status_code == status, page.text
    return parsed(page)


def texts(within: Element, tag: str, class_name: str | None = None) -> list[str]:
    return [text(each) for each in find_all(within, tag, class_name)]


def rows(page: Element) -> list[Element]:
    return find_all(find(page, "table", "runs"), "tr")[1:]


# Statuses


@pytest.mark.parametrize("status", STATUSES)
async def test_a_status_has_its_own_word_and_mark_in_lists_and_on_its_run(
    client: httpx.AsyncClient, process_store: Store, make_run: MakeRun, status: str
) -> None:
    run = make_run(workflow_id="shop", status=status)
    await process_store.save_run(run)

    listed = await read(client, "/runs")
    shown = await read(client, f"/workflows/shop/runs/{run.id}")
    only = await read(client, f"/runs?status={status}")

    (row,) = rows(listed)
    assert (text(find(row, "span", "badge")), status_of(row)) == (status, status)
    assert text(find(shown, "h1")) == status.capitalize()
    assert len(rows(only)) == 1


async def test_every_status_looks_different_without_colour(
    client: httpx.AsyncClient, process_store: Store, make_run: MakeRun
) -> None:
    for status in STATUSES:
        await process_store.save_run(make_run(workflow_id="shop", status=status))

    icons = [find(find(row, "span", "badge"), "svg") for row in rows(await read(client, "/runs"))]

    assert len({tuple((part.tag, *sorted(part.attrib.items())) for part in icon) for icon in icons}) == len(STATUSES)


def an_attempt(number: int, started_at: datetime, **fields: Any) -> RunAttempt:
    return RunAttempt(number=number, started_at=started_at, **fields)


async def test_every_ending_of_an_attempt_has_its_own_words(
    client: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    def at(seconds: int) -> datetime:
        return clock.now() + timedelta(seconds=seconds)

    run = make_run(
        workflow_id="shop",
        status=RunStatus.SUCCESS,
        attempt=7,
        started_at=at(0),
        completed_at=at(70),
        attempts=(
            an_attempt(1, at(0), ended_at=at(5), ending="released"),
            an_attempt(2, at(10)),
            an_attempt(3, at(20), ended_at=at(25), ending=RunStatus.FAILED),
            an_attempt(4, at(30), ended_at=at(35), ending=RunStatus.CANCELLED),
            an_attempt(5, at(40), ended_at=at(45), ending=RunStatus.PAUSED),
            an_attempt(6, at(50), ended_at=at(55), ending=RunStatus.SLEEPING),
            an_attempt(7, at(60), ended_at=at(70), ending=RunStatus.SUCCESS),
        ),
    )
    await process_store.save_run(run)

    page = await read(client, f"/workflows/shop/runs/{run.id}")
    detail = (await client.get(f"/api/v1/workflows/shop/runs/{run.id}")).json()

    endings = ["released", "cut off", "failed", "cancelled", "paused", "sleeping", "success"]
    lanes = find_all(page, "div", "attempt")
    assert [text(find(lane, "span", "lane-time")) for lane in lanes] == endings
    assert [find(lane, "svg").attrib["aria-label"] for lane in lanes] == [
        f"Attempt {number}: {ending}" for number, ending in enumerate(endings, 1)
    ]
    assert [attempt["outcome"] for attempt in detail["attempts"]] == endings
    assert [status_of(lane) for lane in lanes] == ["released", "cut-off", *endings[2:]]


async def test_the_last_attempt_of_a_running_run_is_running(
    client: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    run = make_run(workflow_id="shop", status=RunStatus.RUNNING, attempts=(an_attempt(1, clock.now()),))
    await process_store.save_run(run)

    page = await read(client, f"/workflows/shop/runs/{run.id}")

    assert text(find(find(page, "div", "attempt"), "span", "lane-time")) == "running"
    assert text(find(find(page, "div", "in-progress"), "span", "lane-name")) == "In progress"


# The timeline


async def a_run_with_steps(store: Store, make_run: MakeRun, clock: ManualClock) -> str:
    """Ten seconds: one step from 0 to 2, failed ones from 2 to 3 and 4 to 10; gives its path."""
    began = clock.now()
    run = make_run(workflow_id="shop", status=RunStatus.RUNNING, started_at=began)
    await store.start_run(RunStart(run=run, owner="o", incarnation="n", lease_duration=timedelta(hours=1)))
    lease = Lease(workflow_id="shop", run_id=run.id, attempt=1, owner="o", incarnation="n")
    for key, start, end, status in (
        ("find", 0, 2, StepStatus.SUCCESS),
        ("pay", 2, 3, StepStatus.INTERRUPTED),
        ("load", 4, 10, StepStatus.FAILED),
    ):
        record = StepRecord(
            key=key,
            status=status,
            attempt=1,
            tries=2 if key == "load" else 1,
            started_at=began + timedelta(seconds=start),
            ended_at=began + timedelta(seconds=end),
            result="1" if status is StepStatus.SUCCESS else None,
        )
        await store.record_step(lease, record, expires_at=began + timedelta(days=1))
    clock.advance(timedelta(seconds=10))
    end_of_run: dict[str, Any] = {"status": RunStatus.FAILED, "completed_at": clock.now(), "error": "the disk is full"}
    end_of_run["failed_steps"] = (key_digest("load"),)
    await store.save_run(run.model_copy(update=end_of_run))
    return f"/workflows/shop/runs/{run.id}"


async def test_steps_lie_on_the_time_they_took(
    client: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    timeline = find(await read(client, await a_run_with_steps(process_store, make_run, clock)), "section", "timeline")

    steps = find_all(timeline, "details", "lane-box")
    bars = [find(step, "rect", "step-bar") for step in steps]
    assert [text(find(step, "span", "step-key")) for step in steps] == ["find", "pay", "load"]
    assert [(number(bar, "x"), number(bar, "width")) for bar in bars] == [
        pytest.approx((0, 20), abs=0.3),
        pytest.approx((20, 10), abs=0.3),
        pytest.approx((40, 60), abs=0.3),
    ]
    assert texts(timeline, "span", "number") == ["2.0 s", "1.0 s", "6.0 s"]
    ticks = [(number(tick, "x"), text(tick)) for tick in find_all(timeline, "text")]
    assert ticks == [(0, "0"), (25, "2.5 s"), (50, "5.0 s"), (75, "7.5 s"), (100, "10 s")]


async def test_every_status_of_a_step_has_its_own_word(
    client: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    page = await read(client, await a_run_with_steps(process_store, make_run, clock))

    steps = find_all(page, "details", "lane-box")
    assert [status_of(step) for step in steps] == ["success", "interrupted", "failed"]
    assert [text(find(step, "span", "hidden")) for step in steps] == ["success:", "interrupted:", "failed:"]
    assert [texts(step, "span", "tag") for step in steps] == [[], [], ["2 tries"]]
    assert text(find(find(page, "section", "failure"), "h2")) == "Failed at step load"


# Filters by time


@pytest.mark.parametrize(
    ("filters", "expected"),
    (
        ({}, ["run-0003", "run-0002", "run-0001"]),
        ({"since": "2026-03-01T12:00:02"}, ["run-0003", "run-0002"]),
        ({"until": "2026-03-01T12:00:02"}, ["run-0001"]),
        ({"since": "2026-03-01T12:00:02", "until": "2026-03-01T12:00:03"}, ["run-0002"]),
        ({"since": "2026-03-01T13:00:02+01:00", "until": "2026-03-01T13:00:03+01:00"}, ["run-0002"]),
        ({"trigger": "manual"}, ["run-0002"]),
    ),
)
@pytest.mark.parametrize("path", ("/runs", "/workflows/shop"))
async def test_a_page_shows_the_runs_of_the_time_that_is_asked_for(
    client: httpx.AsyncClient,
    process_store: Store,
    make_run: MakeRun,
    *,
    path: str,
    filters: dict[str, str],
    expected: list[str],
) -> None:
    for trigger in (TriggerType.HTTP, TriggerType.MANUAL, TriggerType.HTTP):
        await process_store.save_run(make_run(workflow_id="shop", trigger_type=trigger))

    page = parsed(await client.get(path, params=filters))

    assert [text(find(row, "code")) for row in rows(page)] == expected


@pytest.mark.parametrize("until", ("2026-03-01T12:00", "2026-03-01T11:59"))
@pytest.mark.parametrize("path", ("/runs", "/workflows/shop"))
async def test_a_time_that_ends_before_it_begins_is_refused_on_a_page(
    client: httpx.AsyncClient, path: str, until: str
) -> None:
    page = await read(client, f"{path}?since=2026-03-01T12:00&until={until}", 422)

    assert text(find(page, "div", "notice")) == "until: it must be after since"


async def test_the_times_that_were_chosen_stay_in_the_form(client: httpx.AsyncClient) -> None:
    form = find(await read(client, "/runs?since=2026-03-01T12:00&until=2026-03-02T12:30"), "form", "filters")

    values = {field.attrib["name"]: field.attrib["value"] for field in find_all(form, "input")}
    assert values == {"since": "2026-03-01T12:00", "until": "2026-03-02T12:30"}


# Times and numbers


@pytest.mark.parametrize(
    ("ago", "words"),
    (
        (timedelta(seconds=3), "just now"),
        (timedelta(seconds=59), "59 s ago"),
        (timedelta(minutes=3, seconds=59), "3 min ago"),
        (timedelta(hours=5), "5 h ago"),
        (timedelta(days=12), "12 d ago"),
    ),
)
async def test_a_time_is_relative_and_exact_on_hover(
    client: httpx.AsyncClient,
    process_store: Store,
    make_run: MakeRun,
    clock: ManualClock,
    *,
    ago: timedelta,
    words: str,
) -> None:
    await process_store.save_run(make_run(workflow_id="shop", started_at=datetime.fromisoformat("2026-02-01T08:30Z")))
    clock.jump(datetime.fromisoformat("2026-02-01T08:30Z") + ago)

    (row,) = rows(await read(client, "/runs"))

    assert text(find(row, "time")) == words
    assert find(row, "time").attrib["title"] == "2026-02-01 08:30:00 UTC"


async def test_a_next_run_lies_ahead(client: httpx.AsyncClient, clock: ManualClock) -> None:
    clock.advance(timedelta(minutes=20))

    overview = await read(client, "/")
    workflow = await read(client, "/workflows/counting")

    assert texts(overview, "span", "tick") == ["in 40 min 0 * * * *"]
    assert text(find(workflow, "div", "wide")) == "in 40 min hourly 0 * * * * Etc/UTC Next run"


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    ((0, "<1 ms"), (840, "840 ms"), (2_400, "2.4 s"), (185_000, "3 min 5 s"), (7_260_000, "2 h 1 min"), (None, "–")),  # noqa: RUF001
)
async def test_a_duration_has_a_unit(
    client: httpx.AsyncClient, process_store: Store, make_run: MakeRun, milliseconds: int | None, words: str
) -> None:
    await process_store.save_run(make_run(workflow_id="shop", duration_ms=milliseconds))

    (row,) = rows(await read(client, "/runs"))

    assert text(find(row, "span", "length")) == words


async def test_a_size_has_a_unit(
    client: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    path = await a_run_with_steps(process_store, make_run, clock)

    assert texts(await read(client, f"{path}/step?key=find"), "span", "small") == ["1 B"]


# Empty states


async def test_without_workflows_the_first_page_says_how_one_is_defined(process_store: Store) -> None:
    app: Any = create_app(create_context([], load_settings({})))
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")

    empty = text(find(await read(client, "/"), "div", "empty"))

    assert empty.startswith("No workflows")
    assert 'uptime_check = entry_point("functions.uptime_check:UptimeCheck")' in empty


async def test_without_runs_every_part_of_a_page_says_so(client: httpx.AsyncClient) -> None:
    overview = await read(client, "/")
    workflow = await read(client, "/workflows/shop")
    runs = await read(client, "/runs")

    (shop,) = [card for card in find_all(overview, "article", "card") if text(find(card, "h2")) == "The shop"]
    assert [text(cell) for cell in find_all(shop, "div", "cell")] == [
        "Latest runs No runs yet.",
        "Success–of 0 runs",  # noqa: RUF001
        "p50, 14 daysNo durations yet.",
        "Next runOn demand",
    ]
    assert find_all(overview, "section", "attention") == []
    assert texts(workflow, "p", "chart-empty") == ["No runs ended in the last 7d.", "No durations in the last 7d."]
    assert text(find(workflow, "p", "empty-title")) == text(find(runs, "p", "empty-title")) == "No runs yet"
    assert find_all(workflow, "svg", "chart")[0].attrib["aria-label"] == "Runs that ended in the last 7d: none."


async def test_filters_that_no_run_matches_can_be_cleared(client: httpx.AsyncClient) -> None:
    empty = find(await read(client, "/workflows/shop?status=failed&window=30d"), "div", "empty")

    assert text(find(empty, "p", "empty-title")) == "No runs match"
    assert text(find(empty, "a")) == "clear the filters"
    assert find(empty, "a").attrib["href"] == "shop"


@pytest.mark.parametrize(
    ("status", "words"), (("success", "This run recorded no steps."), ("paused", "No steps recorded yet."))
)
async def test_a_run_without_steps_says_so(
    client: httpx.AsyncClient, process_store: Store, make_run: MakeRun, status: str, words: str
) -> None:
    run = make_run(workflow_id="shop", status=status)
    await process_store.save_run(run)

    assert texts(await read(client, f"/workflows/shop/runs/{run.id}"), "p", "lanes-empty") == [words]


async def test_what_needs_attention_is_what_failed_today_and_what_waits_for_a_person(
    client: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    for status, hours, words in (
        (RunStatus.FAILED, 1, "out of tea"),
        (RunStatus.FAILED, 25, "long ago"),
        (RunStatus.SUCCESS, 1, None),
    ):
        started_at = clock.now() - timedelta(hours=hours)
        await process_store.save_run(make_run(workflow_id="shop", status=status, started_at=started_at, error=words))
    await process_store.save_run(
        make_run(workflow_id="shop", status=RunStatus.PAUSED, started_at=clock.now(), waiting_for="signal:approval")
    )

    attention = find(await read(client, "/"), "section", "attention")

    assert text(find(attention, "h2")) == "Needs attention"
    assert [re.sub(r"\s", " ", text(item)) for item in find_all(attention, "li")] == [
        "The shop paused: waiting for signal:approvaljust now",
        "The shop failed: out of tea1 h ago",
    ]
