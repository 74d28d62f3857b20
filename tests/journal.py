"""Short ways to the journal: runs that are started and claimed, steps that are recorded."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from autopilot.core.store import ClaimOutcome, Lease, RunStart, StepRecord, Store
from autopilot.models import RunStatus, StepStatus, WorkflowRun

LEASE = timedelta(minutes=10)
OVER = timedelta(0)
"""A lease that is over when it begins: the store's time may be a server's, which no test can move."""

# Far from every clock, for the same reason.
LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)
LONG_HENCE = datetime(2999, 1, 1, tzinfo=UTC)

STEP_BEGAN = datetime(2026, 3, 1, 12, 0, 7, 123456, tzinfo=UTC)


def changed(run: WorkflowRun, **fields: Any) -> WorkflowRun:
    return run.model_copy(update=fields)


def start_of(run: WorkflowRun, owner: str = "first", lease_duration: timedelta = LEASE) -> RunStart:
    return RunStart(run=run, owner=owner, incarnation=f"incarnation of {owner}", lease_duration=lease_duration)


async def started(store: Store, run: WorkflowRun, owner: str = "first", lease_duration: timedelta = OVER) -> Lease:
    """The hold of the first attempt of ``run``, which was created with this; its lease is over."""
    start = start_of(changed(run, status=RunStatus.RUNNING), owner, lease_duration)
    outcome = await store.start_run(start)
    assert outcome.created
    return Lease(workflow_id=run.workflow_id, run_id=run.id, attempt=1, owner=owner, incarnation=start.incarnation)


async def claimed(
    store: Store,
    run: WorkflowRun | Lease,
    owner: str = "second",
    *,
    lease_duration: timedelta = LEASE,
    reopen: bool = False,
    version: object = None,
) -> ClaimOutcome:
    """What comes of a claim of a run that is there."""
    run_id = run.id if isinstance(run, WorkflowRun) else run.run_id
    outcome = await store.claim_run(
        run.workflow_id,
        run_id,
        owner=owner,
        incarnation=f"incarnation of {owner}",
        lease_duration=lease_duration,
        reopen=reopen,
        version=version,
        revision=f"revision of {owner}",
    )
    assert outcome is not None
    return outcome


async def taken_over(store: Store, run: WorkflowRun | Lease, owner: str = "second", **how: Any) -> Lease:
    """The hold of a claim that succeeds."""
    lease = (await claimed(store, run, owner, **how)).lease
    assert lease is not None
    return lease


def a_step(key: str = "check", status: StepStatus = StepStatus.SUCCESS, **fields: Any) -> StepRecord:
    given: dict[str, Any] = {"attempt": 1, "tries": 1, "started_at": STEP_BEGAN}
    if status is not StepStatus.STARTED:
        given["ended_at"] = STEP_BEGAN + timedelta(seconds=1)
    if status is StepStatus.SUCCESS:
        given["result"] = '{"ok":true}'
    return StepRecord(key=key, status=status, **given | fields)


async def record(store: Store, lease: Lease, step: StepRecord) -> StepRecord:
    return await store.record_step(lease, step, expires_at=LONG_HENCE)


def by_key(steps: Iterable[StepRecord]) -> list[StepRecord]:
    return sorted(steps, key=lambda step: step.key)
