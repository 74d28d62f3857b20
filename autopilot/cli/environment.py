"""What the command takes from its environment, beside the settings."""

import os
from pathlib import Path

from autopilot.observability import log_file_of
from autopilot.settings import Settings


def function_variables(settings: Settings) -> dict[str, str | None]:
    """What a function that is served on this machine finds in its environment, beside what is there.

    Its log is kept for ``autopilot logs``. A workflow that calls its own function does not do so through the proxy of
    the world outside.
    """
    spared = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    direct = ",".join(filter(None, [spared, "127.0.0.1"]))
    return {"AUTOPILOT_LOG_FILE": str(log_file_of(settings)), "NO_PROXY": direct, "no_proxy": direct}


def default_credentials_file() -> Path:
    """Where Google's libraries look for the credentials of programs on this machine."""
    if named := os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return Path(named)
    folder = os.environ.get("CLOUDSDK_CONFIG") or Path.home() / ".config" / "gcloud"
    return Path(folder) / "application_default_credentials.json"
