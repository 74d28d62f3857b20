"""What every run log promises of reading: single runs, lists, the latest, the paused, the statistics."""

import asyncio
import base64
import json
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from autopilot.core.store import BucketSize, RunFilter, Store
from autopilot.errors import CursorInvalid
from autopilot.models import RunAttempt, RunStatus, TriggerType, WorkflowRun
from autopilot.testing import ManualClock
from tests.journal import LEASE, LONG_AGO, LONG_HENCE, claim_of
from tests.runs import MakeRun

BEGAN = datetime(2026, 3, 1, 12, 0, 0, 654321, tzinfo=UTC)
SECOND = timedelta(seconds=1)

HOSTILE_IDS = (
    "",
    ".",
    "..",
    "a/b",
    "/",
    "runs/x/steps/y",
    "__all__",
    "a\x00b",
    "line\n",
    "ünïcode",
    "😀",
    "\ud800",
    "x" * 1500,
    "' OR 1=1 --",
    "a~b",
)

json_scalars = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**200), max_value=2**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
json_values = st.recursive(
    json_scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


async def walk(store: Store, limit: int, status: RunStatus | None = None) -> list[WorkflowRun]:
    """All of the workflow's runs, page by page."""
    runs: list[WorkflowRun] = []
    cursor: str | None = None
    while True:
        page, cursor = await store.list_runs("digest", limit=limit, start_after=cursor, status=status)
        assert len(page) == limit or cursor is None
        runs += page
        if cursor is None:
            return runs


async def test_every_field_comes_back_as_it_was_saved(store: Store) -> None:
    run = WorkflowRun(
        id="A.b_c:d-1",
        workflow_id="digest",
        status=RunStatus.PAUSED,
        trigger_type=TriggerType.CONTINUATION,
        trigger_data={"feeds": ["a", "b"], "depth": 2},
        started_at=datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC),
        completed_at=datetime(2026, 3, 1, 12, 0, 1, 1, tzinfo=UTC),
        duration_ms=877,
        result={"rows": [[1, 2], [3]]},
        error="it broke\n  at line 3",
        error_type="ValueError",
        attempt=7,
        attempts=(
            RunAttempt(number=5, started_at=BEGAN, ended_at=BEGAN + SECOND, ending="released", revision="r-1"),
            RunAttempt(number=6, started_at=BEGAN, ended_at=BEGAN + SECOND, ending=RunStatus.PAUSED),
            RunAttempt(number=7, started_at=BEGAN),
        ),
        due_at=datetime(2026, 3, 2, 12, 0, 0, 999999, tzinfo=UTC),
        waiting_for="approval",
        version="2.1",
        fingerprint="f" * 32,
        payload_hash="p" * 32,
        reopened_attempt=2,
        rerun_of="an-older-run",
        expires_at=datetime(2027, 3, 1, tzinfo=UTC),
    )
    assert all(value is not None for value in dict(run).values()), "a field is not covered by this test"

    await store.save_run(run)

    assert await store.get_run("digest", run.id) == run


async def test_times_come_back_in_utc_to_the_microsecond(store: Store, make_run: MakeRun) -> None:
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    run = make_run(started_at=datetime(2026, 7, 1, 0, 0, 0, 1, tzinfo=kathmandu))

    await store.save_run(run)

    stored = await store.get_run("digest", run.id)
    assert stored is not None
    assert stored.started_at == datetime(2026, 6, 30, 18, 15, 0, 1, tzinfo=UTC)
    assert stored.started_at.utcoffset() == timedelta(0)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payload=st.dictionaries(st.text(max_size=10), json_values, max_size=4), result=json_values)
async def test_any_json_comes_back_as_it_was_saved(
    store: Store, make_run: MakeRun, payload: dict[str, Any], result: Any
) -> None:
    run = make_run(trigger_data=payload, result=result)

    await store.save_run(run)

    stored = await store.get_run("digest", run.id)
    assert stored is not None
    assert json.dumps(stored.trigger_data) == json.dumps(payload)
    assert json.dumps(stored.result) == json.dumps(result)


async def test_json_that_databases_stumble_over_comes_back(store: Store, make_run: MakeRun) -> None:
    awkward = {
        "nested arrays": [[[]], [[1, [2]]]],
        "": "an empty key",
        "__reserved__": 1,
        "a.b/c`d": {"": {"": None}},
        "nul": "a\x00b",
        "emoji": "🧨",
        "big": 2**64 + 1,
        "small": -(10**400),
        "minus zero": -0.0,
    }
    run = make_run(trigger_data=awkward, result=[awkward])

    await store.save_run(run)

    assert await store.get_run("digest", run.id) == run


async def test_a_run_is_found_under_its_own_workflow_only(store: Store, make_run: MakeRun) -> None:
    run = make_run(workflow_id="mine")
    await store.save_run(run)

    assert await store.get_run("mine", run.id) == run
    assert await store.get_run("theirs", run.id) is None
    assert await store.list_runs("theirs") == ([], None)
    assert await store.get_latest_run("theirs") is None


@pytest.mark.parametrize("hostile", HOSTILE_IDS, ids=lambda text: ascii(text)[:20])
async def test_a_malformed_id_is_unknown(store: Store, make_run: MakeRun, hostile: str) -> None:
    await store.save_run(make_run())

    assert await store.get_run("digest", hostile) is None
    assert await store.get_run(hostile, "run-0001") is None
    assert await store.list_runs(hostile) == ([], None)
    assert await store.get_latest_run(hostile) is None
    assert await store.get_stats(hostile) == {"total": 0, "successful": 0, "by_status": {}}
    assert await store.find_runs(RunFilter(workflow_id=hostile)) == ([], None)
    assert await store.get_activity(hostile, since=LONG_AGO, until=LONG_HENCE, size=BucketSize.DAY) == []
    for workflow_id, run_id in (("digest", hostile), (hostile, "run-0001")):
        assert await store.claim_run(workflow_id, run_id, claim_of("o", lease_duration=LEASE)) is None
        assert await store.get_run_steps(workflow_id, run_id) == []
        assert await store.request_cancel(workflow_id, run_id, owner="o") is None
        assert await store.delete_run(workflow_id, run_id) is None


async def test_an_unknown_workflow_has_no_runs_and_zeros(store: Store) -> None:
    assert await store.get_run("unknown", "run") is None
    assert await store.list_runs("unknown") == ([], None)
    assert await store.get_latest_run("unknown") is None
    assert await store.get_stats("unknown") == {"total": 0, "successful": 0, "by_status": {}}
    assert await store.get_paused_runs() == []


@pytest.mark.slow
async def test_pages_of_any_size_meet_each_of_many_tied_runs_once(
    store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    runs = [make_run(started_at=clock.now() + timedelta(microseconds=number % 7)) for number in range(300)]
    for run in runs:
        await store.save_run(run)
    newest_first = sorted(runs, key=lambda run: (run.started_at, run.id), reverse=True)

    for limit in (1, 7, 50, 300, 1000):
        assert await walk(store, limit) == newest_first, f"pages of {limit}"


async def test_the_cursor_is_none_exactly_when_nothing_follows(store: Store, make_run: MakeRun) -> None:
    for _ in range(4):
        await store.save_run(make_run())

    page, cursor = await store.list_runs("digest", limit=2)
    assert len(page) == 2
    assert cursor is not None
    last, end = await store.list_runs("digest", limit=2, start_after=cursor)

    assert len(last) == 2
    assert end is None


async def test_a_page_has_fifty_runs_and_a_read_a_hundred_changes_unless_it_is_said_how_many(
    store: Store, make_run: MakeRun
) -> None:
    position = await store.get_last_position()
    await asyncio.gather(*(store.save_run(make_run()) for _ in range(101)))

    assert len((await store.list_runs("digest"))[0]) == 50
    assert len((await store.find_runs(RunFilter()))[0]) == 50
    assert len(await store.read_changes(position)) == 100


async def test_runs_that_come_later_do_not_disturb_a_walk(store: Store, make_run: MakeRun) -> None:
    first, second = make_run(), make_run()
    await store.save_run(first)
    await store.save_run(second)
    page, cursor = await store.list_runs("digest", limit=1)
    await store.save_run(make_run())

    rest, _ = await store.list_runs("digest", limit=50, start_after=cursor)

    assert [*page, *rest] == [second, first]


async def test_a_list_can_be_of_one_status(store: Store, make_run: MakeRun) -> None:
    runs = [make_run(status=status) for _ in range(5) for status in (RunStatus.SUCCESS, RunStatus.FAILED)]
    for run in runs:
        await store.save_run(run)

    failed = await walk(store, 2, RunStatus.FAILED)

    assert failed == [run for run in reversed(runs) if run.status is RunStatus.FAILED]
    assert await store.list_runs("digest", status=RunStatus.PAUSED) == ([], None)


async def test_a_cursor_of_another_list_is_refused(store: Store, make_run: MakeRun) -> None:
    for _ in range(2):
        await store.save_run(make_run())
    _, cursor = await store.list_runs("digest", limit=1)

    with pytest.raises(CursorInvalid):
        await store.list_runs("other", start_after=cursor)
    with pytest.raises(CursorInvalid):
        await store.list_runs("digest", start_after=cursor, status=RunStatus.SUCCESS)


LIST = ["digest", None, None, None, None]
"""How a cursor names the list of all runs of the workflow."""


def hostile_cursor(*fields: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    (
        "",
        "nonsense",
        "é",
        "\ud800",
        "!" * 20,
        "A" * 100_000,
        hostile_cursor(),
        hostile_cursor(LIST, 0, "digest"),
        hostile_cursor(LIST, "0", "digest", "run"),
        hostile_cursor(LIST, True, "digest", "run"),
        hostile_cursor(LIST, 10**30, "digest", "run"),
        hostile_cursor(LIST, 0, "digest", "a/b"),
        hostile_cursor(LIST, 0, "digest", "__x__"),
        hostile_cursor(LIST, 0, "digest", ["run"]),
        hostile_cursor(LIST, 0, "a/b", "run"),
        hostile_cursor(LIST, 0, "other", "run"),
        base64.urlsafe_b64encode(b"[" * 500).decode(),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    ),
    ids=lambda text: ascii(text)[:20],
)
async def test_a_broken_cursor_is_an_error_and_not_an_empty_page(store: Store, make_run: MakeRun, cursor: str) -> None:
    await store.save_run(make_run())

    with pytest.raises(CursorInvalid):
        await store.list_runs("digest", start_after=cursor)


@pytest.mark.parametrize("limit", (-1, 0, 1001, 10**9))
async def test_a_limit_out_of_range_is_refused(store: Store, limit: int) -> None:
    with pytest.raises(ValueError, match=r"^limit"):
        await store.list_runs("digest", limit=limit)


async def test_the_latest_run_is_the_one_that_started_last(store: Store, make_run: MakeRun, clock: ManualClock) -> None:
    later = make_run(id="b", started_at=clock.now() + timedelta(microseconds=1))
    tied = make_run(id="a", started_at=clock.now() + timedelta(microseconds=1))
    earlier = make_run(id="c", started_at=clock.now())
    for run in (later, tied, earlier):
        await store.save_run(run)

    assert await store.get_latest_run("digest") == later


async def test_what_lists_show_of_a_run_is_everything_but_its_payload_and_result(
    store: Store, make_run: MakeRun
) -> None:
    run = make_run(
        status=RunStatus.PAUSED,
        trigger_data={"order": 7},
        result={"total": 9},
        error="it broke",
        failed_steps=("f" * 24,),
        attempts=(RunAttempt(number=1, started_at=BEGAN),),
        due_at=LONG_HENCE,
        rerun_of="an-older-run",
    )
    await store.save_run(run)
    listed = run.model_copy(update={"trigger_data": {}, "result": None})

    assert await store.list_runs("digest") == ([listed], None)
    assert await store.list_runs("digest", status=RunStatus.PAUSED) == ([listed], None)
    assert await store.find_runs(RunFilter()) == ([listed], None)
    assert await store.get_latest_run("digest") == run
    assert await store.get_paused_runs() == [listed]
    assert await store.get_run("digest", run.id) == run


async def test_paused_runs_of_every_workflow_are_found_newest_first(store: Store, make_run: MakeRun) -> None:
    runs = [
        make_run(workflow_id=workflow, status=status, due_at=None)
        for status in (RunStatus.PAUSED, RunStatus.SLEEPING, RunStatus.PAUSED)
        for workflow in ("one", "two")
    ]
    for run in runs:
        await store.save_run(run)
    paused = [run for run in reversed(runs) if run.status is RunStatus.PAUSED]
    assert await store.get_paused_runs() == paused

    await store.save_run(paused[0].model_copy(update={"status": RunStatus.SUCCESS}))

    assert await store.get_paused_runs() == paused[1:]


async def test_a_store_that_was_closed_opens_again(store: Store, make_run: MakeRun) -> None:
    for run in (make_run(), make_run()):
        await store.save_run(run)
        assert await store.get_run("digest", run.id) == run
        store.close()
        store.close()


async def test_statistics_are_those_of_the_runs_that_were_saved(store: Store, make_run: MakeRun) -> None:
    statuses = [RunStatus.SUCCESS] * 3 + [RunStatus.FAILED] * 2 + [RunStatus.SKIPPED] * 4
    for status in statuses:
        await store.save_run(make_run(status=status))

    stats = await store.get_stats("digest")

    assert stats == {"total": 5, "successful": 3, "by_status": Counter(statuses)}
