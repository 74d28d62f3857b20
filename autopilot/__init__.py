"""Autopilot: durable workflows for Google Cloud Functions.

What a workflow's author imports::

    from autopilot import BaseWorkflow, RunContext, WorkflowManifest
"""

from autopilot.base_workflow import BaseWorkflow
from autopilot.context import RunContext
from autopilot.core.fan_out import MapItem, MapResult
from autopilot.errors import MapFailed, NonRetryable, StepInterrupted, StepTimeout
from autopilot.models import (
    Completion,
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
    "Completion",
    "MapFailed",
    "MapItem",
    "MapResult",
    "NonRetryable",
    "Retry",
    "RunContext",
    "RunStatus",
    "Schedule",
    "StepInterrupted",
    "StepTimeout",
    "Trigger",
    "TriggerType",
    "WorkflowManifest",
    "WorkflowRun",
]
