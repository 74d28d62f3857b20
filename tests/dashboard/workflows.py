"""Workflows for people to look at, with every kind of step and ending."""

import asyncio
from datetime import timedelta
from enum import StrEnum
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from autopilot import BaseWorkflow, Retry, RunContext, Schedule, WorkflowManifest
from tests.http_workflows import Parcel


class Region(StrEnum):
    NORTH = "north"
    SOUTH = "south"


class InvoiceInput(BaseModel):
    customer: str = Field(description="Whose invoice it is.")
    amount: int = Field(default=100, ge=1, le=10_000, description="In cents.")
    region: Region = Region.NORTH
    copies_to: list[str] = Field(default_factory=list, description="Addresses that get a copy.")
    urgent: bool = Field(default=False, description="Skip the batch and send at once.")
    notes: dict[str, Any] = Field(default_factory=dict)


class Invoice(BaseWorkflow[InvoiceInput, dict[str, Any]]):
    """Fails at the ledger until the ledger is back."""

    manifest = WorkflowManifest(
        name="invoice",
        display_name="Send invoices",
        description="Books an invoice in the ledger, renders it and mails it to the customer.",
        version="3",
        tags=("billing",),
        schedules=(Schedule(name="nightly", cron="15 2 * * *", time_zone="Europe/Berlin"),),
    )
    ledger_is_down: ClassVar[bool] = False

    async def execute(self, ctx: RunContext, payload: InvoiceInput) -> dict[str, Any]:
        customer = await ctx.step("find customer", self._find_customer, payload.customer)
        total = await ctx.step("add tax", self._add_tax, payload.amount)
        booked = await ctx.step("book in ledger", self._book, total, retry=Retry(attempts=2, first_delay=timedelta(0)))
        return {"customer": customer, "total": total, "entry": booked}

    async def _find_customer(self, name: str) -> dict[str, str]:
        return {"name": name, "mail": f"{name.lower()}@example.com"}

    async def _add_tax(self, amount: int) -> int:
        return amount * 119 // 100

    async def _book(self, total: int) -> str:
        if self.ledger_is_down:
            raise ConnectionError("the ledger at ledger.internal:5432 refused the connection")
        return f"entry-{total}"


class Convoy(BaseWorkflow):
    """Three steps; the second waits until it is let go."""

    manifest = WorkflowManifest(name="convoy", description="Moves a convoy over the pass, one stage after the other.")
    may_go_on: ClassVar[asyncio.Event]
    has_begun: ClassVar[asyncio.Event]

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> str:
        await ctx.step("leave the valley", self._pass)
        self.has_begun.set()
        await ctx.step("cross the pass", self._wait)
        await ctx.step("reach the plain", self._pass)
        return "arrived"

    async def _pass(self) -> str:
        return "done"

    async def _wait(self) -> str:
        await self.may_go_on.wait()
        return "done"


SCRIPT = "<script>document.title = 'taken over'</script>"
ATTRIBUTE = "\" onmouseover=\"document.title='taken over'\" '"


class Hostile(BaseWorkflow):
    """Everything it has to say wants to be markup."""

    manifest = WorkflowManifest(
        name="hostile",
        display_name=f"Hostile {SCRIPT}"[:100],
        description=f"{ATTRIBUTE}{SCRIPT}",
        tags=("<b>tag</b>",),
    )

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> Any:
        result = await ctx.step("echo", self._echo, payload, key=f"{SCRIPT}{ATTRIBUTE}")
        if payload.get("fail"):
            raise RuntimeError(f"{SCRIPT}{ATTRIBUTE}\u202e\x1b[31m")
        return result

    async def _echo(self, payload: dict[str, Any]) -> Any:
        return {SCRIPT: payload, "end": "</pre></script><!--"}


class Quiet(BaseWorkflow):
    manifest = WorkflowManifest(name="quiet", display_name="Archive old files", enabled=False)

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> None: ...


WORKFLOWS: tuple[type[BaseWorkflow[Any, Any]], ...] = (Invoice, Convoy, Hostile, Quiet, Parcel)
