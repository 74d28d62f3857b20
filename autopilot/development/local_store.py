"""The store of ``autopilot dev`` and the commands that use this machine's history."""

from importlib.util import find_spec

from autopilot.errors import SettingsInvalid
from autopilot.settings import Settings


def kept_in(settings: Settings) -> str:
    """The store that the settings name, for people."""
    if settings.store == "sqlite":
        return f"{settings.sqlite_path} (SQLite)"
    where = f"emulator at {settings.firestore_emulator_host}" if settings.firestore_emulator_host else "Firestore"
    return f"{where}, project {settings.project or 'of your credentials'}, database {settings.firestore_database}"


def require_local_store(settings: Settings) -> None:
    """Refuse a database in the cloud: local schedules would start runs in it, and deployed runs would continue here.

    Raises:
        SettingsInvalid: the settings name one, or the client of its emulator is not installed.
    """
    if settings.store == "firestore" and not _has_client():
        raise SettingsInvalid(
            "AUTOPILOT_STORE", "Firestore's client is not installed; pip install 'autopilot-workflows[firestore]'"
        )
    if settings.store == "firestore" and settings.firestore_emulator_host is None:
        raise SettingsInvalid(
            "AUTOPILOT_STORE",
            "autopilot dev keeps its history in SQLite or in Firestore's emulator, and FIRESTORE_EMULATOR_HOST is not set",
        )


def _has_client() -> bool:
    try:
        return find_spec("google.cloud.firestore") is not None
    except ModuleNotFoundError:  # not even the packages that it is in
        return False
