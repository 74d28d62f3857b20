import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from autopilot.core.journal import RunHold, StepRecord
from autopilot.models import WorkflowRun
from autopilot.storage import Store
from tests.chaos.fleet import BUNDLE, Fleet

Serve = Callable[..., Awaitable[Fleet]]


@dataclass(frozen=True, slots=True)
class Records:
    """What the processes have in common, and this process's view of it."""

    store: Store
    env: Mapping[str, str]

    async def steps(self, run: WorkflowRun) -> list[StepRecord]:
        """All that is recorded of a run's steps."""
        nonce = await _nonce(self.store, run)
        hold = RunHold(workflow_id=run.workflow_id, run_id=run.id, attempt=run.attempt, owner="reader", nonce=nonce)
        return await self.store.read_steps(hold)


async def _nonce(store: Store, run: WorkflowRun) -> str:
    from autopilot.storage.firestore import FirestoreStore
    from autopilot.storage.firestore_documents import document_id
    from autopilot.storage.sqlite import SQLiteStore

    if isinstance(store, FirestoreStore):
        stored = await store._read(document_id(run.workflow_id, run.id))
        assert stored is not None
        assert stored.nonce is not None
        return stored.nonce
    assert isinstance(store, SQLiteStore)
    statement = "SELECT nonce FROM runs WHERE workflow_id = ? AND id = ?"
    rows = await store._database.read(
        "the nonce", lambda db: db.execute(statement, (run.workflow_id, run.id)).fetchall()
    )
    nonce: str = rows[0][0]
    return nonce


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Shown when a test fails. To see the same moments again, put the number that was told in place of the drawn one."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"chance: Random({seed})")  # noqa: T201 - pytest shows it beside a failure
    return random.Random(seed)


@pytest.fixture
def firestore(firestore_emulator: str, monkeypatch: pytest.MonkeyPatch) -> Records:
    """A database of this test's own in the emulator."""
    from autopilot.storage.firestore import FirestoreStore

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
    from autopilot.storage.sqlite import SQLiteStore

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
