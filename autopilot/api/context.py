"""The dependencies of API v1 and the dashboard, passed in once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autopilot.api.access import Access
from autopilot.api.catalog import WorkflowCatalog
from autopilot.api.log_lines import ReadLog
from autopilot.api.workflow_client import WorkflowClient
from autopilot.core.clock import Clock
from autopilot.core.shutdown import PROCESS_SHUTDOWN, Shutdown
from autopilot.core.store import RunArchive, RunLogService
from autopilot.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """The workflows, their records, their functions, and who may call."""

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
    """None: the log is not on this machine."""
    bundle: Path = Path()
    """The folder of the workflows' code, to find its lines in a traceback."""
