"""The workflows that the API knows: those of the bundle, and those whose runs are all that is left of them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from autopilot.base_workflow import BaseWorkflow, engine_of
from autopilot.models import WorkflowManifest


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A workflow without its records."""

    manifest: WorkflowManifest
    """Of a workflow that ``main.py`` no longer defines, the name and nothing but defaults."""
    payload_schema: dict[str, Any]
    defined: bool = True
    """False: ``main.py`` no longer defines it, or it could not be loaded. Its runs can be read and deleted."""

    @classmethod
    def without_code(cls, name: str) -> Self:
        """A workflow that ``main.py`` no longer defines."""
        return cls(WorkflowManifest(name=name, enabled=False), {}, defined=False)

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def title(self) -> str:
        """The workflow's name for people."""
        return self.manifest.display_name or self.manifest.name


class WorkflowCatalog:
    """The workflows of the bundle, by name. Iterates over them in the order of their titles."""

    def __init__(self, workflows: Iterable[BaseWorkflow[Any, Any]]) -> None:
        entries = (
            CatalogEntry(workflow.manifest, engine_of(workflow).schema.payload_json_schema()) for workflow in workflows
        )
        self._entries: Mapping[str, CatalogEntry] = {entry.name: entry for entry in entries}

    def __iter__(self) -> Iterator[CatalogEntry]:
        return iter(sorted(self._entries.values(), key=lambda entry: entry.title.casefold()))

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def get(self, name: str) -> CatalogEntry | None:
        """The workflow of this name, or None."""
        return self._entries.get(name)
