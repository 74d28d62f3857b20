"""What every archive promises of single runs: their steps, their removal, their cancellation; and of changes."""

from datetime import timedelta

import pytest

from autopilot.core.store import Lease, RunFilter, Store
from autopilot.errors import CursorInvalid, RunStateConflict, RunSuperseded
from autopilot.models import RunStatus, StepStatus, WorkflowRun
from autopilot.testing import ManualClock
from tests.journal import (
    LEASE,
    LONG_AGO,
    LONG_HENCE,
    OVER,
    STEP_BEGAN,
    a_step,
    changed,
    claimed,
    record,
    start_of,
    started,
    taken_over,
)
from tests.runs import MakeRun

TERMINAL = (RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.SKIPPED, RunStatus.CANCELLED)
UNFINISHED = (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.PAUSED, RunStatus.SLEEPING)


async def the_run(store: Store, lease: Lease) -> WorkflowRun:
    run = await store.get_run(lease.workflow_id, lease.run_id)
    assert run is not None
    return run


async def step_keys(store: Store, lease: Lease) -> list[str]:
    return [step.key for step in await store.get_run_steps(lease.workflow_id, lease.run_id)]


# Steps


async def test_the_steps_of_a_run_are_listed_by_their_start_and_then_by_their_key(
    store: Store, make_run: MakeRun
) -> None:
    lease = await started(store, make_run())
    late, second, first = a_step("a", started_at=STEP_BEGAN + LEASE), a_step("c"), a_step("b", StepStatus.FAILED)
    for step in (late, second, first):
        await record(store, lease, step)

    assert await store.get_run_steps("digest", lease.run_id) == [first, second, late]


async def test_steps_outlast_their_attempt_and_are_those_of_their_run_only(store: Store, make_run: MakeRun) -> None:
    lease, other = await started(store, make_run()), await started(store, make_run())
    await record(store, lease, a_step("mine"))
    await record(store, other, a_step("theirs"))
    await store.save_run(changed(await the_run(store, lease), status=RunStatus.SUCCESS, due_at=None))

    assert await step_keys(store, lease) == ["mine"]


async def test_a_run_has_none_of_the_steps_of_its_predecessor(store: Store, make_run: MakeRun) -> None:
    old = await started(store, make_run(id="run-x", started_at=LONG_AGO), "old")
    await record(store, old, a_step("of the old run"))
    await store.save_run(changed(await the_run(store, old), status=RunStatus.SUCCESS, expires_at=LONG_AGO))
    new = await started(store, make_run(id="run-x"), "new")
    await record(store, new, a_step("of the new run"))

    assert await step_keys(store, new) == ["of the new run"]


async def test_an_unknown_run_has_no_steps(store: Store, make_run: MakeRun) -> None:
    run = make_run()
    await store.save_run(run)

    assert await store.get_run_steps("digest", run.id) == []
    for workflow_id, run_id in (("digest", "unknown"), ("digest", "../x"), ("a/b", run.id)):
        assert await store.get_run_steps(workflow_id, run_id) == []


# Removal


@pytest.mark.parametrize("status", TERMINAL)
async def test_a_run_that_is_over_can_be_removed_and_stays_counted(
    store: Store, make_run: MakeRun, status: RunStatus
) -> None:
    run, kept = make_run(status=status), make_run()
    await store.save_run(run)
    await store.save_run(kept)
    before = await store.get_stats("digest")

    assert await store.delete_run("digest", run.id) == run

    assert await store.get_run("digest", run.id) is None
    assert await store.list_runs("digest") == ([kept], None)
    assert await store.get_stats("digest") == before
    assert await store.delete_run("digest", run.id) is None


@pytest.mark.parametrize("status", UNFINISHED)
async def test_a_run_that_is_not_over_cannot_be_removed(store: Store, make_run: MakeRun, status: RunStatus) -> None:
    run = make_run(status=status)
    await store.save_run(run)

    with pytest.raises(RunStateConflict, match=f"run {run.id} is {status}"):
        await store.delete_run("digest", run.id)

    assert await store.get_run("digest", run.id) == run


async def test_a_removed_run_takes_its_steps_with_it(store: Store, make_run: MakeRun) -> None:
    lease, other = await started(store, make_run()), await started(store, make_run())
    for number in range(3):
        await record(store, lease, a_step(f"step {number}"))
    await record(store, other, a_step("kept"))
    await store.save_run(changed(await the_run(store, lease), status=RunStatus.FAILED, due_at=None))

    await store.delete_run("digest", lease.run_id)

    assert await store.read_steps(lease) == []
    assert await step_keys(store, other) == ["kept"]
    again = await started(store, make_run(id=lease.run_id))  # even with the incarnation that it had
    assert await store.read_steps(again) == []


async def test_another_workflows_run_is_not_removed(store: Store, make_run: MakeRun) -> None:
    run = make_run(workflow_id="mine")
    await store.save_run(run)

    for workflow_id, run_id in (("theirs", run.id), ("mine", "unknown"), ("mine", "../x"), ("a/b", run.id)):
        assert await store.delete_run(workflow_id, run_id) is None

    assert await store.get_run("mine", run.id) == run


async def test_a_cancelled_run_stays_while_its_attempt_may_still_work(store: Store, make_run: MakeRun) -> None:
    held, ended = (
        await started(store, make_run(), lease_duration=LEASE),
        await started(store, make_run(), lease_duration=OVER),
    )
    for lease in (held, ended):
        await store.request_cancel("digest", lease.run_id, owner="person")

    with pytest.raises(RunStateConflict, match="lease"):
        await store.delete_run("digest", held.run_id)
    assert await store.delete_run("digest", ended.run_id) is not None


async def test_a_run_that_waited_when_it_was_cancelled_can_be_removed_at_once(store: Store, make_run: MakeRun) -> None:
    lease = await started(store, make_run(), lease_duration=LEASE)
    await store.save_run(changed(await the_run(store, lease), status=RunStatus.PAUSED, due_at=LONG_HENCE))
    await store.request_cancel("digest", lease.run_id, owner="person")

    assert await store.delete_run("digest", lease.run_id) is not None


# Cancelling


@pytest.mark.parametrize("status", UNFINISHED)
async def test_a_run_that_is_not_over_can_be_cancelled(
    store: Store, make_run: MakeRun, clock: ManualClock, status: RunStatus
) -> None:
    run = make_run(status=status, attempt=3, waiting_for="you", due_at=LONG_HENCE, duration_ms=40)
    await store.save_run(run)

    cancelled = await store.request_cancel("digest", run.id, owner="person", retention=timedelta(days=90))

    assert cancelled == run.model_copy(
        update={
            "status": RunStatus.CANCELLED,
            "attempt": 4,
            "completed_at": clock.now(),
            "due_at": None,
            "waiting_for": None,
            "expires_at": clock.now() + timedelta(days=90),
        }
    )
    assert await store.get_run("digest", run.id) == cancelled
    assert (await store.get_stats("digest"))["by_status"] == {"cancelled": 1}


async def test_a_cancelled_run_is_kept_for_good_unless_it_is_said_how_long(store: Store, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.RUNNING, expires_at=LONG_HENCE)
    await store.save_run(run)

    cancelled = await store.request_cancel("digest", run.id, owner="person")

    assert cancelled is not None
    assert cancelled.expires_at is None
    assert await store.get_run("digest", run.id) == cancelled


async def test_a_cancellation_that_is_repeated_is_its_own(store: Store, make_run: MakeRun) -> None:
    lease = await started(store, make_run())

    first = await store.request_cancel("digest", lease.run_id, owner="person")
    again = await store.request_cancel("digest", lease.run_id, owner="person")

    assert again == first
    with pytest.raises(RunStateConflict):
        await store.request_cancel("digest", lease.run_id, owner="somebody else")
    assert (await store.get_stats("digest"))["by_status"] == {"cancelled": 1}


@pytest.mark.parametrize("status", TERMINAL)
async def test_a_run_that_is_over_cannot_be_cancelled(store: Store, make_run: MakeRun, status: RunStatus) -> None:
    run = make_run(status=status)
    await store.save_run(run)

    with pytest.raises(RunStateConflict, match=r"(already|was skipped).*; it cannot be cancelled"):
        await store.request_cancel("digest", run.id, owner="person")

    assert await store.get_run("digest", run.id) == run


async def test_an_unknown_run_is_not_cancelled(store: Store, make_run: MakeRun) -> None:
    await store.save_run(make_run(id="run-x", status=RunStatus.RUNNING))

    for workflow_id, run_id in (("digest", "unknown"), ("other", "run-x"), ("digest", "../x"), ("a/b", "run-x")):
        assert await store.request_cancel(workflow_id, run_id, owner="person") is None


async def test_nothing_that_a_cancelled_attempt_writes_counts(store: Store, make_run: MakeRun) -> None:
    lease = await started(store, make_run(), lease_duration=LEASE)
    await record(store, lease, a_step("before"))
    run = await the_run(store, lease)

    cancelled = await store.request_cancel("digest", lease.run_id, owner="person")

    for step in (a_step("after"), a_step("begun", StepStatus.STARTED)):
        with pytest.raises(RunSuperseded):
            await record(store, lease, step)
    with pytest.raises(RunSuperseded):
        await store.save_run(changed(run, status=RunStatus.SUCCESS, due_at=None))
    assert await store.get_run("digest", lease.run_id) == cancelled
    assert await step_keys(store, lease) == ["before"]
    assert (await store.get_stats("digest"))["by_status"] == {"cancelled": 1}


async def test_a_cancelled_run_is_claimed_by_a_retry_only_and_keeps_its_steps(store: Store, make_run: MakeRun) -> None:
    lease = await started(store, make_run())
    await record(store, lease, a_step("before"))
    await store.request_cancel("digest", lease.run_id, owner="person")

    assert (await claimed(store, lease)).lease is None
    retry = await taken_over(store, lease, "retry", reopen=True)

    assert retry.attempt == 3
    assert [step.key for step in await store.read_steps(retry)] == ["before"]
    await record(store, retry, a_step("after", attempt=3))
    with pytest.raises(RunSuperseded):
        await record(store, lease, a_step("late"))


# Changes


async def changes_after(store: Store, after: str, limit: int = 100) -> tuple[list[tuple[str, str]], str]:
    changes = await store.read_changes(after, limit=limit)
    return [(change.run.id, change.run.status.value) for change in changes], changes[-1].position if changes else after


async def test_changes_are_read_from_a_position_on_in_their_order(store: Store, make_run: MakeRun) -> None:
    await store.save_run(make_run(id="before"))
    position = await store.get_last_position()
    assert await changes_after(store, position) == ([], position)

    run = make_run(id="one", workflow_id="a", status=RunStatus.RUNNING)
    await store.save_run(run)
    await store.save_run(make_run(id="two", workflow_id="b"))
    news, position = await changes_after(store, position)
    assert news == [("one", "running"), ("two", "success")]

    await store.save_run(changed(run, status=RunStatus.FAILED))
    news, position = await changes_after(store, position)
    assert news == [("one", "failed")]
    assert await changes_after(store, position) == ([], position)


async def test_every_kind_of_write_is_a_change(store: Store, make_run: MakeRun) -> None:
    position = await store.get_last_position()
    lease = await started(store, make_run())
    news, position = await changes_after(store, position)
    assert news == [(lease.run_id, "running")]

    await taken_over(store, lease)
    news, position = await changes_after(store, position)
    assert news == [(lease.run_id, "running")]

    await store.request_cancel("digest", lease.run_id, owner="person")
    news, position = await changes_after(store, position)
    assert news == [(lease.run_id, "cancelled")]

    await taken_over(store, lease, "retry", reopen=True)
    assert (await changes_after(store, position))[0] == [(lease.run_id, "running")]


async def test_a_write_that_changes_nothing_is_no_change(store: Store, make_run: MakeRun) -> None:
    run = make_run()
    await store.save_run(run)
    position = await store.get_last_position()

    await store.save_run(run)
    await store.start_run(start_of(run))

    assert await changes_after(store, position) == ([], position)


async def test_changes_are_read_in_pages_and_each_run_once(store: Store, make_run: MakeRun) -> None:
    position = await store.get_last_position()
    runs = [make_run(status=RunStatus.RUNNING) for _ in range(7)]
    for run in runs:
        await store.save_run(run)
    for run in runs[:2]:
        await store.save_run(changed(run, status=RunStatus.SUCCESS))
    met: list[tuple[str, str]] = []
    while True:
        news, position = await changes_after(store, position, limit=2)
        met += news
        if not news:
            break

    assert met == [(run.id, "running") for run in runs[2:]] + [(run.id, "success") for run in runs[:2]]


async def test_a_removed_run_is_not_reported_and_hides_nothing(store: Store, make_run: MakeRun) -> None:
    position = await store.get_last_position()
    gone = make_run()
    await store.save_run(gone)
    latest = await store.get_last_position()
    await store.delete_run("digest", gone.id)
    await store.save_run(make_run(id="next"))

    assert (await changes_after(store, position))[0] == [("next", "success")]
    assert (await changes_after(store, latest))[0] == [("next", "success")]


async def test_the_first_change_of_all_is_reported(store: Store, make_run: MakeRun) -> None:
    position = await store.get_last_position()

    await store.save_run(make_run(id="first"))

    assert (await changes_after(store, position))[0] == [("first", "success")]


@pytest.mark.parametrize("position", ("", "x", "-1", "1.5", "٣", "9" * 40, "\ud800", "0~../x", "999999999999999999"))
async def test_a_position_that_is_none_is_refused(store: Store, make_run: MakeRun, position: str) -> None:
    await store.save_run(make_run())

    with pytest.raises(CursorInvalid):
        await store.read_changes(position)


@pytest.mark.parametrize("limit", (-1, 0, 1001))
async def test_a_number_of_changes_out_of_range_is_refused(store: Store, limit: int) -> None:
    position = await store.get_last_position()

    with pytest.raises(ValueError, match=r"^limit"):
        await store.read_changes(position, limit=limit)


async def test_a_store_that_answers_says_so(store: Store) -> None:
    await store.check_connection()
    assert await store.find_runs(RunFilter()) == ([], None)
