"""What ``execute`` is given: the run it is part of and the means to work with."""

from datetime import datetime
from typing import Any, Generic

from structlog.typing import FilteringBoundLogger
from typing_extensions import TypeVar

from autopilot.core.clock import Clock
from autopilot.core.run_log import RunLogService
from autopilot.models import RunStatus, TriggerType, WorkflowRun

ConfigT = TypeVar("ConfigT", default=Any)


class RunContext(Generic[ConfigT]):
    """One run, seen from inside.

    Attributes:
        run_id: the run's id, the same in every attempt.
        workflow_id: the workflow's name.
        attempt: 1 for the first invocation that works on the run.
        trigger_type: what asked for the run.
        started_at: when the run began, aware UTC.
        config: the workflow's typed ``Config``.
        log: a structlog logger; its lines carry the workflow, the run's id and the attempt.
    """

    def __init__(
        self, *, run: WorkflowRun, config: ConfigT, log: FilteringBoundLogger, run_log: RunLogService, clock: Clock
    ) -> None:
        self.run_id = run.id
        self.workflow_id = run.workflow_id
        self.attempt = run.attempt
        self.trigger_type: TriggerType = run.trigger_type
        self.started_at = run.started_at
        self.config = config
        self.log = log
        self._run_log = run_log
        self._clock = clock

    def now(self) -> datetime:
        """The time by the clock that the engine goes by: aware UTC."""
        return self._clock.now()

    async def last_success(self) -> WorkflowRun | None:
        """This workflow's latest successful run (by ``started_at``), or None; its ``result`` is plain JSON.

        Raises:
            StoreUnavailable: the run log does not answer; None would mean "never", which is another thing.
        """
        runs, _ = await self._run_log.list_runs(self.workflow_id, limit=1, status=RunStatus.SUCCESS)
        return runs[0] if runs else None
