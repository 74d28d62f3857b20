"""A person's retry over API v1: the plan beforehand, the confirmation it needs, and the tries that led to it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from autopilot.core.steps.keys import key_digest
from autopilot.core.store import RunStart, StepRecord, StepTry, Store
from autopilot.models import RunAttempt, RunStatus, StepStatus
from autopilot.testing import ManualClock
from tests.functions_by_name import FunctionsTransport
from tests.functions_in_process import assert_error
from tests.http_workflows import Parcel
from tests.runs import MakeRun

pytestmark = pytest.mark.parametrize(
    "store", ("sqlite", pytest.param("firestore", marks=pytest.mark.emulator)), indirect=True
)

ADDRESS = "https://example.com/parcels?to=Zürich"


@pytest.fixture(autouse=True)
def courier() -> Iterator[None]:
    Parcel.begun.clear()
    yield
    Parcel.card_is_declined = Parcel.courier_is_late = False


async def trigger(api: httpx.AsyncClient, payload: dict[str, Any] | None = None) -> str:
    """Start a run of ``parcel`` and return its path."""
    answer = await api.post("/workflows/parcel/trigger", json=payload or {})
    return f"/workflows/parcel/runs/{answer.json()['run_id']}"


async def detail_of(api: httpx.AsyncClient, path: str) -> dict[str, Any]:
    detail: dict[str, Any] = (await api.get(path)).json()
    return detail


async def test_a_run_names_the_steps_that_a_retry_begins_again(api: httpx.AsyncClient) -> None:
    Parcel.card_is_declined = True
    path = await trigger(api)
    before = await detail_of(api, path)
    Parcel.card_is_declined = False
    Parcel.begun.clear()

    answer = await api.post(f"{path}/retry")

    assert before["retry"] == {"begins_again": ["charge", "cancel_order"], "after": ["cancel_order"], "interrupted": []}
    assert before["failed_step"] == "charge"
    assert (answer.status_code, answer.json()["status"]) == (200, "success")
    assert Parcel.begun == ["charge", "send"]


async def test_a_run_that_succeeded_has_nothing_to_retry(api: httpx.AsyncClient) -> None:
    assert (await detail_of(api, await trigger(api)))["retry"] is None


async def test_a_run_whose_own_code_failed_begins_no_recorded_step_again(api: httpx.AsyncClient) -> None:
    answer = await api.post("/workflows/shop/trigger", json={"item": "nothing"})

    detail = await detail_of(api, f"/workflows/shop/runs/{answer.json()['run_id']}")

    assert detail["retry"] == {"begins_again": [], "after": [], "interrupted": []}
    assert detail["failed_step"] is None


async def test_an_interrupted_step_begins_again_only_when_it_is_confirmed(
    api: httpx.AsyncClient, functions: FunctionsTransport
) -> None:
    Parcel.courier_is_late = True
    path = await trigger(api)
    run_id = path.rpartition("/")[2]
    Parcel.courier_is_late = False
    Parcel.begun.clear()

    plan = (await detail_of(api, path))["retry"]
    refused = assert_error(await api.post(f"{path}/retry"), 409, "steps_interrupted")
    others = assert_error(await api.post(f"{path}/retry", json={"again_interrupted": ["x"]}), 409, "steps_interrupted")
    begun_until_then = list(Parcel.begun)
    confirmed = await api.post(f"{path}/retry", json={"again_interrupted": ["send"]})

    assert plan == {"begins_again": ["send"], "after": [], "interrupted": ["send"]}
    assert refused["details"] == {"run_id": run_id, "steps": ["send"]}
    assert others == refused
    assert begun_until_then == []
    assert (confirmed.status_code, confirmed.json()["status"]) == (200, "success")
    assert Parcel.begun == ["send"]
    assert functions.requests[-1].content == b'{"again_interrupted": ["send"]}'


async def test_an_address_as_a_key_is_confirmed_as_people_read_it(api: httpx.AsyncClient) -> None:
    Parcel.courier_is_late = True
    path = await trigger(api, {"to": ADDRESS})
    Parcel.courier_is_late = False
    detail = await detail_of(api, path)
    step = detail["steps"][-1]

    answer = await api.post(f"{path}/retry", json={"again_interrupted": [f"send[{ADDRESS}]"]})

    assert detail["retry"]["interrupted"] == [f"send[{ADDRESS}]"]
    assert step["key"] == "send[https:%2F%2Fexample.com%2Fparcels?to=Z%C3%BCrich]"
    assert step["readable_key"] == f"send[{ADDRESS}]"
    assert answer.json()["status"] == "success"


@pytest.mark.parametrize("size", (1, 1_500))
async def test_a_step_is_found_by_its_id_its_key_and_its_readable_key(api: httpx.AsyncClient, size: int) -> None:
    path = await trigger(api, {"to": "/" * size})
    listed = (await detail_of(api, path))["steps"][-1]

    found = [
        (await api.get(f"{path}/step", params={"key": key})).json()
        for key in (listed["id"], f"send[{'%2F' * size}]", f"send[{'/' * size}]")
    ]

    assert [step["id"] for step in found] == [listed["id"]] * 3
    assert found[0]["result"] == "done"
    assert len(listed["id"]) == 24
    assert_error(await api.get(f"{path}/step", params={"key": "send"}), 404, "step_not_found")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    (
        (b"[]", 400, "invalid_retry"),
        (b'{"again_interrupted": "send"}', 400, "invalid_retry"),
        (b'{"again": ["send"]}', 400, "invalid_retry"),
        (b"{", 400, "invalid_json"),
        (b'"' + b"x" * 300_000 + b'"', 413, "payload_too_large"),
    ),
)
async def test_a_retry_with_another_body_is_refused_and_calls_no_function(
    api: httpx.AsyncClient, functions: FunctionsTransport, body: bytes, status: int, code: str
) -> None:
    path = await trigger(api)
    functions.requests.clear()

    answer = await api.post(f"{path}/retry", content=body, headers={"Content-Type": "application/json"})

    assert_error(answer, status, code)
    assert functions.requests == []


async def test_the_document_describes_the_confirmation(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()

    retry = document["paths"]["/workflows/{name}/runs/{run_id}/retry"]["post"]
    body = retry["requestBody"]["content"]["application/json"]
    assert body["example"] == {"again_interrupted": ["pay"]}
    assert not retry["requestBody"].get("required", False)
    assert {"400", "409", "413", "415"} <= set(retry["responses"])


async def test_every_try_of_a_step_is_told(api: httpx.AsyncClient) -> None:
    Parcel.card_is_declined = True

    steps = {step["key"]: step for step in (await detail_of(api, await trigger(api)))["steps"]}

    charge = steps["charge"]
    assert [(each["error_type"], each["error"]) for each in charge["history"]] == [
        ("PermissionError", "the card was declined")
    ] * 2
    assert charge["tries"] == 2
    assert charge["started_at"] == charge["history"][0]["started_at"]
    assert charge["ended_at"] >= charge["history"][1]["ended_at"] >= charge["history"][1]["started_at"]
    assert [each["error"] for each in steps["reserve"]["history"]] == [None]


async def test_a_step_takes_as_long_as_all_its_tries_together(
    api: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    began = clock.now()
    tries = tuple(
        StepTry(
            started_at=began + timedelta(seconds=each * 5),
            ended_at=began + timedelta(seconds=each * 5 + 1),
            error=None if each == 2 else "busy",
            error_type=None if each == 2 else "OSError",
        )
        for each in range(3)
    )
    record = StepRecord(
        key="charge",
        status=StepStatus.SUCCESS,
        attempt=1,
        tries=3,
        started_at=began,
        ended_at=began + timedelta(seconds=11),
        result="1",
        round=2,
        history=tries,
    )
    run = make_run(workflow_id="parcel", status=RunStatus.RUNNING)
    start = RunStart(run=run, owner="o", incarnation="n", lease_duration=timedelta(hours=1))
    await process_store.start_run(start)
    await process_store.record_step(start.lease, record, expires_at=began + timedelta(days=1))

    (step,) = (await detail_of(api, f"/workflows/parcel/runs/{run.id}"))["steps"]

    assert (step["duration_ms"], step["tries"], step["round"]) == (11_000, 3, 2)
    assert [each["duration_ms"] for each in step["history"]] == [1_000] * 3
    assert [each["error_type"] for each in step["history"]] == ["OSError", "OSError", None]


async def failed_run(
    store: Store, make_run: MakeRun, clock: ManualClock, records: list[StepRecord], again: list[str], **fields: Any
) -> str:
    """A run of ``parcel`` with these records, in which a retry begins again the steps with these keys; its path."""
    run = make_run(workflow_id="parcel", status=RunStatus.RUNNING, started_at=clock.now())
    start = RunStart(run=run, owner="o", incarnation="n", lease_duration=timedelta(hours=1))
    await store.start_run(start)
    for record in records:
        await store.record_step(start.lease, record, expires_at=clock.now() + timedelta(days=1))
    ending = {"status": RunStatus.FAILED, "failed_steps": tuple(key_digest(key) for key in again)}
    await store.save_run(run.model_copy(update=ending | fields))
    return f"/workflows/parcel/runs/{run.id}"


def a_record(key: str, clock: ManualClock, begins: int, ends: int, status: str = "failed", **fields: Any) -> StepRecord:
    at = clock.now()
    given: dict[str, Any] = {"attempt": 1, "tries": 1, "error_type": "OSError", "error": "full"}
    if status == "success":
        given |= {"error_type": None, "error": None, "result": "1"}
    return StepRecord(
        key=key,
        status=StepStatus(status),
        started_at=at + timedelta(seconds=begins),
        ended_at=at + timedelta(seconds=ends),
        **given | fields,
    )


async def test_a_fan_out_fails_at_its_first_item_that_failed(
    api: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    within = tuple(key_digest(key) for key in ("load", "load[1]", "load[2]"))
    records = [
        a_record("load[0]", clock, 0, 1, "success"),
        a_record("load[1]", clock, 1, 2),
        a_record("load[2]", clock, 2, 3),
        a_record("load", clock, 0, 3, error_type="MapFailed", failed_within=within),
    ]
    path = await failed_run(process_store, make_run, clock, records, ["load", "load[1]", "load[2]"])

    detail = await detail_of(api, path)

    assert detail["failed_step"] == "load[1]"
    assert detail["retry"] == {"begins_again": ["load", "load[1]", "load[2]"], "after": [], "interrupted": []}


async def test_a_failure_that_the_code_caught_is_not_what_failed_the_run(
    api: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    records = [a_record("charge", clock, 0, 1), a_record("warn", clock, 1, 9)]
    path = await failed_run(process_store, make_run, clock, records, ["charge"])

    detail = await detail_of(api, path)

    assert (detail["failed_step"], detail["retry"]["begins_again"]) == ("charge", ["charge"])


async def test_after_a_retry_a_compensation_is_ordered_by_its_last_try(
    api: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    def tries(*spans: tuple[int, int]) -> tuple[StepTry, ...]:
        at = clock.now()
        return tuple(
            StepTry(started_at=at + timedelta(seconds=begins), ended_at=at + timedelta(seconds=ends))
            for begins, ends in spans
        )

    records = [
        a_record("old", clock, 0, 1),
        a_record("charge", clock, 0, 60, round=2, history=tries((0, 1), (50, 60))),
        a_record("cancel_order", clock, 2, 62, "success", round=2, history=tries((2, 3), (61, 62))),
        a_record("notify", clock, 5, 6, "success"),
    ]
    path = await failed_run(process_store, make_run, clock, records, ["old", "charge", "cancel_order"], round=2)

    detail = await detail_of(api, path)

    assert detail["failed_step"] == "charge"
    assert detail["retry"]["begins_again"] == ["old", "charge", "cancel_order"]
    assert detail["retry"]["after"] == ["cancel_order"]


async def test_a_compensation_within_a_step_ran_after_the_failure_in_it(
    api: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    within = tuple(key_digest(key) for key in ("order/charge", "order/cancel"))
    records = [
        a_record("order/charge", clock, 1, 2),
        a_record("order/cancel", clock, 3, 4, "success"),
        a_record("order", clock, 0, 5, failed_within=within),
        a_record("notify", clock, 6, 7, "success"),
    ]
    again = ["order", "order/charge", "order/cancel", "notify"]
    path = await failed_run(process_store, make_run, clock, records, again)

    detail = await detail_of(api, path)

    assert detail["failed_step"] == "order/charge"
    assert detail["retry"] == {"begins_again": again, "after": ["order/cancel", "notify"], "interrupted": []}


async def test_a_retry_that_was_cancelled_is_not_made_again(
    api: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    records = [a_record("charge", clock, 0, 1, "success", round=2), a_record("load", clock, 0, 1)]
    fields = {"status": RunStatus.CANCELLED, "round": 2}
    path = await failed_run(process_store, make_run, clock, records, ["charge", "load"], **fields)

    assert (await detail_of(api, path))["retry"]["begins_again"] == ["load"]


async def test_a_run_of_an_older_autopilot_failed_at_the_step_with_its_error(
    api: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    records = [a_record("warn", clock, 0, 1, error="caught"), a_record("load", clock, 1, 2)]
    fields = {"error": "full", "error_type": "OSError"}
    path = await failed_run(process_store, make_run, clock, records, [], **fields)

    assert (await detail_of(api, path))["failed_step"] == "load"


async def test_a_result_that_could_not_be_recorded_needs_the_same_confirmation(
    api: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    classes = ("autopilot.ResultInvalid", "autopilot.ResultError")
    record = a_record("pay", clock, 0, 1, error_type="ResultInvalid", error_classes=classes)
    path = await failed_run(process_store, make_run, clock, [record], ["pay"])

    assert (await detail_of(api, path))["retry"]["interrupted"] == ["pay"]


async def test_a_cancellation_is_no_attempt(
    api: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    began = clock.now()
    first = RunAttempt(number=1, started_at=began, ended_at=began + timedelta(seconds=2), ending=RunStatus.CANCELLED)
    third = RunAttempt(number=3, started_at=began + timedelta(hours=1))
    cancelled = make_run(workflow_id="parcel", status=RunStatus.CANCELLED, attempt=2, attempts=(first,))
    retried = make_run(workflow_id="parcel", status=RunStatus.RUNNING, attempt=3, attempts=(first, third))
    for run in (cancelled, retried):
        await process_store.save_run(run)

    details = [await detail_of(api, f"/workflows/parcel/runs/{run.id}") for run in (cancelled, retried)]
    listed = (await api.get("/workflows/parcel/runs")).json()["runs"]

    assert [[each["number"] for each in detail["attempts"]] for detail in details] == [[1], [1, 3]]
    assert [detail["attempts_total"] for detail in details] == [1, 2]
    assert [(run["attempt"], run["attempts"]) for run in listed] == [(3, 2), (1, 1)]


async def test_attempts_that_are_no_longer_listed_are_counted(
    api: httpx.AsyncClient, process_store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    kept = tuple(RunAttempt(number=number, started_at=clock.now()) for number in range(6, 26))
    run = make_run(workflow_id="parcel", attempt=25, attempts=kept)
    await process_store.save_run(run)

    detail = await detail_of(api, f"/workflows/parcel/runs/{run.id}")

    assert (len(detail["attempts"]), detail["attempts_total"]) == (20, 25)
