"""Workflows from functions, and a store that does as a test says."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

import pytest

from autopilot import BaseWorkflow, RunContext, WorkflowManifest, WorkflowRun
from autopilot.core.clock import Clock
from autopilot.core.store import ClaimOutcome, Lease, RunClaim, RunStart, StartOutcome, StepRecord
from autopilot.errors import StoreUnavailable
from autopilot.models import RunStats, RunStatus
from autopilot.storage.sqlite.store import SQLiteStore
from autopilot.testing import Harness, InstanceKilled

T = TypeVar("T")
Script = Callable[..., Awaitable[Any]]


def scripted(execute: Script, **manifest: Any) -> type[BaseWorkflow]:
    """A workflow whose ``execute`` is this function of a context; the payload comes second, if it takes one."""

    class Scripted(BaseWorkflow):
        async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> Any:
            return await execute(ctx)

    Scripted.manifest = WorkflowManifest(**{"name": "scripted"} | manifest)
    return Scripted


async def crashed_and_resumed(execute: Script) -> tuple[Harness, WorkflowRun]:
    """The run of a script that was killed before its ending was recorded, and went on in another instance."""
    harness = Harness(scripted(execute))
    with pytest.raises(InstanceKilled):
        await harness.run(identity="x", kill_at="before commit end")
    harness.expire_lease()
    return harness, await harness.run(identity="x")


async def returned(returns: Any, value: Any) -> list[Any]:
    """What a step with this result returned to its first execution, and to a resume after a crash."""
    found = []

    async def execute(ctx: RunContext) -> None:
        found.append(await ctx.step("it", lambda: value, returns=returns))

    harness, run = await crashed_and_resumed(execute)

    assert run.status == "success", run.error
    assert harness.executions(run.id) == {"it": 1}
    return found


class FaultyStore(SQLiteStore):
    """SQLite in memory that counts its calls, can be away, and can lose answers.

    Attributes:
        calls: how often each method was called.
        away: the methods that fail before anything is done; ``{"all"}`` for all.
        losing: the methods whose next answer is lost: it is done, and they fail.
        silent: the same, and nobody ever says so; ``while_silent`` is called then.
        arrived, may_answer: a record has reached the store, and the store may take it.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(":memory:", clock=clock)
        self.calls: Counter[str] = Counter()
        self.away: set[str] = set()
        self.losing: set[str] = set()
        self.silent: set[str] = set()
        self.while_silent: Callable[[], object] = lambda: None
        self.arrived, self.may_answer = asyncio.Event(), asyncio.Event()
        self.may_answer.set()

    async def start_run(self, start: RunStart) -> StartOutcome:
        return await self._call("start_run", lambda: super(FaultyStore, self).start_run(start))

    async def claim_run(
        self, workflow_id: str, run_id: str, claim: RunClaim, *, version: object = None
    ) -> ClaimOutcome | None:
        return await self._call(
            "claim_run", lambda: super(FaultyStore, self).claim_run(workflow_id, run_id, claim, version=version)
        )

    async def read_steps(self, lease: Lease) -> list[StepRecord]:
        return await self._call("read_steps", lambda: super(FaultyStore, self).read_steps(lease))

    async def record_step(self, lease: Lease, step: StepRecord, *, expires_at: datetime) -> StepRecord:
        return await self._call(
            "record_step", lambda: super(FaultyStore, self).record_step(lease, step, expires_at=expires_at)
        )

    async def save_run(self, run: WorkflowRun) -> None:
        return await self._call("save_run", lambda: super(FaultyStore, self).save_run(run))

    async def list_runs(
        self, workflow_id: str, *, limit: int = 50, start_after: str | None = None, status: RunStatus | None = None
    ) -> tuple[list[WorkflowRun], str | None]:
        return await self._call(
            "list_runs",
            lambda: super(FaultyStore, self).list_runs(
                workflow_id, limit=limit, start_after=start_after, status=status
            ),
        )

    async def get_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        return await self._call("get_run", lambda: super(FaultyStore, self).get_run(workflow_id, run_id))

    async def get_stats(self, workflow_id: str) -> RunStats:
        return await self._call("get_stats", lambda: super(FaultyStore, self).get_stats(workflow_id))

    async def get_latest_run(self, workflow_id: str) -> WorkflowRun | None:
        return await self._call("get_latest_run", lambda: super(FaultyStore, self).get_latest_run(workflow_id))

    async def _call(self, method: str, do: Callable[[], Awaitable[T]]) -> T:
        self.calls[method] += 1
        if self.away & {method, "all"}:
            raise StoreUnavailable("the store", method, "it is away")
        if method == "record_step":
            self.arrived.set()
            await self.may_answer.wait()
        answer = await do()
        if method in self.losing:
            self.losing.discard(method)
            raise StoreUnavailable("the store", method, "the answer was lost")
        if method in self.silent:
            self.silent.discard(method)
            self.while_silent()
            await asyncio.Event().wait()
        return answer
