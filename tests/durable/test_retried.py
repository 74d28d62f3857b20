"""What a retry begins again, and what it must not, when things happen beside it."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from autopilot import Completion, MapFailed, Retry, RunContext, StepFailed
from autopilot.core.store import StepRecord
from autopilot.errors import NonRetryable, StepsInterrupted
from autopilot.testing import Harness, InstanceKilled, ManualClock
from tests.durable.scripts import FaultyStore, Script, scripted


class Shop:
    """Counts what was done; charging fails as often as it is told to."""

    def __init__(self, refusals: int = 1) -> None:
        self.refusals = refusals
        self.done: Counter[str] = Counter()

    def charge(self) -> str:
        self.done["charge"] += 1
        if self.done["charge"] <= self.refusals:
            raise OSError("refused")
        return "charged"

    def do(self, what: str) -> str:
        self.done[what] += 1
        return what


def order(shop: Shop) -> Script:
    """A step that retries itself, and in whose body a failure is compensated and raised again."""

    async def execute(ctx: RunContext) -> str:
        async def body() -> str:
            try:
                await ctx.step("charge", shop.charge)
            except StepFailed:
                await ctx.step("cancel", shop.do, "cancel")
                raise
            return await ctx.step("ship", shop.do, "ship")

        return await ctx.step("order", body, retry=Retry(attempts=3))

    return execute


async def test_a_step_whose_body_has_compensated_is_not_tried_again() -> None:
    shop = Shop()
    harness = Harness(scripted(order(shop)))

    run = await harness.run(identity="x")

    assert run.status == "failed"
    assert shop.done == {"charge": 1, "cancel": 1}, "no cancelled order is shipped"


async def test_a_persons_retry_of_a_compensated_step_begins_the_compensation_again_too() -> None:
    shop = Shop(refusals=2)
    harness = Harness(scripted(order(shop)))
    failed = await harness.run(identity="x")

    again = await harness.retry(failed.id)
    assert (again.status, shop.done) == ("failed", {"charge": 2, "cancel": 2})
    run = await harness.retry(failed.id)
    assert (run.status, shop.done) == ("success", {"charge": 3, "cancel": 2, "ship": 1})


@pytest.mark.parametrize(
    "error", (StepFailed("mine", "X", "no"), MapFailed("mine", "too few", None)), ids=("StepFailed", "MapFailed")
)
async def test_a_failure_that_the_code_made_itself_is_of_no_step(error: Exception) -> None:
    shop = Shop()

    async def execute(ctx: RunContext) -> str:
        await ctx.step("pay", shop.do, "pay")
        if not shop.done["checked"]:
            shop.done["checked"] += 1
            raise error
        return "paid"

    harness = Harness(scripted(execute))
    failed = await harness.run(identity="x")
    run = await harness.retry(failed.id)

    assert (failed.status, failed.error_type) == ("failed", type(error).__name__)
    assert (run.result, shop.done["pay"]) == ("paid", 1)


async def test_a_result_that_cannot_be_read_any_more_is_no_failure_of_its_item() -> None:
    shop = Shop()
    types: list[type] = [str]

    async def execute(ctx: RunContext) -> list[Any]:
        paid = await ctx.map("pay", shop.do, ["a", "b"], semantics="at_most_once", returns=types[0])
        await ctx.step("charge", shop.charge)
        return list(paid)

    harness = Harness(scripted(execute))
    failed = await harness.run(identity="x")
    types[0] = int
    for _ in range(2):
        failed = await harness.retry(failed.id)
        assert failed.error_type == "StepResultUnreadable"
    types[0] = str
    run = await harness.retry(failed.id)

    assert (run.result, shop.done["a"], shop.done["b"]) == (["a", "b"], 1, 1)


class Interleaved(FaultyStore):
    """A store in which something else happens between a retry's look at the steps and its claim."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.meanwhile: Any = None

    async def get_run_steps(self, workflow_id: str, run_id: str) -> list[StepRecord]:
        steps = await super().get_run_steps(workflow_id, run_id)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return steps


async def test_a_retry_that_another_has_overtaken_looks_again() -> None:
    shop = Shop()

    async def execute(ctx: RunContext) -> str:
        return await ctx.step("charge", shop.charge, semantics="at_most_once")

    clock = ManualClock()
    store = Interleaved(clock)
    harness = Harness(scripted(execute), store=store, clock=clock)
    failed = await harness.run(identity="x")

    async def another_is_interrupted() -> None:
        with pytest.raises(InstanceKilled):
            await harness.retry(failed.id, kill_at="after body charge")
        clock.jump(clock.now() + timedelta(hours=1))  # its lease is over, and no time passes for the call that waits
        assert (await harness.resume(failed.id)).error_type == "StepInterrupted"

    store.meanwhile = another_is_interrupted
    with pytest.raises(StepsInterrupted):
        await harness.retry(failed.id)
    assert shop.done["charge"] == 2, "not charged again without a word"


@pytest.mark.parametrize("ended_by", ("cancel", "setup"))
async def test_a_step_that_a_retry_has_done_is_not_begun_again_by_the_next_retry(ended_by: str) -> None:
    shop = Shop()
    harness = Harness(_Ending.of(charge_and_pack(shop)))
    failed = await harness.run(identity="x")
    with pytest.raises(InstanceKilled):
        await harness.retry(failed.id, kill_at="before body pack")
    await end(harness, failed.id, ended_by)

    run = await harness.retry(failed.id)

    assert (run.status, shop.done) == ("success", {"charge": 2, "pack": 1})


@pytest.mark.parametrize("ended_by", ("cancel", "setup"))
async def test_what_was_confirmed_begins_again_whatever_round_the_run_was_in(ended_by: str) -> None:
    shop = Shop()

    async def execute(ctx: RunContext) -> str:
        await ctx.step("charge", shop.charge)
        return await ctx.step("pay", shop.do, "pay", semantics="at_most_once")

    harness = Harness(_Ending.of(execute, retry=Retry(attempts=3)))
    with pytest.raises(InstanceKilled):
        await harness.run(identity="x", kill_at="after body pay")
    (begun,) = await harness.runs()
    await end(harness, begun.id, ended_by)

    with pytest.raises(StepsInterrupted):
        await harness.retry(begun.id)
    run = await harness.retry(begun.id, again_interrupted=["pay"])

    assert (run.status, shop.done) == ("success", {"charge": 2, "pay": 2})


def charge_and_pack(shop: Shop) -> Script:
    async def execute(ctx: RunContext) -> str:
        await ctx.step("charge", shop.charge)
        return await ctx.step("pack", shop.do, "pack")

    return execute


class _Ending:
    """Ends runs from outside: by a cancellation, or by a setup that fails."""

    is_broken = False

    @classmethod
    def of(cls, execute: Script, **manifest: Any) -> Any:
        cls.is_broken = False

        class Ending(scripted(execute, **manifest)):  # type: ignore[misc] # a class made by a function
            async def setup(self) -> None:
                if cls.is_broken:
                    raise ValueError("no setup")

        return Ending


async def end(harness: Harness, run_id: str, how: str) -> None:
    if how == "cancel":
        await harness.store.request_cancel("scripted", run_id, owner="somebody")
        return
    harness.expire_lease()
    _Ending.is_broken = True
    assert (await harness.resume(run_id)).error == "no setup"
    _Ending.is_broken = False


@pytest.mark.slow
async def test_a_retry_begins_every_failed_item_again_however_many_there_are() -> None:
    is_down = True

    async def execute(ctx: RunContext) -> int:
        tolerant = Completion(tolerated_failures=1100)
        return len((await ctx.map("fetch", fetch, range(1200), completion=tolerant, max_concurrency=1)).successes)

    async def fetch(number: int) -> int:
        if is_down:
            raise OSError("down")
        return number

    harness = Harness(scripted(execute))
    failed = await harness.run(identity="x")
    is_down = False

    assert (failed.status, (await harness.retry(failed.id)).result) == ("failed", 1200)


@pytest.mark.parametrize("within", ("run", "step"))
async def test_a_group_is_final_if_one_of_its_parts_is(within: str) -> None:
    begun = 0

    async def refuse() -> None:
        nonlocal begun
        begun += 1
        raise NonRetryable("no")

    async def execute(ctx: RunContext) -> None:
        if within == "step":
            await ctx.step("group", grouped, refuse, retry=Retry(attempts=3))
        await grouped(lambda: ctx.step("refuse", refuse))

    async def grouped(body: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(body())

    await Harness(scripted(execute, retry=Retry(attempts=3))).run()

    assert begun == 1


async def test_nothing_of_an_abandoned_body_is_recorded_after_the_end_of_its_run() -> None:
    let_go, has_ended = asyncio.Event(), asyncio.Event()

    async def stubborn() -> str:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                asyncio.get_running_loop().call_soon(harness.clock.advance, timedelta(hours=1))
        has_ended.set()
        return "late"

    async def execute(ctx: RunContext) -> str:
        task = asyncio.create_task(ctx.step("stubborn", stubborn))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        return "done"

    harness = Harness(scripted(execute))
    run = await harness.run(identity="x")
    left = asyncio.all_tasks() - {asyncio.current_task()}
    let_go.set()
    await asyncio.wait(left)

    assert (run.result, has_ended.is_set()) == ("done", True)
    assert await harness.steps(run.id) == {}


async def test_a_context_of_a_run_that_is_over_says_so() -> None:
    kept: list[RunContext] = []

    async def keep(ctx: RunContext) -> None:
        kept.append(ctx)

    async def use(ctx: RunContext) -> Any:
        return await kept[0].step("late", str)

    over = await Harness(scripted(keep)).run()
    run = await Harness(scripted(use)).run()

    assert (run.status, run.error_type) == ("failed", "StepError")
    assert over.id in (run.error or "")


async def test_a_body_that_ends_by_a_cancellation_of_its_own_has_failed() -> None:
    async def body() -> None:
        task = asyncio.create_task(asyncio.Event().wait())
        task.cancel()
        await task

    async def execute(ctx: RunContext) -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step("charge", body))
        return "charged"

    run = await Harness(scripted(execute)).run()

    assert run.status == "failed", "and not a success without the step"


async def test_a_run_is_given_free_only_when_the_bodies_that_were_under_way_have_ended() -> None:
    is_ending, may_end = asyncio.Event(), asyncio.Event()
    at_work: list[str] = []

    async def slow() -> None:
        at_work.append("slow")
        try:
            await asyncio.Event().wait()
        finally:
            is_ending.set()
            await may_end.wait()
            at_work.remove("slow")

    async def refuse() -> None:
        raise OSError("down")

    async def execute(ctx: RunContext) -> None:
        await asyncio.gather(ctx.step("slow", slow), ctx.step("refuse", refuse))

    harness = Harness(scripted(execute))
    serving = asyncio.create_task(harness.run(identity="x"))
    await is_ending.wait()
    for _ in range(3):
        serving.cancel()
        await asyncio.sleep(0)
    assert [run.status for run in await harness.runs()] == ["running"]
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await serving

    assert at_work == []
