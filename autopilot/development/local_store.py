"""Where ``autopilot dev`` may keep its history."""

from autopilot.errors import SettingsInvalid
from autopilot.settings import Settings


def require_local_store(settings: Settings) -> None:
    """Refuse a database in the cloud: schedules would tick into it, and runs of deployed functions go on here.

    Raises:
        SettingsInvalid
    """
    if settings.store == "firestore" and settings.firestore_emulator_host is None:
        raise SettingsInvalid(
            "AUTOPILOT_STORE",
            "autopilot dev keeps its history in SQLite or in Firestore's emulator, and FIRESTORE_EMULATOR_HOST names none",
        )
