"""The process's own store, as the settings name it, in a file of the test's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from autopilot.core.run_log import process_store, reset_run_log_service
from autopilot.core.store import Store


@pytest.fixture
def default_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("AUTOPILOT_STORE", "sqlite")
    monkeypatch.setenv("AUTOPILOT_SQLITE_PATH", str(tmp_path / "runs.db"))
    reset_run_log_service()
    yield process_store()
    reset_run_log_service()
