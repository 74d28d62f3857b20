"""Small real implementations of what the engine is given, for tests that are not about databases."""

from autopilot.core.runs.transitions import replaces, stats_of
from autopilot.errors import StoreUnavailable
from autopilot.models import RunStats, RunStatus, WorkflowRun


class InMemoryRunLog:
    """A bare run log: RunLogService and nothing else. While ``is_away``, every call fails."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str], WorkflowRun] = {}
        self.is_away = False

    async def save_run(self, run: WorkflowRun) -> None:
        self._check()
        if replaces(run, self.runs.get((run.workflow_id, run.id))):
            self.runs[run.workflow_id, run.id] = run

    async def get_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        self._check()
        return self.runs.get((workflow_id, run_id))

    async def list_runs(
        self, workflow_id: str, *, limit: int = 50, start_after: str | None = None, status: RunStatus | None = None
    ) -> tuple[list[WorkflowRun], str | None]:
        self._check()
        runs = [run for run in self._newest_first(workflow_id) if status is None or run.status is status]
        offset = int(start_after or 0)
        following = offset + limit
        page = [_listed(run) for run in runs[offset:following]]
        return page, str(following) if following < len(runs) else None

    async def get_stats(self, workflow_id: str) -> RunStats:
        self._check()
        counts: dict[str, int] = {}
        for run in self._newest_first(workflow_id):
            counts[run.status] = counts.get(run.status, 0) + 1
        return stats_of(counts)

    async def get_latest_run(self, workflow_id: str) -> WorkflowRun | None:
        self._check()
        return next(iter(self._newest_first(workflow_id)), None)

    async def get_paused_runs(self) -> list[WorkflowRun]:
        self._check()
        return sorted(
            (_listed(run) for run in self.runs.values() if run.status is RunStatus.PAUSED),
            key=lambda run: run.started_at,
            reverse=True,
        )

    def _newest_first(self, workflow_id: str) -> list[WorkflowRun]:
        runs = (run for run in self.runs.values() if run.workflow_id == workflow_id)
        return sorted(runs, key=lambda run: (run.started_at, run.id), reverse=True)

    def _check(self) -> None:
        if self.is_away:
            raise StoreUnavailable("memory", "any call", "told to be away")


def _listed(run: WorkflowRun) -> WorkflowRun:
    return run.model_copy(update={"trigger_data": {}, "result": None})
