"""The fixtures of the stores' own tests."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from autopilot.core.clock import random_id
from autopilot.storage.sqlite.database import Database
from autopilot.storage.sqlite.store import SQLiteStore
from autopilot.testing import ManualClock
from tests.firestore_wire import Wire

OpenStore = Callable[[Path], SQLiteStore]


@pytest.fixture
def wire(firestore_emulator: str, monkeypatch: pytest.MonkeyPatch) -> Wire:
    """The wire to a database of this test's own, in the emulator."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator)
    return Wire(project=f"test-{random_id()}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def open_store(clock: ManualClock) -> Iterator[OpenStore]:
    """Opens stores whose calls have 200 ms, by the test's clock, and closes them."""
    stores: list[SQLiteStore] = []

    def open_(path: Path) -> SQLiteStore:
        stores.append(SQLiteStore(path, clock=clock, deadline=timedelta(milliseconds=200), deadline_clock=clock))
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


@pytest.fixture
def database(path: Path, clock: ManualClock) -> Iterator[Database]:
    """A file whose calls have 200 ms, by the test's clock."""
    with closing(Database(str(path), 0.2, lambda _: None, clock)) as opened:
        yield opened
