"""Workflows over parts that a test chooses."""

from dataclasses import replace
from typing import Any, TypeVar

from autopilot import BaseWorkflow
from autopilot.base_workflow import equip
from autopilot.core.runtime import Runtime
from autopilot.core.store import RunLogService

WorkflowT = TypeVar("WorkflowT", bound=BaseWorkflow[Any, Any])


def equipped(workflow: WorkflowT, *, run_log: RunLogService | None = None, **parts: Any) -> WorkflowT:
    """``workflow`` over a run log, or the store of the settings, with these fields of its runtime replaced."""
    equip(workflow, replace(Runtime.over(run_log), **parts))
    return workflow
