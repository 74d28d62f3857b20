"""A run log that keeps account of its calls and does as a test says, and workflows to go with it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from autopilot import BaseWorkflow, RunContext, WorkflowManifest, WorkflowRun
from autopilot.models import RunStats
from autopilot.testing import ManualClock
from tests.fakes import InMemoryRunLog


class ScriptedRunLog(InMemoryRunLog):
    """Fails with what stands under a method's name in ``failing``, and never answers those in ``hanging``: ``clock``
    passes whatever time they are given."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.saved: list[WorkflowRun] = []
        self.failing: dict[str, Exception] = {}
        self.hanging: set[str] = set()
        self.clock = ManualClock()

    async def save_run(self, run: WorkflowRun) -> None:
        self.saved.append(run)
        await self._called("save_run")
        await super().save_run(run)

    async def get_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        await self._called("get_run")
        return await super().get_run(workflow_id, run_id)

    async def get_stats(self, workflow_id: str) -> RunStats:
        await self._called("get_stats")
        return await super().get_stats(workflow_id)

    async def get_latest_run(self, workflow_id: str) -> WorkflowRun | None:
        await self._called("get_latest_run")
        return await super().get_latest_run(workflow_id)

    async def _called(self, method: str) -> None:
        self.calls.append(method)
        await asyncio.sleep(0)  # as a database does: whatever else is ready goes on
        if method in self.hanging:
            self.clock.advance(timedelta(seconds=10))  # the longest that anybody waits for a store
            await asyncio.Event().wait()
        if (error := self.failing.get(method)) is not None:
            raise error


class Digest(BaseWorkflow):
    """Does what a test says: ``work`` is its ``execute``."""

    manifest = WorkflowManifest(name="digest")

    def __init__(self, work: Callable[..., Awaitable[Any]] | None = None, **given: Any) -> None:
        super().__init__(**given)
        self.work = work or self._nothing
        self.executed = 0

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> Any:
        self.executed += 1
        return await self.work(ctx, payload)

    async def _nothing(self, ctx: RunContext, payload: dict[str, Any]) -> None:
        return None


def raising(error: BaseException) -> Callable[..., Awaitable[Any]]:
    async def work(ctx: RunContext, payload: dict[str, Any]) -> Any:
        raise error

    return work


def returning(result: Any) -> Callable[..., Awaitable[Any]]:
    async def work(ctx: RunContext, payload: dict[str, Any]) -> Any:
        return result

    return work


async def until(condition: Callable[[], bool]) -> None:
    """Let the other tasks go on until it holds."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to hold")
