"""A retry stops where the code has compensated, and what ran beside a failure is no compensation."""

import asyncio
from datetime import datetime
from typing import Any

import pytest

from autopilot import Retry, RunContext, StepFailed, StepInterrupted
from autopilot.core.store import Lease, StepRecord
from autopilot.storage.sqlite.store import SQLiteStore
from autopilot.testing import Harness, InstanceKilled, ManualClock, crash_matrix
from autopilot.testing.harness import MakeWorkflow
from tests.durable.scripts import Script, scripted


class Shop:
    """Takes orders whose first charge is refused, and remembers what was done to them."""

    def __init__(self, refusals: int = 1) -> None:
        self.refusals = refusals
        self.done: list[str] = []
        self.has_room = asyncio.Event()

    def charge(self) -> str:
        if self.refusals:
            self.refusals -= 1
            raise OSError("the bank is down")
        self.done.append("charged")
        return "charged"

    async def order(self, ctx: RunContext) -> str:
        try:
            return await ctx.step("charge", self.charge)
        except StepFailed:
            await ctx.step("cancel", self.cancel, ctx)
            raise

    async def cancel(self, ctx: RunContext) -> None:
        await ctx.step("tell", self.done.append, "cancelled")


async def run_of(workflow: MakeWorkflow, kill_at: str | None) -> tuple[Harness, Any]:
    harness = Harness(workflow)
    if kill_at is not None:
        with pytest.raises(InstanceKilled):
            await harness.run(identity="x", kill_at=kill_at)
        harness.expire_lease()
    return harness, await harness.run(identity="x")


async def as_a_step(shop: Shop, ctx: RunContext) -> str:
    return await ctx.step("order", shop.order, ctx)


async def as_a_step_with_tries(shop: Shop, ctx: RunContext) -> str:
    return await ctx.step("order", shop.order, ctx, retry=Retry(attempts=3))


async def as_an_item(shop: Shop, ctx: RunContext) -> str:
    async def item(number: int) -> str:
        return await shop.order(ctx)

    return (await ctx.map("order", item, [1])).successes[0]


async def directly(shop: Shop, ctx: RunContext) -> str:
    return await shop.order(ctx)


async def beside_a_later_failure(shop: Shop, ctx: RunContext) -> str:
    cancelled = asyncio.Event()

    async def order() -> str:
        try:
            return await shop.order(ctx)
        finally:
            cancelled.set()

    async def fail_later() -> None:
        await cancelled.wait()
        raise LookupError("another")

    ended = await asyncio.gather(order(), ctx.step("later", fail_later), return_exceptions=True)
    failures = [each for each in ended if isinstance(each, Exception)]
    if failures:
        raise ExceptionGroup("both", failures)
    return "shipped"


async def in_tasks_of_its_own(shop: Shop, ctx: RunContext) -> str:
    async def undo() -> None:
        await shop.cancel(ctx)

    try:
        return await ctx.step("charge", shop.charge)
    except StepFailed:
        await asyncio.gather(undo())
        raise


async def once_it_was_cancelled(shop: Shop, ctx: RunContext) -> str:
    has_begun = asyncio.Event()

    async def reserve() -> str:
        has_begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await shop.cancel(ctx)
            raise
        return "never"

    async def charge() -> str:
        await has_begun.wait()
        return await ctx.step("charge", shop.charge)

    async with asyncio.TaskGroup() as group:
        group.create_task(reserve())
        task = group.create_task(charge())
    return task.result()


COMPENSATIONS = (
    directly,
    as_a_step,
    as_a_step_with_tries,
    as_an_item,
    beside_a_later_failure,
    in_tasks_of_its_own,
    once_it_was_cancelled,
)


@pytest.mark.parametrize("kill_at", (None, "before commit end"))
@pytest.mark.parametrize("saga", COMPENSATIONS, ids=lambda saga: saga.__name__)
async def test_no_retry_but_a_persons_begins_again_what_was_compensated(saga: Any, kill_at: str | None) -> None:
    shop = Shop()
    _, run = await run_of(scripted(lambda ctx: saga(shop, ctx), retry=Retry(attempts=3)), kill_at)

    assert run.status == "failed"
    assert shop.done == ["cancelled"], "charged after it was cancelled, it would be shipped"


@pytest.mark.parametrize("kill_at", (None, "before commit end"))
@pytest.mark.parametrize("saga", (directly, as_a_step, as_an_item, in_tasks_of_its_own), ids=lambda saga: saga.__name__)
async def test_a_persons_retry_begins_a_whole_compensation_again(saga: Any, kill_at: str | None) -> None:
    shop = Shop(refusals=2)
    harness, failed = await run_of(scripted(lambda ctx: saga(shop, ctx)), kill_at)
    again = await harness.retry(failed.id)
    run = await harness.retry(failed.id)

    assert (failed.status, again.status, run.status) == ("failed", "failed", "success")
    assert shop.done == ["cancelled", "cancelled", "charged"]


def two_orders(shop: Shop) -> Script:
    """One whose charge fails, beside one that is charged and then shipped."""

    async def other(ctx: RunContext) -> str:
        await ctx.step("charge other", lambda: "charged")
        await ctx.step("ship other", shop.done.append, "shipped other")
        return "shipped"

    async def one(ctx: RunContext) -> str:
        return await ctx.step("charge", shop.charge)

    async def execute(ctx: RunContext) -> list[str]:
        ended = await asyncio.gather(one(ctx), other(ctx), return_exceptions=True)
        for each in ended:
            if isinstance(each, BaseException):
                raise each
        return [str(each) for each in ended]

    return execute


@pytest.mark.parametrize("kill_at", (None, "after commit step charge failed", "before commit step ship other success"))
async def test_what_runs_beside_a_failure_does_not_hold_up_the_manifests_retry(kill_at: str | None) -> None:
    shop = Shop()
    _, run = await run_of(scripted(two_orders(shop), retry=Retry(attempts=3)), kill_at)

    assert (run.status, run.result) == ("success", ["charged", "shipped"])


async def at_once(ctx: RunContext, shop: Shop) -> None:
    await asyncio.gather(asyncio.gather(ctx.step("ship", shop.done.append, "shipped")))


async def some_tasks_deep(ctx: RunContext, shop: Shop) -> None:
    async def deeper(levels: int) -> None:
        await (asyncio.gather(deeper(levels - 1)) if levels else ctx.step("ship", shop.done.append, "shipped"))

    await deeper(5)


async def once_there_is_room(ctx: RunContext, shop: Shop) -> None:
    await shop.has_room.wait()
    await ctx.step("ship", shop.done.append, "shipped")


@pytest.mark.parametrize("kill_at", (None, "after commit step charge failed", "before commit end"))
@pytest.mark.parametrize("other", (at_once, some_tasks_deep, once_there_is_room), ids=lambda other: other.__name__)
@pytest.mark.parametrize("as_item", (False, True), ids=("step", "item"))
async def test_what_was_under_way_before_a_failure_is_no_compensation_however_late_its_first_step_is(
    other: Any,
    kill_at: str | None,
    as_item: bool,  # noqa: FBT001
) -> None:
    shop = Shop()

    async def one(ctx: RunContext) -> str:
        try:
            if as_item:
                return (await ctx.map("charge", lambda _: shop.charge(), [0])).successes[0]
            return await ctx.step("charge", shop.charge)
        finally:
            shop.has_room.set()

    async def execute(ctx: RunContext) -> None:
        shop.has_room = asyncio.Event()
        ended = await asyncio.gather(one(ctx), other(ctx, shop), return_exceptions=True)
        for each in ended:
            if isinstance(each, BaseException):
                raise each

    if kill_at is not None and as_item:
        kill_at = kill_at.replace("step charge ", "step charge[0] ")
    harness, failed = await run_of(scripted(execute), kill_at)
    shipped = shop.done.count("shipped")
    run = await harness.retry(failed.id)

    assert (failed.status, run.status) == ("failed", "success")
    assert shop.done.count("shipped") == shipped, "a person's retry repeats what failed, and nothing else"


async def test_a_persons_retry_repeats_nothing_that_ran_beside_the_failure() -> None:
    shop = Shop()
    harness, failed = await run_of(scripted(two_orders(shop)), None)
    run = await harness.retry(failed.id)

    assert (failed.status, run.status) == ("failed", "success")
    assert shop.done == ["shipped other", "charged"]
    assert harness.executions(run.id) == {"charge": 2, "charge other": 1, "ship other": 1}


@pytest.mark.slow
@pytest.mark.parametrize("saga", COMPENSATIONS[:4], ids=lambda saga: saga.__name__)
async def test_a_saga_ends_the_same_wherever_it_is_killed(saga: Any) -> None:
    shop = Shop()

    def prepare() -> None:
        # For good: a charge that was cut off before its failure was recorded is refused again.
        shop.refusals, shop.done = 10**6, []

    report = await crash_matrix(scripted(lambda ctx: saga(shop, ctx), retry=Retry(attempts=3)), prepare=prepare)

    assert report.undisturbed.status == "failed"


async def test_a_compensation_that_fails_is_tried_again_alone() -> None:
    shop, mail = Shop(refusals=99), Shop(refusals=3)

    async def execute(ctx: RunContext) -> str:
        try:
            return await ctx.step("charge", shop.charge)
        except StepFailed:
            await ctx.step("mail", mail.charge, retry=Retry(attempts=2))
        return "mailed"

    harness = Harness(scripted(execute, retry=Retry(attempts=2)))
    run = await harness.run()

    assert (run.status, run.result) == ("success", "mailed")
    assert harness.executions(run.id) == {"charge": 1, "mail": 4}, "two tries in each of two rounds"


async def test_a_step_around_an_interrupted_one_is_not_in_doubt_itself() -> None:
    async def order(ctx: RunContext) -> str:
        return await ctx.step("pay", lambda: "paid", semantics="at_most_once")

    async def execute(ctx: RunContext) -> str:
        return await ctx.step("order", order, ctx)

    harness, failed = await run_of(scripted(execute), "after body order/pay")

    assert (failed.status, failed.error_type) == ("failed", "StepInterrupted")
    assert {key: step.status.value for key, step in (await harness.steps(failed.id)).items()} == {
        "order/pay": "interrupted",
        "order": "failed",
    }
    run = await harness.retry(failed.id, again_interrupted=["order/pay"])
    assert (run.status, run.result) == ("success", "paid")


@pytest.mark.parametrize("kill_at", (None, "before commit step outer failed", "before commit end"))
async def test_a_fan_out_with_an_interrupted_item_fails_the_same_in_every_attempt(kill_at: str | None) -> None:
    async def item(number: int) -> int:
        raise StepInterrupted("elsewhere", "StepInterrupted", "cut off", classes=("autopilot.StepInterrupted",))

    async def outer(ctx: RunContext) -> None:
        await ctx.map("m", item, [1])

    async def execute(ctx: RunContext) -> None:
        try:
            await ctx.step("outer", outer, ctx)
        except StepFailed as failed:
            seen.add((type(failed), failed.error_type, failed.error))
            raise

    seen: set[Any] = set()
    harness, run = await run_of(scripted(execute), kill_at)

    assert (run.status, run.error_type) == ("failed", "MapFailed")
    assert seen == {(StepFailed, "MapFailed", run.error)}
    assert (await harness.steps(run.id))["outer"].status == "failed"


class LateStore(SQLiteStore):
    """Records the second item of a fan-out only after the failure of its first."""

    async def record_step(self, lease: Lease, step: StepRecord, *, expires_at: datetime) -> StepRecord:
        if step.key == "m[1]":
            await self.has_failed.wait()
        recorded = await super().record_step(lease, step, expires_at=expires_at)
        if step.key == "m[0]":
            self.has_failed.set()
        return recorded

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(":memory:", clock=clock)
        self.has_failed = asyncio.Event()


@pytest.mark.parametrize("attempts", (1, 2))
async def test_an_item_whose_result_was_on_its_way_to_the_record_is_not_begun_again(attempts: int) -> None:
    shop = Shop()

    async def execute(ctx: RunContext) -> list[str]:
        return list(await ctx.map("m", item, range(2), max_concurrency=2))

    async def item(number: int) -> str:
        return shop.charge() if number == 0 else "done"

    clock = ManualClock()
    harness = Harness(scripted(execute, retry=Retry(attempts=attempts)), store=LateStore(clock), clock=clock)
    run = await harness.run(identity="x")
    if attempts == 1:
        run = await harness.retry(run.id)

    assert (run.status, run.result) == ("success", ["charged", "done"])
    assert harness.executions(run.id) == {"m[0]": 2, "m[1]": 1}


async def test_an_item_that_succeeds_in_a_later_round_is_no_compensation() -> None:
    done = asyncio.Event()

    async def execute(ctx: RunContext) -> None:
        await ctx.map("m", item, range(2), max_concurrency=2)

    async def item(number: int) -> None:
        begun.append(number)
        if number == 0:
            if begun.count(0) > 1:
                await done.wait()
            raise OSError("down")
        if begun.count(1) == 1:
            await asyncio.Event().wait()

    class Store(SQLiteStore):
        async def record_step(self, lease: Lease, step: StepRecord, *, expires_at: datetime) -> StepRecord:
            recorded = await super().record_step(lease, step, expires_at=expires_at)
            if step.key == "m[1]":
                done.set()
            return recorded

    begun: list[int] = []
    clock = ManualClock()
    harness = Harness(scripted(execute, retry=Retry(attempts=3)), store=Store(":memory:", clock=clock), clock=clock)
    run = await harness.run()

    assert (run.status, run.round) == ("failed", 3)
    assert harness.executions(run.id) == {"m[0]": 3, "m[1]": 2}
