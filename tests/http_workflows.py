"""Workflows that tests serve as functions."""

import asyncio
import sys
from datetime import timedelta
from typing import Any, ClassVar

from pydantic import BaseModel, SecretStr

from autopilot import BaseWorkflow, Retry, RunContext, Schedule, StepFailed, WorkflowManifest


class Order(BaseModel):
    item: str
    count: int = 1


class Receipt(BaseModel):
    text: str


class Shop(BaseWorkflow[Order, Receipt]):
    manifest = WorkflowManifest(name="shop", display_name="The shop", tags=("tests",))

    async def execute(self, ctx: RunContext, payload: Order) -> Receipt:
        if payload.item == "nothing":
            raise LookupError("there is no such item")
        return Receipt(text=f"{payload.count} x {payload.item}")


class PlainShop(Shop):
    """Answers with the receipt itself."""

    manifest = WorkflowManifest(name="plain_shop", answer="result")


class CarefulShop(Shop):
    manifest = WorkflowManifest(name="careful_shop", durability="required")


class ClosedShop(Shop):
    manifest = WorkflowManifest(name="closed_shop", enabled=False)


class SecretConfig(BaseModel):
    token: SecretStr
    limit: int


class GuardedShop(Shop):
    manifest = WorkflowManifest(name="guarded_shop")
    Config: ClassVar[type[BaseModel]] = SecretConfig


class Echo(BaseWorkflow):
    """Any JSON object in, the same out."""

    manifest = WorkflowManifest(name="echo")

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> Any:
        return {"payload": payload, "trigger": ctx.trigger_type}


class Waiting(BaseWorkflow):
    """Goes on when the event of this class is set."""

    manifest = WorkflowManifest(name="waiting")
    may_go_on: ClassVar[asyncio.Event]
    began: ClassVar[asyncio.Event]

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> None:
        self.began.set()
        await self.may_go_on.wait()


class OwnCancellation(BaseWorkflow):
    """Awaits a task that it cancelled, and does not catch what comes of it."""

    manifest = WorkflowManifest(name="own_cancellation")

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> None:
        task = asyncio.ensure_future(asyncio.Event().wait())
        task.cancel()
        await task


class Modules(BaseWorkflow):
    """Tells which of these modules its process has imported."""

    manifest = WorkflowManifest(name="modules")

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> list[str]:
        return [name for name in payload["names"] if name in sys.modules]


class Counting(BaseWorkflow):
    """Counts up to a number, a step each, and falls over at another as long as that is in its way."""

    manifest = WorkflowManifest(
        name="counting", display_name="Counting", schedules=(Schedule(name="hourly", cron="0 * * * *"),)
    )
    in_the_way: ClassVar[int | None] = None

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> list[int]:
        return [await ctx.step("count", self._count, number, key=number) for number in range(payload["to"])]

    async def _count(self, number: int) -> int:
        if number == self.in_the_way:
            raise ArithmeticError(f"{number} is in the way")
        return number


class Parcel(BaseWorkflow):
    """Charges a card, cancels the order if that fails, and sends the parcel at most once."""

    manifest = WorkflowManifest(name="parcel", display_name="Send a parcel")
    card_is_declined: ClassVar[bool] = False
    courier_is_late: ClassVar[bool] = False
    begun: ClassVar[list[str]] = []

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> Any:
        await ctx.step("reserve", self._begin, "reserve")
        try:
            await ctx.step("charge", self._charge, retry=Retry(attempts=2, first_delay=timedelta(0)))
        except StepFailed:
            await ctx.step("cancel_order", self._begin, "cancel_order")
            raise
        limit = timedelta(milliseconds=10)
        return await ctx.step("send", self._send, key=payload.get("to"), semantics="at_most_once", timeout=limit)

    async def _begin(self, name: str) -> str:
        self.begun.append(name)
        return "done"

    async def _charge(self) -> str:
        if self.card_is_declined:
            self.begun.append("charge")
            raise PermissionError("the card was declined")
        return await self._begin("charge")

    async def _send(self) -> str:
        if self.courier_is_late:
            self.begun.append("send")
            await asyncio.Event().wait()
        return await self._begin("send")
