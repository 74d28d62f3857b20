"""A workflow as its bundle serves it."""

from dataclasses import dataclass
from typing import Any

from autopilot.base_workflow import BaseWorkflow
from autopilot.models import WorkflowManifest


@dataclass(frozen=True, slots=True)
class BundledWorkflow:
    """A workflow of a bundle, behind one of its functions."""

    entry_point: str
    """The name in ``main.py`` that is served."""
    workflow: type[BaseWorkflow[Any, Any]]

    @property
    def manifest(self) -> WorkflowManifest:
        return self.workflow.manifest
