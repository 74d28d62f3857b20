"""What every call of the API works with, handed in once."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autopilot.api.access import Access
from autopilot.api.log_lines import ReadLog
from autopilot.api.workflow_client import WorkflowClient
from autopilot.base_workflow import BaseWorkflow, engine_of
from autopilot.core.clock import Clock
from autopilot.core.shutdown import PROCESS_SHUTDOWN, Shutdown
from autopilot.core.store import RunArchive, RunLogService
from autopilot.errors import WorkflowNotFound
from autopilot.models import WorkflowManifest
from autopilot.settings import Settings


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """What is known of a workflow without its records."""

    manifest: WorkflowManifest
    payload_schema: dict[str, Any]

    @property
    def title(self) -> str:
        """The workflow's name for people."""
        return self.manifest.display_name or self.manifest.name


class WorkflowCatalog:
    """The workflows of the bundle, by name."""

    def __init__(self, workflows: Iterable[BaseWorkflow[Any, Any]]) -> None:
        entries = (
            CatalogEntry(workflow.manifest, engine_of(workflow).schema.payload_json_schema()) for workflow in workflows
        )
        self._entries: Mapping[str, CatalogEntry] = {entry.manifest.name: entry for entry in entries}

    def __iter__(self) -> Iterator[CatalogEntry]:
        return iter(sorted(self._entries.values(), key=lambda entry: entry.title.casefold()))

    def __getitem__(self, name: str) -> CatalogEntry:
        """The workflow of this name.

        Raises:
            WorkflowNotFound: there is none.
        """
        if (entry := self._entries.get(name)) is None:
            raise WorkflowNotFound(name)
        return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """The workflows, their records, their functions, and who may ask."""

    settings: Settings
    catalog: WorkflowCatalog
    run_log: Callable[[], RunLogService]
    archive: Callable[[], RunArchive]
    client: WorkflowClient
    access: Access
    clock: Clock
    new_id: Callable[[], str]
    shutdown: Shutdown = PROCESS_SHUTDOWN
    read_log: ReadLog | None = None
    """None: what runs log is not at hand here."""
    bundle: Path = Path()
    """The folder of the workflows' code, whose lines a stack trace names."""
