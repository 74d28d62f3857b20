"""The cost of the engine itself: a whole run, with a run log that keeps nothing."""

from autopilot import RunStatus, TriggerType, WorkflowRun
from autopilot.models import RunStats
from benchmarks.environment import cloud_logging
from benchmarks.measure import Line, interleave, timed
from benchmarks.workflow import PAYLOAD, Sum

MOST_MS = 0.3
ROUNDS = 3000


class NoRunLog:
    """A run log that keeps nothing."""

    async def save_run(self, run: WorkflowRun) -> None:
        pass

    async def get_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        return None

    async def list_runs(
        self, workflow_id: str, *, limit: int = 50, start_after: str | None = None, status: RunStatus | None = None
    ) -> tuple[list[WorkflowRun], str | None]:
        return [], None

    async def get_stats(self, workflow_id: str) -> RunStats:
        return RunStats(total=0, successful=0, by_status={})

    async def get_latest_run(self, workflow_id: str) -> WorkflowRun | None:
        return None

    async def get_paused_runs(self) -> list[WorkflowRun]:
        return []


async def measure() -> list[Line]:
    workflow = Sum(run_log=NoRunLog())
    with cloud_logging():
        (run,) = await interleave(
            ROUNDS, warm_up=200, a_run_without_storage=timed(lambda: workflow.run(TriggerType.HTTP, PAYLOAD))
        )
    return [Line(measured=run, most_ms=MOST_MS)]
