"""A failure that was seen stays: every resume goes down the same path, and a retry begins again what failed the run."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from autopilot import MapFailed, Retry, RunContext, StepFailed, StepInterrupted
from autopilot.errors import NonRetryable, RunStateConflict, StepsInterrupted
from autopilot.models import StepStatus
from autopilot.testing import Harness, InstanceKilled
from tests.durable.scripts import scripted
from tests.log_events import Events, named


class PaymentRefused(ValueError):
    """An author's own, derived from a builtin."""


class Bank:
    """Refuses as often as it is told to, then takes the money."""

    def __init__(self, refusals: int, error: Callable[[], BaseException] = lambda: PaymentRefused("no money")) -> None:
        self.refusals = refusals
        self.error = error
        self.calls = 0

    def charge(self) -> str:
        self.calls += 1
        if self.calls <= self.refusals:
            raise self.error()
        return "charged"


async def killed(harness: Harness, moment: str) -> None:
    with pytest.raises(InstanceKilled):
        await harness.run(identity="x", kill_at=moment)
    harness.expire_lease()


async def test_a_failure_is_raised_from_its_record_in_the_first_attempt_too() -> None:
    seen: list[StepFailed] = []

    async def execute(ctx: RunContext) -> None:
        try:
            await ctx.step("charge", Bank(9).charge)
        except StepFailed as failed:
            seen.append(failed)
            raise

    run = await Harness(scripted(execute)).run()

    (failed,) = seen
    assert (failed.step, failed.error_type, failed.error) == ("charge", "PaymentRefused", "no money")
    assert str(failed) == "step charge: PaymentRefused: no money"
    assert (failed.__cause__, failed.__context__) == (None, None), "nothing can fork on the original"
    assert (run.status, run.error_type, run.error) == ("failed", "PaymentRefused", "no money")


@pytest.mark.parametrize(
    ("kind", "answer"),
    (
        (PaymentRefused, True),
        (ValueError, True),
        (Exception, True),
        (KeyError, False),
        ("PaymentRefused", True),
        ("test_failures.PaymentRefused", True),
        ("builtins.ValueError", True),
        ("ValueError", True),
        ("Refused", False),
        ("KeyError", False),
    ),
)
async def test_a_failure_knows_the_classes_of_its_cause(kind: Any, answer: object) -> None:
    answers: list[bool] = []

    async def execute(ctx: RunContext) -> str:
        try:
            return await ctx.step("charge", Bank(9).charge)
        except StepFailed as failed:
            answers.append(failed.caused_by(kind))
        return await ctx.step("after", lambda: "done")

    harness = Harness(scripted(execute))
    await killed(harness, "before body after")
    run = await harness.run(identity="x")

    assert (run.result, answers) == ("done", [answer, answer]), "in the first attempt, and from the record"


@pytest.mark.parametrize(
    "moment", ("before body cancel_order", "after body cancel_order", "after commit step cancel_order success")
)
async def test_code_that_caught_a_failure_goes_down_the_same_path_after_a_crash(moment: str) -> None:
    bank = Bank(1)

    async def execute(ctx: RunContext) -> str:
        try:
            await ctx.step("charge", bank.charge)
        except StepFailed:
            return await ctx.step("cancel_order", lambda: "cancelled")
        return await ctx.step("ship", lambda: "shipped")

    harness = Harness(scripted(execute))
    await killed(harness, moment)
    run = await harness.run(identity="x")

    assert (run.status, run.result) == ("success", "cancelled")
    assert bank.calls == 1, "what failed and was caught is not tried again"
    assert "ship" not in harness.executions(run.id)


async def test_a_crash_before_the_failure_is_recorded_executes_the_step_again() -> None:
    bank = Bank(1)

    async def execute(ctx: RunContext) -> str:
        return await ctx.step("charge", bank.charge)

    harness = Harness(scripted(execute))
    await killed(harness, "before commit step charge failed")
    run = await harness.run(identity="x")

    assert (run.result, bank.calls) == ("charged", 2)


async def test_a_crash_between_the_failure_and_the_end_fails_the_run_with_that_failure() -> None:
    bank = Bank(1)

    async def execute(ctx: RunContext) -> str:
        return await ctx.step("charge", bank.charge)

    harness = Harness(scripted(execute))
    await killed(harness, "before commit end")
    run = await harness.run(identity="x")

    assert (run.status, run.error_type, bank.calls) == ("failed", "PaymentRefused", 1)


async def test_a_persons_retry_begins_again_exactly_the_step_that_failed_the_run() -> None:
    bank, mail = Bank(1), Bank(1)

    async def execute(ctx: RunContext) -> list[str]:
        first = await ctx.step("prepare", lambda: "prepared")
        try:
            await ctx.step("mail", mail.charge)
            told = "mailed"
        except StepFailed:
            told = "not mailed"
        return [first, told, await ctx.step("charge", bank.charge)]

    harness = Harness(scripted(execute))
    failed = await harness.run(identity="x")
    run = await harness.retry(failed.id)

    assert (failed.status, failed.round) == ("failed", 1)
    assert (run.status, run.round, run.result) == ("success", 2, ["prepared", "not mailed", "charged"])
    assert (bank.calls, mail.calls) == (2, 1), "a failure that the code caught stays caught"
    assert harness.executions(run.id) == {"prepare": 1, "mail": 1, "charge": 2}


async def test_a_step_that_fails_again_in_a_retry_is_final_in_that_round() -> None:
    bank = Bank(2)

    async def execute(ctx: RunContext) -> str:
        return await ctx.step("charge", bank.charge)

    harness = Harness(scripted(execute))
    failed = await harness.run(identity="x")
    again = await harness.retry(failed.id)
    run = await harness.retry(failed.id)

    assert [(each.status, each.round) for each in (failed, again, run)] == [
        ("failed", 1),
        ("failed", 2),
        ("success", 3),
    ]
    assert bank.calls == 3


async def test_a_retry_that_dies_goes_on_as_the_retry_that_it_was() -> None:
    bank = Bank(1)

    async def execute(ctx: RunContext) -> str:
        return await ctx.step("charge", bank.charge)

    harness = Harness(scripted(execute))
    failed = await harness.run(identity="x")
    with pytest.raises(InstanceKilled):
        await harness.retry(failed.id, kill_at="before body charge")
    harness.expire_lease()
    run = await harness.run(identity="x")

    assert (run.status, run.round, bank.calls) == ("success", 2, 2)


async def test_a_step_that_a_retry_did_not_come_to_begins_again_in_the_next() -> None:
    bank, ship = Bank(1), Bank(1, lambda: OSError("closed"))
    order = iter([("charge", bank), ("ship", ship), ("charge", bank)])

    async def execute(ctx: RunContext) -> str:
        name, counter = next(order)
        return await ctx.step(name, counter.charge)

    harness = Harness(scripted(execute))
    failed = await harness.run(identity="x")
    other = await harness.retry(failed.id)
    run = await harness.retry(failed.id)

    assert (other.error_type, run.status, bank.calls) == ("OSError", "success", 2)


async def test_a_retry_that_is_cancelled_is_not_made_twice() -> None:
    bank, ships, may_ship = Bank(refusals=1), asyncio.Event(), asyncio.Event()

    async def ship() -> str:
        ships.set()
        await may_ship.wait()
        return "shipped"

    async def execute(ctx: RunContext) -> str:
        await ctx.step("charge", bank.charge)
        return await ctx.step("ship", ship)

    harness = Harness(scripted(execute))
    failed = await harness.run()
    retry = asyncio.ensure_future(harness.retry(failed.id))
    await ships.wait()
    await harness.store.request_cancel("scripted", failed.id, owner="a person")
    may_ship.set()
    await retry

    run = await harness.retry(failed.id)

    assert (run.status, run.result, bank.calls) == ("success", "shipped", 2)


async def test_a_retry_that_ends_as_too_old_is_not_made_twice() -> None:
    bank, has_charged = Bank(refusals=1), []

    async def execute(ctx: RunContext) -> str:
        has_charged.append(await ctx.step("charge", bank.charge))
        return await ctx.step("ship", lambda: "shipped")

    harness = Harness(scripted(execute, max_age=timedelta(hours=1)))
    failed = await harness.run(identity="x")
    with pytest.raises(InstanceKilled):
        await harness.retry(failed.id, kill_at="before body ship")
    harness.advance(timedelta(hours=2))
    old = await harness.run(identity="x")

    assert (old.error_type, old.failed_steps, bank.calls) == ("RunTooOld", (), 2)


async def test_the_manifests_retry_begins_again_what_failed_the_run_and_counts_across_crashes() -> None:
    bank = Bank(99)

    async def execute(ctx: RunContext) -> str:
        await ctx.step("prepare", lambda: 1)
        return await ctx.step("charge", bank.charge)

    harness = Harness(scripted(execute, retry=Retry(attempts=3)))
    await killed(harness, "after commit retry")
    run = await harness.run(identity="x")

    assert (run.status, run.error_type, bank.calls) == ("failed", "PaymentRefused", 3)
    assert (run.round, harness.executions(run.id)) == (3, {"prepare": 1, "charge": 3})


@pytest.mark.parametrize("not_on", ("PaymentRefused", "ValueError"))
async def test_a_policys_filter_matches_the_classes_that_were_recorded(not_on: str) -> None:
    bank = Bank(99)

    async def execute(ctx: RunContext) -> str:
        return await ctx.step("charge", bank.charge)

    run = await Harness(scripted(execute, retry=Retry(attempts=3, not_on=(not_on,)))).run()

    assert (run.status, bank.calls) == ("failed", 1)


async def test_what_cannot_be_retried_is_final_for_the_run_too() -> None:
    class Final(NonRetryable):
        pass

    bank = Bank(99, lambda: Final("never"))

    async def execute(ctx: RunContext) -> str:
        return await ctx.step("charge", bank.charge, retry=Retry(attempts=5))

    run = await Harness(scripted(execute, retry=Retry(attempts=3))).run()

    assert (run.error_type, bank.calls) == ("Final", 1)


async def test_the_manifests_retry_stops_where_the_code_has_compensated() -> None:
    bank, undone = Bank(1), []

    async def execute(ctx: RunContext) -> str:
        try:
            return await ctx.step("charge", bank.charge)
        except StepFailed:
            await ctx.step("cancel_order", lambda: undone.append("order"))
            raise

    harness = Harness(scripted(execute, retry=Retry(attempts=3)))
    run = await harness.run(identity="x")

    assert (run.status, run.error_type) == ("failed", "PaymentRefused")
    assert (bank.calls, undone) == (1, ["order"])

    again = await harness.retry(run.id)

    assert (again.status, again.result, bank.calls) == ("success", "charged", 2), "a person may begin it again"


async def test_a_persons_retry_begins_a_compensation_again_with_the_step_that_it_was_for() -> None:
    bank, undone = Bank(2), []

    async def execute(ctx: RunContext) -> str:
        try:
            return await ctx.step("charge", bank.charge)
        except StepFailed as failed:
            await ctx.step("cancel_order", lambda: undone.append("order"))
            raise RuntimeError("the order was cancelled") from failed

    harness = Harness(scripted(execute))
    first = await harness.run(identity="x")
    second = await harness.retry(first.id)

    assert (first.error_type, second.error_type) == ("RuntimeError", "RuntimeError")
    assert undone == ["order", "order"]
    steps = await harness.steps(first.id)
    assert (steps["cancel_order"].round, steps["charge"].round) == (2, 2)


async def test_an_error_of_the_codes_own_begins_no_step_again() -> None:
    fails = [True]

    async def execute(ctx: RunContext) -> int:
        number = await ctx.step("number", lambda: 1)
        if fails:
            fails.pop()
            raise LookupError("a mistake in the code")
        return number

    harness = Harness(scripted(execute))
    failed = await harness.run(identity="x")
    run = await harness.retry(failed.id)

    assert (failed.failed_steps, run.result) == ((), 1)
    assert harness.executions(run.id) == {"number": 1}


@pytest.mark.parametrize("how", ("group", "cause", "context", "nested"))
async def test_what_failed_a_run_is_found_behind_other_errors(how: str) -> None:
    bank = Bank(1)

    async def grouped(ctx: RunContext) -> str:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(ctx.step("charge", bank.charge))
        return task.result()

    async def caused(ctx: RunContext) -> str:
        try:
            return await ctx.step("charge", bank.charge)
        except StepFailed as failed:
            raise RuntimeError("the order failed") from failed

    async def in_context(ctx: RunContext) -> str:
        try:
            return await ctx.step("charge", bank.charge)
        except StepFailed:
            raise RuntimeError("the order failed")  # noqa: B904 - an author's way

    async def nested(ctx: RunContext) -> str:
        return await ctx.step("order", order, ctx)

    async def order(ctx: RunContext) -> str:
        return await ctx.step("charge", bank.charge)

    execute = {"group": grouped, "cause": caused, "context": in_context, "nested": nested}[how]
    harness = Harness(scripted(execute))
    failed = await harness.run(identity="x")
    run = await harness.retry(failed.id)

    assert (failed.status, run.status, run.result, bank.calls) == ("failed", "success", "charged", 2)


async def test_a_step_that_is_tried_again_begins_the_steps_in_it_that_failed_it_again() -> None:
    bank, caught = Bank(1), Bank(1)

    async def execute(ctx: RunContext) -> str:
        return await ctx.step("order", order, ctx, retry=Retry(attempts=3))

    async def order(ctx: RunContext) -> str:
        with suppress(StepFailed):
            await ctx.step("mail", caught.charge)
        return await ctx.step("charge", bank.charge)

    harness = Harness(scripted(execute))
    run = await harness.run()

    assert (run.result, bank.calls, caught.calls) == ("charged", 2, 1)


async def test_the_failure_of_a_map_is_recorded_and_raised_again() -> None:
    broken = {2: Bank(1), 4: Bank(1)}
    seen: list[Any] = []

    async def execute(ctx: RunContext) -> Any:
        try:
            return (await ctx.map("fetch", fetch, range(5), max_concurrency=1, key=lambda n: f"ord-{n}")).successes
        except MapFailed as failed:
            seen.append([(item.key, item.status, item.error_type, item.error) for item in failed.result.items])
            seen.append((failed.caused_by(PaymentRefused), failed.caused_by(KeyError)))
            await ctx.step("note", lambda: "noted")
            raise

    async def fetch(number: int) -> int:
        if number in broken:
            broken[number].charge()
        return number

    harness = Harness(scripted(execute))
    await killed(harness, "before body note")
    run = await harness.run(identity="x")

    assert seen[:2] == seen[2:4], "the first attempt and the resume"
    assert seen[1] == (True, False)
    assert run.error_type == "MapFailed"
    assert run.error == "step fetch: 1 of 5 items failed: fetch[ord-2]: PaymentRefused: no money"
    assert [bank.calls for bank in broken.values()] == [1, 0]


async def test_a_retry_of_a_map_executes_the_items_that_failed_and_no_other() -> None:
    bank = Bank(1)

    async def execute(ctx: RunContext) -> list[Any]:
        return list(await ctx.map("fetch", fetch, range(5), max_concurrency=1))

    async def fetch(number: int) -> Any:
        return bank.charge() if number == 3 else number

    harness = Harness(scripted(execute))
    failed = await harness.run(identity="x")
    run = await harness.retry(failed.id)

    assert (failed.error_type, run.result) == ("MapFailed", [0, 1, 2, "charged", 4])
    assert harness.executions(run.id) == {f"fetch[{n}]": 2 if n == 3 else 1 for n in range(5)}


async def pay(ctx: RunContext) -> str:
    return await ctx.step("pay", lambda: "paid", semantics="at_most_once")


async def test_a_retry_that_would_pay_again_must_say_so() -> None:
    harness = Harness(scripted(pay))
    await killed(harness, "after body pay")
    failed = await harness.run(identity="x")
    before = await harness.get_run(failed.id)

    for confirmed in ((), ("other",)):
        with pytest.raises(StepsInterrupted) as refused:
            await harness.retry(failed.id, again_interrupted=confirmed)
        assert refused.value.keys == ("pay",)
    assert await harness.get_run(failed.id) == before, "nothing was changed"
    assert harness.executions(failed.id)["pay"] == 1

    run = await harness.retry(failed.id, again_interrupted=["pay"])

    assert (run.status, run.result, harness.executions(run.id)["pay"]) == ("success", "paid", 2)


async def test_no_automatic_retry_begins_an_interrupted_step_again() -> None:
    async def execute(ctx: RunContext) -> str:
        if ctx.attempt == 1:
            return await pay(ctx)
        failures = await asyncio.gather(ctx.step("flaky", bank.charge), pay(ctx), return_exceptions=True)
        raise ExceptionGroup("both", [failure for failure in failures if isinstance(failure, Exception)])

    bank = Bank(1)
    harness = Harness(scripted(execute, retry=Retry(attempts=3)))
    await killed(harness, "after body pay")
    run = await harness.run(identity="x")

    assert run.status == "failed"
    assert (harness.executions(run.id)["pay"], bank.calls) == (1, 2)


async def test_an_interrupted_step_that_the_code_handled_is_not_asked_about() -> None:
    bank = Bank(1)

    async def execute(ctx: RunContext) -> str:
        try:
            await pay(ctx)
        except StepInterrupted:
            await ctx.step("look", lambda: "it was paid")
        return await ctx.step("charge", bank.charge)

    harness = Harness(scripted(execute))
    await killed(harness, "after body pay")
    failed = await harness.run(identity="x")
    run = await harness.retry(failed.id)

    assert (failed.error_type, run.result, harness.executions(run.id)["pay"]) == ("PaymentRefused", "charged", 1)


async def test_a_run_that_succeeded_has_nothing_to_retry() -> None:
    harness = Harness(scripted(pay))
    run = await harness.run(identity="x")

    with pytest.raises(RunStateConflict):
        await harness.retry(run.id)


async def test_each_try_is_kept_with_its_step_and_logged_with_its_traceback(events: Events) -> None:
    bank = Bank(3)

    async def execute(ctx: RunContext) -> str:
        return await ctx.step("charge", bank.charge, retry=Retry(attempts=5))

    harness = Harness(scripted(execute))
    began = harness.clock.now()
    run = await harness.run()

    step = (await harness.steps(run.id))["charge"]
    assert (step.status, step.tries, step.started_at) == (StepStatus.SUCCESS, 4, began)
    assert [(one.error_type, one.error) for one in step.history] == [("PaymentRefused", "no money")] * 3 + [
        (None, None)
    ]
    assert step.ended_at == harness.clock.now() == step.history[-1].ended_at
    lines = named(events, "step_retried")
    assert [(line["step"], line["tries"], line["error_type"]) for line in lines] == [
        ("charge", number, "PaymentRefused") for number in (1, 2, 3)
    ]
    assert all("raise self.error()" in line["exception"] for line in lines)
    assert all("/autopilot/" not in line["exception"] for line in lines), (
        "the author's frames, and not those between them"
    )


@pytest.mark.parametrize("how", ("step", "map", "group", "cause"))
async def test_the_end_of_a_run_is_logged_with_the_authors_lines_down_to_the_one_that_failed(
    events: Events, how: str
) -> None:
    bank = Bank(9)

    async def execute(ctx: RunContext) -> None:
        if how == "map":
            await ctx.map("charge", lambda _: bank.charge(), [1])
        elif how == "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(ctx.step("charge", bank.charge))
        else:
            try:
                await ctx.step("charge", bank.charge)
            except StepFailed as failed:
                if how == "cause":
                    raise RuntimeError("the order failed") from failed
                raise

    await Harness(scripted(execute)).run()

    (line,) = named(events, "workflow_run_completed")
    frames = [frame for frame in line["exception"].splitlines() if frame.lstrip(" |").startswith("File ")]
    assert "raise self.error()" in line["exception"]
    assert not any("/autopilot/" in frame for frame in frames)


async def test_the_last_ten_tries_are_kept() -> None:
    bank = Bank(25)

    async def execute(ctx: RunContext) -> str:
        return await ctx.step("charge", bank.charge, retry=Retry(attempts=30, first_delay=timedelta(0)))

    harness = Harness(scripted(execute))
    run = await harness.run()

    step = (await harness.steps(run.id))["charge"]
    assert (step.tries, len(step.history)) == (26, 10)


async def test_a_retried_run_names_the_code_that_ran_last() -> None:
    bank = Bank(1)

    async def execute(ctx: RunContext) -> str:
        return await ctx.step("charge", bank.charge)

    workflow = scripted(execute, version="1")
    harness = Harness(workflow)
    failed = await harness.run(identity="x")
    fixed = scripted(execute, version="2")
    run = await Harness(fixed, store=harness.store, clock=harness.clock).retry(failed.id)

    assert (failed.version, run.version) == ("1", "2")
