"""What every run log promises of ``save_run``."""

import asyncio
from typing import Any

import pytest

from autopilot.core.runs.limits import ERROR_LIMIT, PAYLOAD_LIMIT, RESULT_LIMIT
from autopilot.core.store import Store
from autopilot.errors import PayloadTooLarge, ResultInvalid, ResultTooLarge, RunSuperseded
from autopilot.models import RunStatus, WorkflowRun
from tests.runs import MakeRun

TERMINAL = (RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.SKIPPED, RunStatus.CANCELLED)
UNFINISHED = (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.PAUSED, RunStatus.SLEEPING)


def changed(run: WorkflowRun, **fields: Any) -> WorkflowRun:
    return run.model_copy(update=fields)


async def counts(store: Store, workflow_id: str = "digest") -> tuple[int, int, dict[str, int]]:
    stats = await store.get_stats(workflow_id)
    return stats["total"], stats["successful"], dict(stats["by_status"])


async def test_a_run_saved_running_and_then_successful_counts_once(store: Store, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.RUNNING)
    await store.save_run(run)
    assert await counts(store) == (1, 0, {"running": 1})

    await store.save_run(changed(run, status=RunStatus.SUCCESS))

    assert await counts(store) == (1, 1, {"success": 1})


async def test_saving_a_run_again_changes_nothing(store: Store, make_run: MakeRun) -> None:
    run = make_run(result={"items": 3})

    for _ in range(3):
        await store.save_run(run)

    assert await counts(store) == (1, 1, {"success": 1})
    assert await store.get_run("digest", run.id) == run


async def test_a_terminal_status_that_becomes_another_moves_its_count(store: Store, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.SUCCESS)
    await store.save_run(run)

    await store.save_run(changed(run, status=RunStatus.FAILED, error="late news"))

    assert await counts(store) == (1, 0, {"failed": 1})
    stored = await store.get_run("digest", run.id)
    assert stored is not None
    assert (stored.status, stored.error) == (RunStatus.FAILED, "late news")


async def test_a_run_that_keeps_its_status_takes_its_new_fields_and_no_count(store: Store, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.PAUSED, waiting_for="approval")
    await store.save_run(run)

    await store.save_run(changed(run, waiting_for="payment"))

    stored = await store.get_run("digest", run.id)
    assert stored is not None
    assert stored.waiting_for == "payment"
    assert await counts(store) == (1, 0, {"paused": 1})


@pytest.mark.slow
@pytest.mark.parametrize("unfinished", UNFINISHED)
@pytest.mark.parametrize("terminal", TERMINAL)
async def test_an_unfinished_status_never_replaces_a_terminal_one(
    store: Store, make_run: MakeRun, terminal: RunStatus, unfinished: RunStatus
) -> None:
    run = make_run(status=terminal)
    await store.save_run(run)

    await store.save_run(changed(run, status=unfinished, waiting_for="nothing"))

    assert await store.get_run("digest", run.id) == run
    assert (await store.get_stats("digest"))["by_status"] == {terminal: 1}


async def test_a_lower_attempt_is_superseded_and_changes_nothing(store: Store, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.RUNNING, attempt=3)
    await store.save_run(run)

    with pytest.raises(RunSuperseded) as raised:
        await store.save_run(changed(run, status=RunStatus.FAILED, attempt=2))

    assert (raised.value.run_id, raised.value.attempt, raised.value.stored_attempt) == (run.id, 2, 3)
    assert await store.get_run("digest", run.id) == run
    assert await counts(store) == (1, 0, {"running": 1})


async def test_a_higher_attempt_reopens_a_finished_run(store: Store, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.FAILED)
    await store.save_run(run)

    await store.save_run(changed(run, status=RunStatus.RUNNING, attempt=2))
    assert await counts(store) == (1, 0, {"running": 1})

    await store.save_run(changed(run, status=RunStatus.SUCCESS, attempt=2))
    assert await counts(store) == (1, 1, {"success": 1})


async def test_every_run_but_the_skipped_ones_is_in_the_total(store: Store, make_run: MakeRun) -> None:
    for status in RunStatus:
        await store.save_run(make_run(status=status))

    assert await counts(store) == (len(RunStatus) - 1, 1, dict.fromkeys(RunStatus, 1))


async def test_the_same_run_id_in_two_workflows_is_two_runs(store: Store, make_run: MakeRun) -> None:
    mine = make_run(id="same", workflow_id="mine", result="mine")
    theirs = make_run(id="same", workflow_id="theirs", status=RunStatus.FAILED)
    await store.save_run(mine)
    await store.save_run(theirs)

    assert await store.get_run("mine", "same") == mine
    assert await store.get_run("theirs", "same") == theirs
    assert await counts(store, "mine") == (1, 1, {"success": 1})
    assert await counts(store, "theirs") == (1, 0, {"failed": 1})


async def test_twenty_writers_at_once_are_counted_exactly(store: Store, make_run: MakeRun) -> None:
    async def write(runs: list[WorkflowRun]) -> None:
        for run in runs:
            await store.save_run(run)
            await store.save_run(changed(run, status=RunStatus.SUCCESS))
            await store.save_run(changed(run, status=RunStatus.SUCCESS))

    await asyncio.gather(*(write([make_run(status=RunStatus.RUNNING) for _ in range(3)]) for _ in range(20)))

    assert await counts(store) == (60, 60, {"success": 60})


async def test_one_run_saved_by_twenty_at_once_counts_once(store: Store, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.RUNNING)
    finished = changed(run, status=RunStatus.SUCCESS)

    await asyncio.gather(*(store.save_run(run if writer % 2 else finished) for writer in range(20)))

    assert await counts(store) == (1, 1, {"success": 1})
    assert await store.get_run("digest", run.id) == finished


async def test_a_payload_at_its_limit_is_kept_and_one_byte_more_is_refused(store: Store, make_run: MakeRun) -> None:
    fits = make_run(trigger_data={"text": "x" * (PAYLOAD_LIMIT - len('{"text":""}'))})
    too_large = make_run(trigger_data={"text": "x" * (PAYLOAD_LIMIT - len('{"text":""}') + 1)})

    await store.save_run(fits)
    with pytest.raises(PayloadTooLarge) as raised:
        await store.save_run(too_large)

    assert (raised.value.size, raised.value.limit) == (PAYLOAD_LIMIT + 1, PAYLOAD_LIMIT)
    assert await store.get_run("digest", fits.id) == fits
    assert await store.get_run("digest", too_large.id) is None
    assert await counts(store) == (1, 1, {"success": 1})


async def test_a_result_at_its_limit_is_kept_and_one_byte_more_is_refused(store: Store, make_run: MakeRun) -> None:
    fits = make_run(result="é" * ((RESULT_LIMIT - 2) // 2))
    too_large = make_run(result="x" + "é" * ((RESULT_LIMIT - 2) // 2))

    await store.save_run(fits)
    with pytest.raises(ResultTooLarge) as raised:
        await store.save_run(too_large)

    assert (raised.value.size, raised.value.limit) == (RESULT_LIMIT + 1, RESULT_LIMIT)
    assert await store.get_run("digest", fits.id) == fits
    assert await store.get_run("digest", too_large.id) is None


async def test_a_run_at_all_its_limits_fits(store: Store, make_run: MakeRun) -> None:
    run = make_run(
        id="r" * 128,
        workflow_id="w" * 63,
        trigger_data={"text": "x" * (PAYLOAD_LIMIT - len('{"text":""}'))},
        result="x" * (RESULT_LIMIT - 2),
        error="x" * ERROR_LIMIT,
    )

    await store.save_run(run)

    assert await store.get_run("w" * 63, "r" * 128) == run


async def test_a_result_that_is_not_json_is_refused(store: Store, make_run: MakeRun) -> None:
    run = make_run(result=float("nan"))

    with pytest.raises(ResultInvalid):
        await store.save_run(run)

    assert await store.get_run("digest", run.id) is None


async def test_an_error_over_its_limit_is_cut_and_marked(store: Store, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.FAILED, error="é" * ERROR_LIMIT)

    await store.save_run(run)
    await store.save_run(run)

    stored = await store.get_run("digest", run.id)
    assert stored is not None
    assert stored.error is not None
    assert stored.error.startswith("ééé")
    assert stored.error.endswith(f"... [cut: {2 * ERROR_LIMIT:,} bytes in all]")
    assert len(stored.error.encode()) <= ERROR_LIMIT
    assert await counts(store) == (1, 0, {"failed": 1})
