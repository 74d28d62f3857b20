import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from autopilot.core.store import StepRecord, Store
from autopilot.models import WorkflowRun
from tests.chaos.fleet import BUNDLE, Fleet

Serve = Callable[..., Awaitable[Fleet]]


@dataclass(frozen=True, slots=True)
class Records:
    """What the processes have in common, and this process's view of it."""

    store: Store
    env: Mapping[str, str]

    async def steps(self, run: WorkflowRun) -> list[StepRecord]:
        """All that is recorded of a run's steps."""
        return await self.store.get_run_steps(run.workflow_id, run.id)


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Shown when a test fails. To see the same moments again, put the number that was told in place of the drawn one."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"chance: Random({seed})")  # noqa: T201 - pytest shows it beside a failure
    return random.Random(seed)


@pytest.fixture
def firestore(firestore_emulator: str, monkeypatch: pytest.MonkeyPatch) -> Records:
    """A database of this test's own in the emulator."""
    from autopilot.storage.firestore.store import FirestoreStore

    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator)
    project = f"test-{uuid4().hex[:20]}"
    env = {
        "AUTOPILOT_STORE": "firestore",
        "FIRESTORE_EMULATOR_HOST": firestore_emulator,
        "GOOGLE_CLOUD_PROJECT": project,
    }
    return Records(FirestoreStore(project=project), env)


@pytest.fixture
def sqlite(tmp_path: Path) -> Records:
    """One file for all processes."""
    from autopilot.storage.sqlite.store import SQLiteStore

    path = tmp_path / "runs.db"
    return Records(SQLiteStore(path), {"AUTOPILOT_STORE": "sqlite", "AUTOPILOT_SQLITE_PATH": str(path)})


@pytest.fixture
async def serve(tmp_path: Path, chance: random.Random) -> AsyncIterator[Serve]:
    """Starts processes that serve a function on the records of a test; they end with it, and tell if it failed."""
    fleets: list[Fleet] = []

    async def start(target: str, records: Records, *, bundle: str = BUNDLE) -> Fleet:
        fleet = Fleet(target, tmp_path, records.env, chance, bundle=bundle)
        fleets.append(fleet)
        await fleet.start()
        return fleet

    yield start
    for fleet in fleets:
        await fleet.close()
        print(fleet.logs())  # noqa: T201 - pytest shows it beside a failure
