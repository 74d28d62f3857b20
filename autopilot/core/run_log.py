"""The process's store, as the settings name it, and its three views."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from autopilot.core.store import RunArchive, RunJournal, RunLogService, Store
from autopilot.core.tasks import both
from autopilot.models import RunStats, WorkflowRun
from autopilot.settings import StoreName, load_settings

__all__ = [
    "RunLogService",
    "get_run_archive",
    "get_run_journal",
    "get_run_log_service",
    "process_store",
    "read_past",
    "reset_run_log_service",
    "use_store",
]

STORES: dict[StoreName, str] = {
    "firestore": "autopilot.storage.firestore.store:open_store",
    "sqlite": "autopilot.storage.sqlite.store:open_store",
}
"""Each store by its name in the settings: ``module:function`` of what makes it from the settings.

Names and not imports, so that a process imports the driver of the store that it uses and no other (Firestore's costs
hundreds of milliseconds).
"""


class _ProcessStore:
    """The process's one store, once it was asked for."""

    opened: Store | None = None


def process_store() -> Store:
    """The process's one store, as the settings name it. Nothing is connected before its first use.

    Raises:
        SettingsInvalid: the settings name no store that can be used here.
    """
    if _ProcessStore.opened is None:
        settings = load_settings()
        module, _, opener = STORES[settings.store].partition(":")
        _ProcessStore.opened = getattr(import_module(module), opener)(settings)
    return _ProcessStore.opened


@contextmanager
def use_store(store: Store) -> Iterator[None]:
    """Within this, ``store`` is the process's store, whatever the settings say. For tests; nothing is closed."""
    before, _ProcessStore.opened = _ProcessStore.opened, store
    try:
        yield
    finally:
        _ProcessStore.opened = before


def get_run_log_service() -> RunLogService:
    """The run log that the settings name: one per process, opened at the first call, connected at the first use.

    Raises:
        SettingsInvalid: the settings name no store that can be used here.
    """
    return process_store()


def get_run_journal() -> RunJournal:
    """The journal beside the default run log; see :func:`get_run_log_service`."""
    return process_store()


def get_run_archive() -> RunArchive:
    """The archive beside the default run log; see :func:`get_run_log_service`."""
    return process_store()


def reset_run_log_service() -> None:
    """Close and forget the process's run log, journal and archive; the next call opens them again from the settings."""
    if _ProcessStore.opened is not None:
        _ProcessStore.opened.close()
        _ProcessStore.opened = None


async def read_past(run_log: RunLogService, workflow_id: str) -> tuple[RunStats, WorkflowRun | None]:
    """A workflow's statistics and its latest run: two reads, sent together.

    An error of either is raised once both have ended.
    """
    return await both(run_log.get_stats(workflow_id), run_log.get_latest_run(workflow_id))
