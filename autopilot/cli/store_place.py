"""Where the history is kept, in words."""

from autopilot.settings import Settings


def kept_in(settings: Settings) -> str:
    """The store that the settings name, for people."""
    if settings.store == "sqlite":
        return f"{settings.sqlite_path} (SQLite)"
    where = f"emulator at {settings.firestore_emulator_host}" if settings.firestore_emulator_host else "Firestore"
    return f"{where}, project {settings.project or 'of your credentials'}, database {settings.firestore_database}"
