"""The databases: the only modules that know one. Each store is run log, journal and archive."""

from functools import cache
from typing import Protocol

from autopilot.core.journal import RunJournal
from autopilot.core.run_archive import RunArchive
from autopilot.core.run_log import RunLogService
from autopilot.settings import load_settings


class Store(RunLogService, RunJournal, RunArchive, Protocol):
    """A database that keeps run documents, seen as run log, as journal and as archive."""

    def close(self) -> None:
        """Let go of threads, files and connections, without waiting for a network. Using the store opens it again."""
        ...


@cache
def process_store() -> Store:
    """The process's one store, as the settings name it. Nothing is connected before its first use."""
    settings = load_settings()
    # Each driver is imported only where it is used; see core.run_log.
    if settings.store == "firestore":
        from autopilot.storage.firestore import FirestoreStore

        return FirestoreStore(project=settings.project, database=settings.firestore_database)
    from autopilot.storage.sqlite import SQLiteStore

    return SQLiteStore(settings.sqlite_path)


def reset_process_store() -> None:
    """Close the process's store, if there is one, and forget it."""
    if process_store.cache_info().currsize:
        process_store().close()
    process_store.cache_clear()
