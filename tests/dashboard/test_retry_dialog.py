"""The dialog that retries a run, the page of a step, and the attempts on a run's page: their words and fields."""

from datetime import datetime, timedelta
from typing import Any
from xml.etree.ElementTree import Element

import httpx
import pytest

from autopilot.core.steps.keys import key_digest
from autopilot.core.store import RunStart, StepRecord, StepTry, Store
from autopilot.models import RunAttempt, RunStatus, StepStatus
from autopilot.testing import ManualClock
from tests.api_client import ApiOver
from tests.dashboard.markup import find, find_all, number, parsed, text
from tests.http_workflows import Parcel
from tests.runs import MakeRun

pytestmark = pytest.mark.parametrize("store", ("sqlite in memory",), indirect=True)

KEPT = "All other recorded steps keep their results and do not run again."
NO_STEP = "No step failed this run, so no recorded step runs again."
ADDRESS_KEY = "send[https:%2F%2Fexample.com%2Fa%3Fb%0Ac]"


@pytest.fixture
def client(api_over: ApiOver, process_store: Store, clock: ManualClock) -> httpx.AsyncClient:
    return api_over(clock=clock)


@pytest.fixture
def seed(process_store: Store, make_run: MakeRun, clock: ManualClock) -> "Seed":
    return Seed(process_store, make_run, clock)


class Seed:
    """Writes runs of ``parcel`` as they ended."""

    def __init__(self, store: Store, make_run: MakeRun, clock: ManualClock) -> None:
        self._store = store
        self._make_run = make_run
        self.clock = clock

    def at(self, seconds: float) -> datetime:
        return self.clock.now() + timedelta(seconds=seconds)

    def step(self, key: str, begins: int, ends: int, status: str = "failed", **fields: Any) -> StepRecord:
        given: dict[str, Any] = {"attempt": 1, "tries": 1, "error_type": "OSError", "error": "full"}
        if status == "success":
            given |= {"error_type": None, "error": None, "result": "1"}
        times = {"started_at": self.at(begins), "ended_at": self.at(ends)}
        return StepRecord(key=key, status=StepStatus(status), **times | given | fields)

    async def run(self, records: list[StepRecord], again: list[str], **fields: Any) -> str:
        """A run with these records that a retry begins again at the steps with these keys; its path."""
        run = self._make_run(workflow_id="parcel", status=RunStatus.RUNNING, started_at=self.clock.now())
        start = RunStart(run=run, owner="o", incarnation="n", lease_duration=timedelta(hours=1))
        await self._store.start_run(start)
        for record in records:
            await self._store.record_step(start.lease, record, expires_at=self.at(86_400))
        ending = {"status": RunStatus.FAILED, "failed_steps": tuple(key_digest(key) for key in again), "error": "full"}
        await self._store.save_run(run.model_copy(update=ending | fields))
        return f"/workflows/parcel/runs/{run.id}"


async def read(client: httpx.AsyncClient, path: str) -> Element:
    return parsed(await client.get(path))


def retry_dialog(page: Element) -> Element:
    (dialog,) = [each for each in find_all(page, "dialog") if each.get("id") == "dialog-retry"]
    return dialog


def sentences(dialog: Element) -> list[str]:
    return [text(each) for each in find_all(dialog, "p")][:-1]


async def test_the_dialog_names_the_failed_step_and_what_ran_after_it(client: httpx.AsyncClient, seed: Seed) -> None:
    records = [
        seed.step("reserve", 0, 1, "success"),
        seed.step("charge", 1, 2),
        seed.step("cancel_order", 2, 3, "success"),
    ]

    dialog = retry_dialog(await read(client, await seed.run(records, ["charge", "cancel_order"])))

    assert sentences(dialog) == ["Runs again: charge, and cancel_order, which ran after it.", KEPT]
    assert find_all(dialog, "fieldset") == []


@pytest.mark.parametrize(
    ("failed", "expected"),
    (
        (2, "Runs again: load[0] and load[1]."),
        (3, "Runs again: load[0], load[1] and load[2]."),
        (14, f"Runs again: {', '.join(f'load[{number}]' for number in range(10))} and 4 more."),
    ),
)
async def test_several_steps_are_a_list_and_many_are_counted(
    client: httpx.AsyncClient, seed: Seed, failed: int, expected: str
) -> None:
    records = [seed.step(f"load[{number}]", 0, 9) for number in range(failed)]

    dialog = retry_dialog(await read(client, await seed.run(records, [record.key for record in records])))

    assert sentences(dialog) == [expected, KEPT]


@pytest.mark.parametrize(
    ("steps", "status", "expected"),
    (
        (0, "failed", "This run recorded no steps: the workflow's code runs again from its start."),
        (1, "failed", f"{NO_STEP} The workflow's own code runs again with their results."),
        (1, "cancelled", "No recorded step runs again: they keep their results, and the run continues from there."),
    ),
)
async def test_the_dialog_says_so_when_no_step_runs_again(
    client: httpx.AsyncClient, seed: Seed, steps: int, status: str, expected: str
) -> None:
    records = [seed.step("reserve", 0, 1, "success")] * steps

    dialog = retry_dialog(await read(client, await seed.run(records, [], status=RunStatus(status))))

    assert sentences(dialog) == [expected]


async def test_each_step_that_may_have_taken_effect_has_a_checkbox_of_its_own(
    client: httpx.AsyncClient, seed: Seed
) -> None:
    classes = ("autopilot.ResultInvalid", "autopilot.ResultError")
    records = [
        seed.step(ADDRESS_KEY, 0, 1, "interrupted"),
        seed.step("pay", 1, 2, error_type="ResultInvalid", error_classes=classes),
        seed.step("charge", 1, 2),
    ]

    dialog = retry_dialog(await read(client, await seed.run(records, [record.key for record in records])))

    assert text(find(dialog, "legend")) == "Check first whether these steps took effect"
    assert [text(each) for each in find_all(dialog, "label")] == [
        "Run send[https://example.com/a?b c] again: it was interrupted and may already have taken effect.",
        "Run pay again: it ran, but its result could not be recorded.",
    ]
    boxes = [each for each in find_all(dialog, "input") if each.get("type") == "checkbox"]
    assert [(box.get("value"), "required" in box.attrib, "checked" in box.attrib) for box in boxes] == [
        (ADDRESS_KEY, True, False),
        ("pay", True, False),
    ]


def fields_of(dialog: Element) -> dict[str, str]:
    return {each.attrib["name"]: each.get("value", "") for each in find_all(dialog, "input")}


async def test_without_its_confirmation_the_run_stays_and_the_page_says_why(
    client: httpx.AsyncClient, process_store: Store
) -> None:
    path = await an_interrupted_run(client)
    fields = fields_of(retry_dialog(await read(client, path)))
    unconfirmed = {name: value for name, value in fields.items() if value != "send"}

    refused = await client.post(f"{path}/retry", data=unconfirmed)
    begun = list(Parcel.begun)
    page = parsed(refused)
    confirmed = await client.post(f"{path}/retry", data=fields_of(retry_dialog(page)), follow_redirects=True)

    assert refused.status_code == 409
    assert text(find(page, "div", "notice")) == (
        "The run was not retried: a step may already have taken effect. Check whether it did, and confirm it."
    )
    assert "open" in retry_dialog(page).attrib
    assert begun == []
    assert Parcel.begun == ["send"]
    assert text(find(parsed(confirmed), "h1")) == "Success"


async def an_interrupted_run(client: httpx.AsyncClient) -> str:
    """A run whose step ``send`` was interrupted and would succeed now; its path."""
    Parcel.courier_is_late = True
    try:
        answer = await client.post("/api/v1/workflows/parcel/trigger", json={})
    finally:
        Parcel.courier_is_late = False
    Parcel.begun.clear()
    return f"/workflows/parcel/runs/{answer.json()['run_id']}"


async def test_the_dialog_is_closed_until_it_is_needed(client: httpx.AsyncClient, process_store: Store) -> None:
    page = await read(client, await an_interrupted_run(client))

    assert [dialog.get("open") for dialog in find_all(page, "dialog")] == [None] * 3


async def test_a_steps_page_shows_every_try(client: httpx.AsyncClient, seed: Seed) -> None:
    tries = (
        StepTry(started_at=seed.at(0), ended_at=seed.at(2), error_type="OSError", error="the line is busy"),
        StepTry(started_at=seed.at(5), ended_at=seed.at(5.5), error_type="ValueError", error=""),
        StepTry(started_at=seed.at(10), ended_at=seed.at(11)),
    )
    path = await seed.run([seed.step("charge", 0, 11, "success", tries=5, history=tries)], [])

    page = await read(client, f"{path}/step?key=charge")

    assert "11 s · attempt 1 · 5 tries" in text(find(page, "div", "page-head"))
    shown = find_all(find(page, "ol", "tries"), "li")
    assert [text(find(each, "span", "number")) for each in shown] == ["2.0 s", "500 ms", "1.0 s"]
    assert [[text(error) for error in find_all(each, "pre")] for each in shown] == [
        ["OSError the line is busy"],
        ["ValueError"],
        [],
    ]
    assert "2 more tries not listed" in text(page)


async def test_a_step_that_succeeded_at_once_has_no_list_of_tries(client: httpx.AsyncClient, seed: Seed) -> None:
    tries = (StepTry(started_at=seed.at(0), ended_at=seed.at(1)),)
    path = await seed.run([seed.step("charge", 0, 1, "success", history=tries)], [])

    assert find_all(await read(client, f"{path}/step?key=charge"), "ol", "tries") == []


async def test_the_timeline_draws_each_try_and_names_the_time_of_all(client: httpx.AsyncClient, seed: Seed) -> None:
    tries = (
        StepTry(started_at=seed.at(0), ended_at=seed.at(1), error_type="OSError", error="busy"),
        StepTry(started_at=seed.at(8), ended_at=seed.at(10)),
    )
    step = seed.step("charge", 0, 10, "success", tries=2, history=tries)

    page = await read(client, await seed.run([step], [], completed_at=seed.at(10)))

    (row,) = find_all(page, "details", "lane-box")
    assert [(number(bar, "x"), number(bar, "width")) for bar in find_all(row, "rect", "try-bar")] == [
        pytest.approx((0, 10), abs=0.3),
        pytest.approx((80, 20), abs=0.3),
    ]
    assert text(find(row, "span", "lane-time")) == "10 s"


@pytest.mark.parametrize("key", (f"send[{'%2F' * 1_500}]", "send[%1B]", "send[<b>]", ADDRESS_KEY))
async def test_every_key_leads_to_the_page_of_its_step(client: httpx.AsyncClient, seed: Seed, key: str) -> None:
    path = await seed.run([seed.step(key, 0, 1)], [key])
    run_page = await read(client, path)
    (row,) = find_all(run_page, "details", "lane-box")
    (link,) = [each.attrib["href"] for each in find_all(row, "a")]

    page = await client.get(f"/{link.lstrip('./')}")

    shown = key.replace("%2F", "/").replace("%3F", "?").replace("%0A", "\n").replace("%1B", r"\x1b")
    assert len(link) < 200
    assert page.status_code == 200
    assert "".join(find(parsed(page), "h1").itertext()) == shown
    assert find(row, "span", "lane-name").get("title") == shown
    assert [each.get("href") for each in find_all(find(run_page, "section", "failure"), "a")] == [f"#{row.get('id')}"]


async def test_a_cancelled_run_had_as_many_attempts_as_worked_on_it(
    client: httpx.AsyncClient, process_store: Store, make_run: MakeRun, seed: Seed
) -> None:
    first = RunAttempt(number=1, started_at=seed.at(0), ended_at=seed.at(2), ending=RunStatus.CANCELLED)
    cancelled = make_run(workflow_id="parcel", status=RunStatus.CANCELLED, attempt=2, attempts=(first,))
    await process_store.save_run(cancelled)
    third = RunAttempt(number=3, started_at=seed.at(60))
    await process_store.save_run(
        make_run(workflow_id="parcel", status=RunStatus.RUNNING, attempt=3, attempts=(first, third))
    )

    page = await read(client, f"/workflows/parcel/runs/{cancelled.id}")
    listed = await read(client, "/runs")

    facts = {text(find(each, "dt")): text(find(each, "dd")) for each in find_all(find(page, "dl", "facts"), "div")}
    assert facts["Attempts"] == "1"
    assert "ttempt 2" not in text(page)
    assert [[text(tag) for tag in find_all(row, "span", "tag")] for row in find_all(listed, "tr")[1:]] == [
        ["2 attempts"],
        [],
    ]
