"""What a bundle serves: its workflows, and API v1 over them."""

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


@dataclass(frozen=True, slots=True)
class BundledApi:
    """API v1 and the dashboard of a bundle, behind one of its functions."""

    entry_point: str
    """The name in ``main.py`` that is served."""
    workflows: tuple[BundledWorkflow, ...]
    """What it shows."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What ``main.py`` serves."""

    workflows: tuple[BundledWorkflow, ...]
    api: BundledApi | None
