"""What every journal promises of steps: what is recorded, by whom, and what is read back."""

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from autopilot.core.runs.limits import ERROR_LIMIT, RESULT_LIMIT
from autopilot.core.store import StepRecord, Store
from autopilot.errors import RunSuperseded
from autopilot.models import RunStatus, StepStatus
from autopilot.testing import ManualClock
from tests.journal import LEASE, LONG_AGO, a_step, by_key, changed, record, started, taken_over
from tests.runs import MakeRun

NOT_FINAL = (StepStatus.STARTED, StepStatus.FAILED, StepStatus.INTERRUPTED)


async def test_a_run_begins_without_steps(store: Store, make_run: MakeRun) -> None:
    assert await store.read_steps(await started(store, make_run())) == []


@pytest.mark.parametrize(
    "step",
    (
        a_step(result='{"items":[1,[2,"é"],null,1e300,18446744073709551616]}', tries=3, attempt=1),
        a_step(result="null"),
        a_step(status=StepStatus.STARTED, tries=2),
        a_step(status=StepStatus.FAILED, error="no answer\n" * 3, error_type="TimeoutError"),
        a_step(status=StepStatus.INTERRUPTED),
    ),
    ids=lambda step: str(step.status),
)
async def test_a_step_is_read_back_as_it_was_recorded(store: Store, make_run: MakeRun, step: StepRecord) -> None:
    lease = await started(store, make_run())

    assert await record(store, lease, step) == step
    assert await store.read_steps(lease) == [step]


async def test_the_next_attempt_finds_what_the_one_before_recorded_and_goes_on(store: Store, make_run: MakeRun) -> None:
    run = make_run()
    first = await started(store, run)
    a, b = a_step("a", result="1"), a_step("b", attempt=2, result="2")
    await record(store, first, a)

    second = await taken_over(store, run)
    await record(store, second, b)

    assert by_key(await store.read_steps(second)) == [a, b]


@pytest.mark.parametrize("later", (StepStatus.SUCCESS, *NOT_FINAL))
async def test_the_first_success_of_a_step_stays_and_is_what_later_writers_get(
    store: Store, make_run: MakeRun, later: StepStatus
) -> None:
    lease = await started(store, make_run())
    first = a_step(result='"first"')
    await record(store, lease, first)

    assert await record(store, lease, a_step(status=later, tries=9)) == first
    assert await store.read_steps(lease) == [first]


@pytest.mark.parametrize("later", (StepStatus.SUCCESS, *NOT_FINAL))
@pytest.mark.parametrize("earlier", NOT_FINAL)
async def test_a_record_that_is_no_success_is_replaced(
    store: Store, make_run: MakeRun, earlier: StepStatus, later: StepStatus
) -> None:
    lease = await started(store, make_run())
    before = a_step(status=earlier, error="first", error_type="KeyError")
    after = a_step(status=later, tries=2)
    await record(store, lease, before)

    assert await record(store, lease, after) == after
    assert await store.read_steps(lease) == [after]


async def test_of_twenty_writers_of_a_step_at_once_the_first_wins(store: Store, make_run: MakeRun) -> None:
    lease = await started(store, make_run())

    returned = await asyncio.gather(*(record(store, lease, a_step(result=str(n))) for n in range(20)))

    (recorded,) = await store.read_steps(lease)
    assert set(returned) == {recorded}


async def test_steps_that_are_recorded_at_once_are_all_there(store: Store, make_run: MakeRun) -> None:
    lease = await started(store, make_run())
    steps = [a_step(f"quote[{n:02}]", result=str(n)) for n in range(30)]

    await asyncio.gather(*(record(store, lease, step) for step in steps))

    assert by_key(await store.read_steps(lease)) == steps


async def test_recording_the_same_step_again_changes_nothing(store: Store, make_run: MakeRun) -> None:
    lease = await started(store, make_run())

    for status in (StepStatus.STARTED, StepStatus.SUCCESS):
        for _ in range(2):
            assert await record(store, lease, a_step(status=status)) == a_step(status=status)

    assert await store.read_steps(lease) == [a_step()]


async def test_a_run_has_no_steps_of_other_runs_and_workflows(store: Store, make_run: MakeRun) -> None:
    runs = (make_run(id="same"), make_run(id="same", workflow_id="other"), make_run(id="same.2"), make_run(id="sam"))
    leases = [await started(store, run) for run in runs]
    for n, lease in enumerate(leases):
        await record(store, lease, a_step(result=str(n)))

    assert [await store.read_steps(lease) for lease in leases] == [[a_step(result=str(n))] for n in range(4)]


async def test_a_run_never_sees_steps_of_the_run_whose_place_it_took(store: Store, make_run: MakeRun) -> None:
    old = make_run(id="same", status=RunStatus.RUNNING)
    zombie = await started(store, old, "old")
    await record(store, zombie, a_step("a"))
    await store.save_run(changed(old, status=RunStatus.FAILED, expires_at=LONG_AGO))
    new = await started(store, make_run(id="same"), "new")

    with suppress(RunSuperseded):  # it may also be let write where nobody reads
        await record(store, zombie, a_step("b"))

    assert await store.read_steps(new) == []
    assert await record(store, new, a_step("a", result='"new"')) == a_step("a", result='"new"')
    again = await taken_over(store, new, "again")
    assert await store.read_steps(again) == [a_step("a", result='"new"')]


@pytest.mark.parametrize("status", (StepStatus.SUCCESS, *NOT_FINAL))
async def test_after_a_claim_the_attempt_before_records_nothing_more(
    store: Store, make_run: MakeRun, status: StepStatus
) -> None:
    run = make_run()
    zombie = await started(store, run)
    recorded = [a_step("begun", StepStatus.STARTED), a_step("done")]
    for step in recorded:
        await record(store, zombie, step)
    second = await taken_over(store, run)

    for key in ("begun", "done", "new"):
        with pytest.raises(RunSuperseded) as raised:
            await record(store, zombie, a_step(key, status, tries=5))
        assert (raised.value.run_id, raised.value.attempt, raised.value.stored_attempt) == (run.id, 1, 2)

    assert by_key(await store.read_steps(second)) == recorded


async def test_every_attempt_but_the_last_is_fenced_off(store: Store, make_run: MakeRun) -> None:
    run = make_run()
    leases = [await started(store, run)]
    for n in range(3):
        await store.save_run(changed(run, status=RunStatus.FAILED, attempt=n + 1))
        leases.append(await taken_over(store, run, f"owner {n}", reopen=True))

    for zombie in leases[:-1]:
        with pytest.raises(RunSuperseded):
            await record(store, zombie, a_step(attempt=zombie.attempt))

    assert await record(store, leases[-1], a_step(attempt=4)) == a_step(attempt=4)
    assert await store.read_steps(leases[-1]) == [a_step(attempt=4)]


async def test_until_it_is_claimed_an_attempt_records_even_past_its_lease(
    store: Store, make_run: MakeRun, clock: ManualClock
) -> None:
    lease = await started(store, make_run())
    clock.advance(LEASE)

    assert await record(store, lease, a_step()) == a_step()


async def test_a_step_that_was_cut_off_is_sealed_by_the_next_attempt_for_good(store: Store, make_run: MakeRun) -> None:
    run = make_run()
    zombie = await started(store, run)
    begun = a_step(status=StepStatus.STARTED)
    await record(store, zombie, begun)
    second = await taken_over(store, run)
    sealed = replace(begun, status=StepStatus.INTERRUPTED, attempt=2)

    assert await record(store, second, sealed) == sealed
    with pytest.raises(RunSuperseded):
        await record(store, zombie, a_step())

    assert await store.read_steps(second) == [sealed]


async def test_a_claim_amid_the_writes_of_the_attempt_before_leaves_nothing_behind_it(
    store: Store, make_run: MakeRun
) -> None:
    run = make_run()
    zombie = await started(store, run)
    writes = [asyncio.ensure_future(record(store, zombie, a_step(f"s{n:02}"))) for n in range(20)]
    second = await taken_over(store, run)

    found = by_key(await store.read_steps(second))
    answers = await asyncio.gather(*writes, return_exceptions=True)

    assert by_key(await store.read_steps(second)) == found
    assert {step for step in answers if not isinstance(step, BaseException)} <= set(found)
    assert all(isinstance(each, RunSuperseded) for each in answers if isinstance(each, BaseException))


@pytest.mark.slow
async def test_a_thousand_steps_are_read_back(store: Store, make_run: MakeRun) -> None:
    lease = await started(store, make_run())
    steps = [a_step(f"item[{n:04}]", result=str(n)) for n in range(1000)]
    for begin in range(0, 1000, 50):
        await asyncio.gather(*(record(store, lease, step) for step in steps[begin : begin + 50]))

    assert by_key(await store.read_steps(lease)) == steps


async def test_a_result_and_an_error_at_their_limits_are_kept(store: Store, make_run: MakeRun) -> None:
    lease = await started(store, make_run())
    large = a_step("large", result='"' + "é" * ((RESULT_LIMIT - 2) // 2) + '"')
    failed = a_step("failed", StepStatus.FAILED, error="x" * ERROR_LIMIT, error_type="E" * 100)

    for step in (large, failed):
        await record(store, lease, step)

    assert by_key(await store.read_steps(lease)) == [failed, large]


ODD_KEYS = (
    "a",
    "A",
    "a ",
    "a/b",
    "a[b]",
    "a[0]/b",
    "a[00]",
    ".",
    "..",
    "__name__",
    "__done__",
    "%2F",
    "~step~",
    "~done",
    "\u00e9",
    "e\u0301",
    "\U0001f680",
    "a\nb",
    "'; --",
    "x" * 999,
    "x" * 1000,
)


async def test_keys_are_kept_apart_whatever_is_in_them(store: Store, make_run: MakeRun) -> None:
    lease = await started(store, make_run())
    steps = [a_step(key, result=str(n)) for n, key in enumerate(ODD_KEYS)]
    for step in steps:
        assert await record(store, lease, step) == step

    assert by_key(await store.read_steps(lease)) == by_key(steps)
