"""The environment of a measured run: logging as in the cloud, and the store that the settings name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from autopilot.core.run_log import reset_run_log_service
from autopilot.observability import configure_logging
from autopilot.settings import load_settings


@contextmanager
def cloud_logging() -> Iterator[None]:
    """Render every event as in production, and write it to the null device."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        configure_logging(load_settings({"AUTOPILOT_STORE": "firestore", "K_SERVICE": "x", "K_REVISION": "x-1"}))
        yield


@contextmanager
def settings(**variables: str) -> Iterator[None]:
    """Make the process's store the one that these variables name."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    reset_run_log_service()
    try:
        yield
    finally:
        reset_run_log_service()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
