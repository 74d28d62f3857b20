"""What the command takes from its environment, beside the settings."""

import os
from pathlib import Path


def direct_to_this_machine() -> dict[str, str | None]:
    """A workflow that calls its own function must not do so through the proxy of the world outside."""
    spared = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    value = ",".join(filter(None, [spared, "127.0.0.1"]))
    return {"NO_PROXY": value, "no_proxy": value}


def default_credentials_file() -> Path:
    """Where Google's libraries look for the credentials of programs on this machine."""
    if named := os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return Path(named)
    folder = os.environ.get("CLOUDSDK_CONFIG") or Path.home() / ".config" / "gcloud"
    return Path(folder) / "application_default_credentials.json"
