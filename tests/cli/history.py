"""A history to look at: runs and steps in a store, one of them as hostile as text can be."""

import asyncio
from datetime import UTC, datetime, timedelta

from autopilot.core.store import Lease, RunStart, StepRecord, Store
from autopilot.models import RunStatus, StepStatus, TriggerType, WorkflowRun
from autopilot.storage.sqlite.store import SQLiteStore

HOSTILE = "[red]x[/red] \x1b[31m\x07 <script>alert(1)</script> \u202e\u009b31m\nsecond line"


def a_run(run_id: str, *, age: timedelta = timedelta(minutes=5), **fields: object) -> WorkflowRun:
    started_at = datetime.now(UTC) - age
    defaults: dict[str, object] = {
        "id": run_id,
        "workflow_id": "digest",
        "status": RunStatus.SUCCESS,
        "trigger_type": TriggerType.SCHEDULE,
        "started_at": started_at,
        "completed_at": started_at + timedelta(seconds=2),
        "duration_ms": 1234,
    }
    return WorkflowRun.model_validate(defaults | fields)


FAILED = a_run(
    "f0123456789abcdef0123456789abcdef",
    status=RunStatus.FAILED,
    error=HOSTILE,
    error_type="ValueError",
    trigger_data={HOSTILE: HOSTILE},
    version="7",
    fingerprint="abcdef0123456789",
)


def write_history(path: str) -> None:
    """A failed run with two steps, a successful one of yesterday, and one of another workflow."""

    async def write(store: Store) -> None:
        started = FAILED.model_copy(update={"status": RunStatus.RUNNING, "error": None, "error_type": None})
        start = RunStart(run=started, owner="o", incarnation="n", lease_duration=timedelta(minutes=1))
        await store.start_run(start)
        await write_steps(store)
        await store.save_run(FAILED)
        await store.save_run(a_run("yesterday", age=timedelta(hours=25)))
        await store.save_run(a_run("other", workflow_id="shop", age=timedelta(hours=1)))

    store = SQLiteStore(path)
    asyncio.run(write(store))
    store.close()


def write_runs(path: str, *runs: WorkflowRun) -> None:
    async def write(store: Store) -> None:
        for run in runs:
            await store.save_run(run)

    store = SQLiteStore(path)
    asyncio.run(write(store))
    store.close()


async def write_steps(store: Store) -> None:
    lease = Lease(workflow_id="digest", run_id=FAILED.id, attempt=1, owner="o", incarnation="n")
    for key, status, error in (
        ("fetch", StepStatus.SUCCESS, None),
        (f"send[{HOSTILE[:3]}]", StepStatus.FAILED, HOSTILE),
    ):
        step = StepRecord(
            key=key,
            status=status,
            attempt=1,
            tries=2,
            started_at=FAILED.started_at,
            ended_at=FAILED.started_at + timedelta(milliseconds=250),
            result='{"n": 1}' if error is None else None,
            error=error,
            error_type=None if error is None else "ValueError",
        )
        await store.record_step(lease, step, expires_at=FAILED.started_at + timedelta(days=9))
