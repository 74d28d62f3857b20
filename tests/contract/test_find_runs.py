"""What every archive promises of ``find_runs``."""

from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from autopilot.core.store import RunFilter, Store
from autopilot.errors import CursorInvalid
from autopilot.models import RunStatus, TriggerType, WorkflowRun
from autopilot.testing import ManualClock
from tests.runs import MakeRun


async def walk(store: Store, wanted: RunFilter, limit: int = 1000) -> list[WorkflowRun]:
    """All the runs that are wanted, page by page; only the last page is short."""
    runs: list[WorkflowRun] = []
    cursor: str | None = None
    while True:
        page, cursor = await store.find_runs(wanted, limit=limit, start_after=cursor)
        assert len(page) == limit or cursor is None
        runs += page
        if cursor is None:
            return runs


def _names(run: WorkflowRun) -> tuple[str, str]:
    return run.workflow_id, run.id


async def saved(store: Store, make_run: MakeRun, **fields: Any) -> WorkflowRun:
    run = make_run(**fields)
    await store.save_run(run)
    return run


async def test_every_combination_of_filters_finds_its_runs_and_no_others(
    store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    workflows, statuses = ("digest", "checks"), (RunStatus.SUCCESS, RunStatus.FAILED)
    triggers = (TriggerType.HTTP, TriggerType.SCHEDULE)
    runs = [
        await saved(store, make_run, workflow_id=workflow, status=status, trigger_type=trigger)
        for _ in range(2)
        for workflow, status, trigger in product(workflows, statuses, triggers)
    ]
    since, until = runs[3].started_at, runs[12].started_at

    for workflow, status, trigger, begin, end in product(
        (None, "digest"), (None, RunStatus.FAILED), (None, TriggerType.SCHEDULE), (None, since), (None, until)
    ):
        wanted = RunFilter(workflow_id=workflow, status=status, trigger_type=trigger, since=begin, until=end)
        expected = [
            run
            for run in reversed(runs)
            if workflow in {None, run.workflow_id}
            and status in {None, run.status}
            and trigger in {None, run.trigger_type}
            and (begin is None or run.started_at >= begin)
            and (end is None or run.started_at < end)
        ]
        assert expected, f"{wanted} is not tried"
        assert await walk(store, wanted, 3) == expected, wanted


@pytest.mark.slow
@pytest.mark.parametrize("limit", (1, 4, 60))
async def test_pages_meet_each_of_many_tied_runs_of_all_workflows_once(
    store: Store, make_run: MakeRun, clock: ManualClock, limit: int
) -> None:
    runs = [
        await saved(
            store,
            make_run,
            id=f"run-{number}",
            workflow_id=workflow,
            started_at=clock.now() + timedelta(microseconds=number % 3),
        )
        for number, workflow in product(range(15), ("a", "ab", "b"))
    ]

    found = await walk(store, RunFilter(), limit)

    assert sorted(found, key=_names) == sorted(runs, key=_names)
    assert [run.started_at for run in found] == sorted((run.started_at for run in found), reverse=True)
    of_one = [run for run in found if run.workflow_id == "ab"]
    assert of_one == sorted(of_one, key=lambda run: (run.started_at, run.id), reverse=True)


async def test_the_range_of_time_begins_at_since_and_ends_before_until(
    store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    tick = timedelta(microseconds=1)
    early, first, late = [await saved(store, make_run, started_at=clock.now() + number * tick) for number in range(3)]

    found, _ = await store.find_runs(RunFilter(since=first.started_at, until=late.started_at))
    none, _ = await store.find_runs(RunFilter(since=late.started_at, until=early.started_at))

    assert found == [first]
    assert none == []


async def test_a_run_that_changes_its_status_changes_its_lists(store: Store, make_run: MakeRun) -> None:
    run = await saved(store, make_run, status=RunStatus.RUNNING)
    failed = run.model_copy(update={"status": RunStatus.FAILED})
    await store.save_run(failed)

    assert await walk(store, RunFilter(status=RunStatus.RUNNING)) == []
    assert await walk(store, RunFilter(status=RunStatus.FAILED)) == [failed]


OTHERS = (
    RunFilter(),
    RunFilter(workflow_id="digest"),
    RunFilter(workflow_id="digest", status=RunStatus.SUCCESS, trigger_type=TriggerType.HTTP),
    RunFilter(workflow_id="other", status=RunStatus.SUCCESS),
    RunFilter(status=RunStatus.SUCCESS),
)


@pytest.mark.parametrize("other", OTHERS, ids=lambda wanted: str(wanted.workflow_id))
async def test_a_cursor_of_another_list_is_refused(store: Store, make_run: MakeRun, other: RunFilter) -> None:
    for _ in range(2):
        await saved(store, make_run)
    wanted = RunFilter(workflow_id="digest", status=RunStatus.SUCCESS)
    _, cursor = await store.find_runs(wanted, limit=1)
    assert cursor is not None

    with pytest.raises(CursorInvalid, match="another list"):
        await store.find_runs(other, start_after=cursor)
    assert len((await store.find_runs(wanted, start_after=cursor))[0]) == 1


async def test_a_cursor_belongs_to_its_range_of_time(store: Store, make_run: MakeRun, clock: ManualClock) -> None:
    for _ in range(3):
        await saved(store, make_run)
    _, cursor = await store.find_runs(RunFilter(since=clock.now()), limit=1)

    with pytest.raises(CursorInvalid, match="another list"):
        await store.find_runs(RunFilter(until=clock.now() + timedelta(days=1)), start_after=cursor)


async def test_a_list_of_one_workflow_is_the_same_from_the_archive_and_from_the_run_log(
    store: Store, make_run: MakeRun
) -> None:
    for _ in range(3):
        await saved(store, make_run)

    of_log, cursor = await store.list_runs("digest", limit=2)

    assert await store.find_runs(RunFilter(workflow_id="digest"), limit=2) == (of_log, cursor)


@pytest.mark.parametrize("limit", (-1, 0, 1001))
async def test_a_limit_out_of_range_is_refused(store: Store, limit: int) -> None:
    with pytest.raises(ValueError, match=r"^limit"):
        await store.find_runs(RunFilter(), limit=limit)


async def test_a_malformed_workflow_has_no_runs(store: Store) -> None:
    assert await store.find_runs(RunFilter(workflow_id="../x")) == ([], None)
