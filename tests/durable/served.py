"""Durable workflows that tests serve as functions."""

import asyncio
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from autopilot import BaseWorkflow, RunContext, WorkflowManifest


class Fragile(BaseWorkflow):
    """Fails in its second step as long as the world is not well."""

    manifest = WorkflowManifest(name="fragile")
    is_well = False

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> list[int]:
        return [await ctx.step("a", lambda: ctx.attempt), await ctx.step("b", self.b, ctx.attempt)]

    def b(self, attempt: int) -> int:
        if not self.is_well:
            raise OSError("down")
        return attempt


class Payment(BaseWorkflow):
    """Pays, at most once."""

    manifest = WorkflowManifest(name="payment")

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> str:
        return await ctx.step("pay", lambda: "paid", semantics="at_most_once")


class Folder(BaseModel):
    path: Path


class Journey(BaseWorkflow[Folder, list[int]]):
    """Writes each body that begins to the file ``begun``; the second waits until there is a file ``gate``."""

    manifest = WorkflowManifest(name="journey", timeout_seconds=60)

    async def execute(self, ctx: RunContext, payload: Folder) -> list[int]:
        self.folder = payload.path
        return [await ctx.step(name, self.visit, name, ctx.attempt) for name in ("a", "b", "c")]

    async def visit(self, name: str, attempt: int) -> int:
        with (self.folder / "begun").open("a") as begun:
            begun.write(name)
        while name == "b" and not (self.folder / "gate").exists():  # noqa: ASYNC110 - another process opens it
            await asyncio.sleep(0.01)
        return attempt


class Mirror(BaseWorkflow):
    """Returns the value that it is given, or raises."""

    manifest = WorkflowManifest(name="mirror", timeout_seconds=60)

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> Any:
        if payload["ending"] == "raise":
            raise ValueError(f"there are {len(payload['value'])} of them")
        return payload["value"]


class Busy(BaseWorkflow[Folder, list[int]]):
    """Takes a step and waits while there is a file ``wait``; then its first attempt blocks the event loop."""

    manifest = WorkflowManifest(name="busy", timeout_seconds=120, concurrency=2)

    async def execute(self, ctx: RunContext, payload: Folder) -> list[int]:
        done = [await ctx.step("a", lambda: ctx.attempt)]
        if ctx.attempt == 1:
            (payload.path / f"waiting {ctx.run_id}").touch()
            while (payload.path / "wait").exists():  # noqa: ASYNC110 - another process removes it
                await asyncio.sleep(0.01)
            (payload.path / "blocked").touch()
            BLOCKS[os.environ["BLOCK"]]()
        return [*done, await ctx.step("b", lambda: ctx.attempt)]


def compute() -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        pass


BLOCKS: dict[str, Callable[[], object]] = {
    "computes in Python": compute,
    "waits in C": lambda: time.sleep(60),
    "computes in C": lambda: hashlib.pbkdf2_hmac("sha512", b"", b"", 60_000_000),
}
"""What blocks an event loop for a minute."""
