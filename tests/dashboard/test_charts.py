"""The charts as the pages draw them: in SVG ``y`` grows downwards, so that higher is less."""

import re
from datetime import datetime, timedelta
from itertools import pairwise
from xml.etree.ElementTree import Element

import httpx
import pytest

from autopilot.core.store import Store
from autopilot.models import RunStatus
from autopilot.testing import ManualClock
from tests.api_client import ApiOver
from tests.dashboard.markup import find, find_all, number, parsed, points, status_of, text
from tests.runs import MakeRun

pytestmark = pytest.mark.parametrize("store", ("sqlite in memory",), indirect=True)

SUCCESSES = [1, 2, 3, 5, 8, 4]
"""Runs of each hour, from 06:00 to 12:00."""

MILLISECONDS = [1000, 200, 4000, 500, 8000, 2000]
"""What each run of the hour took."""


@pytest.fixture
def client(api_over: ApiOver, process_store: Store, clock: ManualClock) -> httpx.AsyncClient:
    return api_over(clock=clock)


async def save(store: Store, make_run: MakeRun, ended_at: datetime, milliseconds: int, **fields: object) -> str:
    started_at = ended_at - timedelta(milliseconds=milliseconds)
    run = make_run(workflow_id="shop", started_at=started_at, completed_at=ended_at, duration_ms=milliseconds, **fields)
    await store.save_run(run)
    return str(run.id)


@pytest.fixture
async def charts(
    client: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock
) -> list[Element]:
    """The charts of a workflow's last 6 hours, of 24 shown: outcomes and durations."""
    first = clock.now().replace(minute=30) - timedelta(hours=6)
    for hour, (successes, milliseconds) in enumerate(zip(SUCCESSES, MILLISECONDS, strict=True)):
        ended_at = first + timedelta(hours=hour)
        for _ in range(successes):
            await save(process_store, make_run, ended_at, milliseconds)
    for status, hours in ((RunStatus.FAILED, 1), (RunStatus.CANCELLED, 2), (RunStatus.SKIPPED, 3)):
        await save(process_store, make_run, first + timedelta(hours=hours), MILLISECONDS[hours], status=status)
    return find_all(parsed(await client.get("/workflows/shop?window=24h")), "svg", "chart")


def bars_of(chart: Element) -> list[tuple[str, list[Element]]]:
    """The title and the parts of each bar."""
    return [(text(find(bar, "title")), find_all(bar, "rect", "bar")) for bar in find_all(chart, "g")]


def scale_of(chart: Element) -> list[tuple[float, str]]:
    """Where the lines of the scale are, and what stands beside them."""
    lines = [float(path.attrib["d"].split("h")[0].removeprefix("M0 ")) for path in find_all(chart, "path", "grid")]
    labels = [each for each in find_all(chart, "text", "scale") if number(each, "x") < 0]
    assert [number(label, "y") for label in labels] == [pytest.approx(line + 4, abs=1) for line in lines]
    return list(zip(lines, map(text, labels), strict=True))


def ground_of(chart: Element) -> float:
    return float(find(chart, "path", "ground").attrib["d"].split("h")[0].removeprefix("M0 "))


def times_of(chart: Element) -> list[tuple[float, str]]:
    return [(number(each, "x"), text(each)) for each in find_all(chart, "text", "scale") if number(each, "x") > 0]


async def test_bars_stand_on_the_ground_and_are_as_high_as_the_scale_says(charts: list[Element]) -> None:
    chart = charts[0]
    ground = ground_of(chart)
    ((_, half), (top, most)) = scale_of(chart)

    assert top < ground
    assert (half, most) == ("5", "10")
    runs = []
    for _, parts in bars_of(chart):
        assert max(number(part, "y") + number(part, "height") for part in parts) == pytest.approx(ground, abs=0.2)
        runs.append((ground - min(number(part, "y") for part in parts)) / (ground - top) * float(most))
    assert runs == pytest.approx([1, 3, 4, 6, 8, 4], abs=0.05)


async def test_the_parts_of_a_bar_lie_on_one_another_and_failures_on_top(charts: list[Element]) -> None:
    parts = [bar for _, bar in bars_of(charts[0])]

    assert [[status_of(part) for part in bar] for bar in parts] == [
        ["success"],
        ["success", "failed"],
        ["success", "cancelled"],
        ["success", "skipped"],
        ["success"],
        ["success"],
    ]
    for bar in parts:
        for lower, upper in pairwise(bar):
            assert number(upper, "y") + number(upper, "height") == pytest.approx(number(lower, "y"), abs=0.2)


async def test_bars_go_with_time_and_say_what_they_count(charts: list[Element]) -> None:
    titles = [title for title, _ in bars_of(charts[0])]
    places = [number(parts[0], "x") for _, parts in bars_of(charts[0])]

    assert places == sorted(places)
    assert [title.split(" UTC: ")[0] for title in titles] == [f"Sun 01 Mar, {hour:02}:00" for hour in range(6, 12)]
    counts = [set(re.findall(r"\d+ [a-z]{5,}", title)) for title in titles]
    assert counts[:4] == [
        {"1 success"},
        {"2 success", "1 failed"},
        {"3 success", "1 cancelled"},
        {"5 success", "1 skipped"},
    ]


@pytest.mark.parametrize("which", (0, 1))
async def test_the_times_below_a_chart_ascend_and_belong_to_what_stands_above_them(
    charts: list[Element], which: int
) -> None:
    times = times_of(charts[which])
    above = {
        title.partition(", ")[2][:5]: (number(bar[0], "x"), number(bar[0], "width"))
        for title, bar in bars_of(charts[0])
    }

    assert [place for place, _ in times] == sorted(place for place, _ in times)
    assert [time for _, time in times] == ["15:00", "19:00", "23:00", "03:00", "07:00", "11:00"]
    for place, time in times[-2:]:
        left, width = above[time]
        assert left < place < left + width


async def test_durations_are_as_high_as_the_scale_says_and_the_line_goes_through_them(charts: list[Element]) -> None:
    chart = charts[1]
    ground = ground_of(chart)
    ((_, half), (top, most)) = scale_of(chart)
    dots = [(number(dot, "cx"), number(dot, "cy")) for dot in find_all(chart, "circle", "end")]

    assert (half, most) == ("5.0 s", "10 s")
    shown = [(ground - y) / (ground - top) * 10_000 for _, y in dots]
    assert shown == pytest.approx(MILLISECONDS, rel=0.08)
    assert dots == sorted(dots)
    assert points(find(chart, "path", "line")) == dots


async def test_the_slow_end_lies_above_the_middle(
    client: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    for milliseconds in [100] * 10 + [1000]:
        await save(process_store, make_run, clock.now() - timedelta(minutes=5), milliseconds)

    chart = find_all(parsed(await client.get("/workflows/shop?window=24h")), "svg", "chart")[1]

    (whisker,) = find_all(chart, "path", "whisker")
    slow, middle = map(float, re.findall(r" ([\d.]+)V([\d.]+)", whisker.attrib["d"])[0])
    assert slow < middle
    assert middle == pytest.approx(number(find(chart, "circle", "end"), "cy"))
    (title,) = [text(each) for each in find_all(chart, "title")]
    assert re.search(r"11 success; p50 (9\d|10\d) ms, p95 (9\d\d ms|1\.0 s), max (9\d\d ms|1\.0 s)$", title)


async def test_a_chart_of_days_names_days(client: httpx.AsyncClient, process_store: Store, make_run: MakeRun) -> None:
    for window, days in (
        ("7d", ["23 Feb", "24 Feb", "25 Feb", "26 Feb", "27 Feb", "28 Feb", "01 Mar"]),
        ("30d", ["02 Feb", "07 Feb", "12 Feb", "17 Feb", "22 Feb", "27 Feb"]),
    ):
        chart = find(parsed(await client.get(f"/workflows/shop?window={window}")), "svg", "chart")
        shown = [time for _, time in times_of(chart)]
        assert shown == [day for day in days if day in shown]
        assert len(shown) >= 3


@pytest.fixture
async def overview(
    client: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock
) -> dict[str, Element]:
    """The cards of the first page, by their titles; the shop was fast, slow, and then in between."""
    for days, milliseconds, status in (
        (3, 100, RunStatus.SUCCESS),
        (2, 9000, RunStatus.FAILED),
        (1, 3000, RunStatus.SUCCESS),
        (0, 3000, RunStatus.SUCCESS),
    ):
        ended_at = clock.now() - timedelta(days=days, minutes=1)
        await save(process_store, make_run, ended_at, milliseconds, status=status)
    return {text(find(card, "h2")): card for card in find_all(parsed(await client.get("/")), "article", "card")}


async def test_the_trend_rises_when_runs_get_slower_and_ends_with_the_latest(overview: dict[str, Element]) -> None:
    trend = find(overview["The shop"], "span", "trend")

    path = points(find(trend, "path", "line"))
    assert [x for x, _ in path] == sorted(x for x, _ in path)
    fast, slow, between, latest = (y for _, y in path)
    assert slow < between < fast
    assert latest == between
    end = find(trend, "circle", "end")
    assert (number(end, "cx"), number(end, "cy")) == path[-1]
    assert re.fullmatch(r"(2\.[89]|3\.[012]) s", text(find(trend, "span", "number")))


async def test_the_strip_has_the_latest_run_on_the_right_and_slower_runs_higher(overview: dict[str, Element]) -> None:
    strip = find(overview["The shop"], "span", "strip")
    ground = float(find(strip, "path", "ground").attrib["d"].split("h")[0].removeprefix("M0 "))
    runs = find_all(strip, "a")
    bars = [find(run, "rect", "bar") for run in runs]

    assert [number(bar, "x") for bar in bars] == sorted(number(bar, "x") for bar in bars)
    days = [re.findall(r"2026-\d\d-\d\d", text(find(run, "title")))[0] for run in runs]
    assert days == ["2026-02-26", "2026-02-27", "2026-02-28", "2026-03-01"]
    assert [status_of(run) for run in runs] == ["success", "failed", "success", "success"]
    assert all(number(bar, "y") + number(bar, "height") == pytest.approx(ground, abs=1) for bar in bars)
    fast, slow, between, latest = (number(bar, "height") for bar in bars)
    assert fast < between == latest < slow
    assert [len(find_all(run, "path", "mark")) for run in runs] == [0, 1, 0, 0]
    assert text(find(strip, "span", "hidden")) == "Last 4 runs: 3 success, 1 failed."


async def test_the_ring_is_as_full_as_the_success_rate(overview: dict[str, Element]) -> None:
    rate = find(overview["The shop"], "span", "rate")

    assert find(rate, "circle", "front").attrib["stroke-dasharray"] == "75.0 100"
    assert text(rate) == "75.0 %of 4 runs"


async def test_the_bar_of_a_run_in_a_list_is_as_long_as_the_run_was(
    client: httpx.AsyncClient, overview: dict[str, Element]
) -> None:
    rows = find_all(find(parsed(await client.get("/workflows/shop")), "table", "runs"), "tr")[1:]

    lengths = [number(find(find(row, "span", "length"), "rect"), "width") for row in rows]
    assert lengths == pytest.approx([33.3, 33.3, 100, 1.5], abs=0.1)
    assert [text(find(row, "span", "number")) for row in rows] == ["3.0 s", "3.0 s", "9.0 s", "100 ms"]
