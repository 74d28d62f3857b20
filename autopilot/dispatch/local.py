"""The local dispatcher: continues the runs that a reload, a crash or a closed laptop interrupted."""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from autopilot.core.clock import Clock
from autopilot.core.store import RunArchive, RunFilter
from autopilot.dispatch.deliveries import Deliver
from autopilot.errors import StoreError
from autopilot.models import RunStatus, WorkflowRun

LOOK_EVERY_SECONDS = 5.0

_PAGE = 200

log = structlog.get_logger(__name__)


class Continuations:
    """Asks functions to continue the runs whose lease has ended, until it is cancelled.

    Args:
        functions: the name of each workflow's function, by the workflow's name.
        archive: returns the archive to look for runs in.
        deliver: sends a request to a function.
        clock: decides what is due, and when to look again.
    """

    def __init__(
        self, functions: Mapping[str, str], archive: Callable[[], RunArchive], deliver: Deliver, clock: Clock
    ) -> None:
        self._functions = functions
        self._archive = archive
        self._deliver = deliver
        self._clock = clock
        self._under_way: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Look for due runs every :data:`LOOK_EVERY_SECONDS`; each is asked for once at a time."""
        async with asyncio.TaskGroup() as continuations:
            while True:
                for run in await self._due_runs():
                    self._under_way.add((run.workflow_id, run.id))
                    continuations.create_task(self._continue(run))
                await self._clock.sleep(LOOK_EVERY_SECONDS)

    async def _due_runs(self) -> list[WorkflowRun]:
        # Both a lease that has ended and an engine's pause that is over are runs in status running.
        try:
            runs, _ = await self._archive().find_runs(RunFilter(status=RunStatus.RUNNING), limit=_PAGE)
        except StoreError as error:
            log.warning("continuations_not_looked_for", error=str(error))
            return []
        now = self._clock.now()
        return [
            run
            for run in runs
            if run.workflow_id in self._functions
            and (run.workflow_id, run.id) not in self._under_way
            and run.due_at is not None
            and run.due_at <= now
        ]

    async def _continue(self, run: WorkflowRun) -> None:
        log.info("run_continued", workflow=run.workflow_id, run_id=run.id)
        function = self._functions[run.workflow_id]
        try:
            status = await self._deliver(f"/{function}/runs/{run.id}/continue", b"", {})
        finally:
            self._under_way.discard((run.workflow_id, run.id))
        if status >= 400:
            log.warning("run_not_continued", workflow=run.workflow_id, run_id=run.id, status=status)
