import pytest

from autopilot.core.clock import random_id
from tests.firestore_wire import Wire


@pytest.fixture
def wire(firestore_emulator: str, monkeypatch: pytest.MonkeyPatch) -> Wire:
    """The wire to a database of this test's own, in the emulator."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator)
    return Wire(project=f"test-{random_id()}")
