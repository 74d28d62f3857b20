"""Workflows as an author writes them: mypy checks the public API's types here, and a test runs them."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, assert_type

from pydantic import BaseModel, SecretStr

from autopilot import (
    AutopilotError,
    BaseWorkflow,
    Clock,
    Completion,
    MapFailed,
    MapItem,
    MapResult,
    NonRetryable,
    PayloadInvalid,
    Retry,
    RunContext,
    RunStatus,
    Schedule,
    StepInterrupted,
    StepTimeout,
    StoreError,
    Trigger,
    TriggerType,
    WorkflowManifest,
    WorkflowRun,
    api_entry_point,
    entry_point,
)


class Order(BaseModel):
    item: str
    count: int = 1


class Receipt(BaseModel):
    text: str
    quotes: list[int]


class ShopConfig(BaseModel):
    token: SecretStr | None = None
    limit: int = 5


class SoldOut(NonRetryable):
    pass


class TakeOrder(BaseWorkflow[Order, Receipt]):
    manifest = WorkflowManifest(
        name="take_order",
        schedules=(Schedule(name="nightly", cron="0 3 * * *", payload={"item": "tea"}),),
        retry=Retry(attempts=3, first_delay=timedelta(seconds=2), not_on=("SoldOut",)),
        alert_without_success_for=timedelta(days=2),
    )
    Config = ShopConfig

    async def setup(self) -> None:
        await super().setup()
        assert_type(self.total_runs, int)
        assert_type(self.success_rate, float)
        assert_type(self.last_run, WorkflowRun | None)
        assert_type(self.recent_runs, list[WorkflowRun])
        assert_type(self.workflow_id, str)

    async def execute(self, ctx: RunContext[ShopConfig], payload: Order) -> Receipt:
        assert_type(ctx.config, ShopConfig)
        assert_type(ctx.run_id, str)
        assert_type(ctx.attempt, int)
        assert_type(ctx.trigger_type, TriggerType)
        assert_type(ctx.started_at, datetime)
        assert_type(ctx.now(), datetime)
        assert_type(ctx.clock, Clock)
        assert_type(ctx.in_cloud, bool)
        assert_type(ctx.is_durable, bool)
        assert_type(await ctx.last_success(), WorkflowRun | None)

        price = await ctx.step("price", price_of, payload.item)
        assert_type(price, int)
        stock = await ctx.step("stock", self.stock, ctx, payload.item, timeout=timedelta(seconds=5))
        assert_type(stock, list[str])
        doubled = await ctx.step("double", lambda: price * 2, returns=int)
        assert_type(doubled, int)
        reserved = await ctx.step("reserve", partial(reserve, count=payload.count), payload.item, key=payload.item)
        assert_type(reserved, bool)
        quotes = await ctx.map("quote", self.quote, stock, max_concurrency=2, key=str.lower)
        assert_type(quotes, MapResult[int])
        assert_type(quotes.successes, list[int])
        assert_type(quotes.failures, list[MapItem[int]])
        assert_type(list(quotes), list[int])
        paid = await ctx.step("pay", self.pay, doubled, retry=Retry(attempts=2), semantics="at_most_once")
        assert_type(paid, str)
        return Receipt(text=paid, quotes=quotes.successes)

    async def stock(self, ctx: RunContext[ShopConfig], item: str) -> list[str]:
        assert_type(ctx.idempotency_key, str)
        return [f"{item} {number}" for number in range(3)]

    async def quote(self, name: str) -> int:
        return len(name)

    def pay(self, amount: int) -> str:
        return f"paid {amount}"


def price_of(item: str) -> int:
    if item == "gold":
        raise SoldOut("no gold")
    return len(item)


async def reserve(item: str, *, count: int) -> bool:
    return count < len(item)


class Anything(BaseWorkflow):
    """Without types: a plain dict comes in, and any JSON value goes out."""

    manifest = WorkflowManifest(name="anything", answer="result")

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> list[str]:
        assert_type(ctx.config, Any)
        try:
            done = await ctx.map("one", self.one, payload["items"], completion=Completion(tolerated_failures=1))
        except MapFailed as failed:
            return [str(failed.result)]
        return [item.error_type or "success" for item in done.items]

    def one(self, item: str) -> int:
        return int(item)


async def call_it() -> list[WorkflowRun]:
    trigger = Trigger(identity="order 1")
    run = await TakeOrder().run(TriggerType.MANUAL, {"item": "tea"}, trigger=trigger)
    assert_type(run, WorkflowRun)
    assert_type(run.status, RunStatus)
    assert_type(run.completed_at, datetime | None)
    assert_type(run.error_type, str | None)
    return [run]


def explain(error: AutopilotError) -> str:
    match error:
        case PayloadInvalid():
            assert_type(error.details, tuple[dict[str, Any], ...])
            return error.workflow
        case StepTimeout() | StepInterrupted():
            return error.key
        case StoreError():
            return "come back later"
        case _:
            return str(error)


def functions() -> tuple[Callable[..., Awaitable[Any]], Callable[..., Awaitable[Any]]]:
    return entry_point("tests.typing.author:TakeOrder"), api_entry_point(name="api")
