"""Runs for tests: complete, distinct, and like the last one where a test does not say otherwise."""

import itertools
from datetime import timedelta
from typing import Any, Protocol

from autopilot.core.clock import Clock
from autopilot.models import RunStatus, TriggerType, WorkflowRun


class MakeRun(Protocol):
    def __call__(self, **fields: Any) -> WorkflowRun: ...


def run_factory(clock: Clock) -> MakeRun:
    """Makes runs of the workflow ``digest``: successful, each started one second after the one before."""
    numbers = itertools.count(1)

    def make_run(**fields: Any) -> WorkflowRun:
        number = next(numbers)
        defaults: dict[str, Any] = {
            "id": f"run-{number:04}",
            "workflow_id": "digest",
            "status": RunStatus.SUCCESS,
            "trigger_type": TriggerType.HTTP,
            "started_at": clock.now() + timedelta(seconds=number),
        }
        return WorkflowRun(**defaults | fields)

    return make_run


def without_values(run: WorkflowRun) -> WorkflowRun:
    """``run`` as an instance lists it: payload and result are in the run log only."""
    return run.model_copy(update={"trigger_data": {}, "result": None})
