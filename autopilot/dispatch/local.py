"""Runs that nobody works on any more go on: those that a reload, a crash or a closed laptop cut off."""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from autopilot.core.clock import Clock
from autopilot.core.store import RunArchive, RunFilter
from autopilot.development.deliveries import Deliver
from autopilot.errors import StoreError
from autopilot.models import RunStatus, WorkflowRun

LOOK_EVERY_SECONDS = 5.0

_PAGE = 200

log = structlog.get_logger(__name__)


class Continuations:
    """Asks functions to go on with runs whose lease has ended, until it is cancelled.

    Args:
        functions: the name of the function of each workflow, by the workflow's name.
    """

    def __init__(
        self, functions: Mapping[str, str], archive: Callable[[], RunArchive], deliver: Deliver, clock: Clock
    ) -> None:
        self._functions = functions
        self._archive = archive
        self._deliver = deliver
        self._clock = clock
        self._under_way: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Look every :data:`LOOK_EVERY_SECONDS`."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_EVERY_SECONDS)

    async def look(self) -> None:
        """Begin to continue each run that is due; a store that is away is logged."""
        try:
            due = await self._due_runs()
        except StoreError as error:
            log.warning("continuations_not_looked_for", error=str(error))
            return
        for run in due:
            key = run.workflow_id, run.id
            if key not in self._under_way:
                self._under_way[key] = asyncio.create_task(self._continue(run))

    async def _due_runs(self) -> list[WorkflowRun]:
        # A lease that ends, or a pause of the engine that is over: both are runs that count as running.
        runs, _ = await self._archive().find_runs(RunFilter(status=RunStatus.RUNNING), limit=_PAGE)
        now = self._clock.now()
        return [
            run for run in runs if run.workflow_id in self._functions and run.due_at is not None and run.due_at <= now
        ]

    async def _continue(self, run: WorkflowRun) -> None:
        log.info("run_continued", workflow=run.workflow_id, run_id=run.id)
        function = self._functions[run.workflow_id]
        try:
            status = await self._deliver(f"/{function}/runs/{run.id}/continue", b"", {})
        finally:
            del self._under_way[run.workflow_id, run.id]
        if status >= 400:
            log.warning("run_not_continued", workflow=run.workflow_id, run_id=run.id, status=status)
