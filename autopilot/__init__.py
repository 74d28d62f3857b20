"""Autopilot: durable workflows for Google Cloud Functions.

What a workflow's author imports::

    from autopilot import BaseWorkflow, RunContext, WorkflowManifest
"""

from autopilot.base_workflow import BaseWorkflow
from autopilot.context import RunContext
from autopilot.models import (
    Retry,
    RunStatus,
    Schedule,
    Trigger,
    TriggerType,
    WorkflowManifest,
    WorkflowRun,
)

__all__ = [
    "BaseWorkflow",
    "Retry",
    "RunContext",
    "RunStatus",
    "Schedule",
    "Trigger",
    "TriggerType",
    "WorkflowManifest",
    "WorkflowRun",
]
