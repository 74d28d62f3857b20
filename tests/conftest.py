from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from autopilot.core.store import Store
from autopilot.storage.sqlite.store import SQLiteStore
from autopilot.testing import ManualClock, MemoryStore
from tests.runs import MakeRun, run_factory

pytest_plugins = [
    "tests.api_client",
    "tests.bundles",
    "tests.default_store",
    "tests.emulator",
    "tests.functions_in_process",
    "tests.log_events",
    "tests.skips",
]


@pytest.fixture
def clock() -> ManualClock:
    """The time of the stores of this test."""
    return ManualClock()


@pytest.fixture
def make_run(clock: ManualClock) -> MakeRun:
    return run_factory(clock)


@pytest.fixture(
    params=("sqlite", "sqlite in memory", "memory", pytest.param("firestore", marks=pytest.mark.emulator)),
)
def store(request: pytest.FixtureRequest, clock: ManualClock) -> Iterator[Store]:
    """Every store there is, empty, with its time in the test's hands."""
    opened: Store
    if request.param == "firestore":
        host = request.getfixturevalue("firestore_emulator")
        request.getfixturevalue("monkeypatch").setenv("FIRESTORE_EMULATOR_HOST", host)
        from autopilot.storage.firestore.store import FirestoreStore

        opened = FirestoreStore(project=f"test-{uuid4().hex[:20]}", clock=clock, settled=timedelta(0))
    elif request.param == "sqlite":
        tmp_path: Path = request.getfixturevalue("tmp_path")
        opened = SQLiteStore(tmp_path / "made" / "on the way" / "runs.db", clock=clock)
    elif request.param == "memory":
        opened = MemoryStore(clock=clock)
    else:
        opened = SQLiteStore(":memory:", clock=clock)
    yield opened
    opened.close()
