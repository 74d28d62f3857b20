"""Workflows whose executions can be counted from outside, for processes that do not live to tell."""

import asyncio
import json
import os
from typing import Any
from uuid import uuid4

from pydantic import BaseModel

from autopilot import BaseWorkflow, RunContext, WorkflowManifest
from autopilot.errors import StepInterrupted

BODIES = "CHAOS_BODIES"
"""The variable that names the file to which every body that begins adds a line."""

CUT_OFF = "cut off"


async def hand_on(run_id: str, step: str, given: str, seconds: float) -> str:
    """A body: it tells that it has begun, takes its time, and returns what no other execution returns."""
    token = uuid4().hex
    line = json.dumps({"run": run_id, "step": step, "given": given, "token": token}) + "\n"
    file = os.open(os.environ[BODIES], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, line.encode())  # one write to the end: whole lines, whoever else writes, and kept by the kernel
    os.close(file)
    await asyncio.sleep(seconds)
    return token


class RelayInput(BaseModel):
    steps: int = 4
    seconds: float = 0.0
    """What each body takes."""


class Relay(BaseWorkflow[RelayInput, list[str]]):
    """A chain: each step is given what the step before it returned. The one in the middle is at most once."""

    manifest = WorkflowManifest(name="relay", timeout_seconds=2, max_idle_claims=100)

    async def execute(self, ctx: RunContext[Any], payload: RelayInput) -> list[str]:
        tokens = [ctx.run_id]
        for number in range(payload.steps):
            body = (ctx.run_id, f"pass[{number}]", tokens[-1], payload.seconds)
            tokens.append(await ctx.step("pass", hand_on, *body, key=number))
            if number == payload.steps // 2:
                tokens.append(await self._once(ctx, tokens[-1], payload.seconds))
        return tokens[1:]

    async def _once(self, ctx: RunContext[Any], given: str, seconds: float) -> str:
        try:
            return await ctx.step("once", hand_on, ctx.run_id, "once", given, seconds, semantics="at_most_once")
        except StepInterrupted:
            return CUT_OFF


class LongRelay(Relay):
    """Its lease is far longer than a test."""

    manifest = WorkflowManifest(name="long_relay", timeout_seconds=300)


class BriskRelay(Relay):
    """What it asks of a store must be answered in little more than half a second."""

    manifest = WorkflowManifest(name="brisk_relay", timeout_seconds=3)


class SteadyRelay(Relay):
    """A killed run of it waits for twenty seconds."""

    manifest = WorkflowManifest(name="steady_relay", timeout_seconds=20)
