"""One instance of a workflow under observation: what it does, one moment after the other, and where it is killed."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from autopilot.core.runtime import StepProbe
from autopilot.core.shutdown import Shutdown
from autopilot.core.steps.keys import is_step
from autopilot.core.store import ClaimOutcome, Lease, RunClaim, RunStart, StartOutcome, StepRecord, Store
from autopilot.core.tasks import uninterrupted
from autopilot.errors import AttemptStopped
from autopilot.models import RunStats, RunStatus, StepStatus, WorkflowRun

T = TypeVar("T")

BodyKey = tuple[str, str]
"""A run's id and the full key of one of its steps."""


class InstanceKilled(AttemptStopped):
    """The instance was killed at ``moment``, as a test asked for; nothing that it did afterwards has any effect.

    No ``Exception``: the code under test must not handle what in reality runs no code at all.
    """

    def __init__(self, moment: str) -> None:
        super().__init__(f"the instance was killed {moment}")
        self.moment = moment


@dataclass(slots=True)
class Trace:
    """The record of what an instance, or several, did."""

    moments: list[str] = field(default_factory=list)
    """``before`` or ``after``, then ``body <key>`` or ``commit <what>``; see :meth:`Harness.run`."""
    bodies: Counter[BodyKey] = field(default_factory=Counter)
    """How often each body was begun."""
    commits: list[str] = field(default_factory=list)
    """What was committed."""
    steps: dict[BodyKey, list[StepStatus]] = field(default_factory=dict)
    """Each step's records, in order."""
    leases: dict[str, Lease] = field(default_factory=dict)
    """The latest hold on each run."""

    def add(self, other: "Trace") -> None:
        """Take over what another instance did after these."""
        self.moments += other.moments
        self.bodies += other.bodies
        self.commits += other.commits
        self.leases |= other.leases
        for key, statuses in other.steps.items():
            self.steps.setdefault(key, []).extend(statuses)


class Instance(StepProbe):
    """The life of an instance, and its death.

    Args:
        store: what it would use if nobody looked.
        kill_at: the moment that it does not survive: by its text, the first such; or by its number, from 0.
        shut_down_at: the moment at which it gets SIGTERM.
        lease: instead of the lease that the engine asks for.
    """

    def __init__(
        self,
        store: Store,
        *,
        kill_at: str | int | None = None,
        shut_down_at: str | int | None = None,
        lease_duration: timedelta | None = None,
    ) -> None:
        self.trace = Trace()
        self.shutdown = Shutdown()
        self.store = ObservedStore(self, store, lease_duration)
        self._kill_at = kill_at
        self._shut_down_at = shut_down_at
        self._killed: InstanceKilled | None = None
        self._under_way: set[asyncio.Future[None]] = set()

    def before_body(self, run_id: str, key: str) -> None:
        self.reach(f"before body {key}")
        self.trace.bodies[run_id, key] += 1

    def after_body(self, run_id: str, key: str) -> None:
        self.reach(f"after body {key}")

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Within this a commit is on its way to the store: it arrives even if the instance is killed meanwhile."""
        arrived = asyncio.get_running_loop().create_future()
        self._under_way.add(arrived)
        try:
            yield
        finally:
            self._under_way.discard(arrived)
            arrived.set_result(None)

    async def settle(self) -> None:
        """Return when every commit that was on its way has arrived."""
        while self._under_way:
            await asyncio.wait(set(self._under_way))

    def require_alive(self) -> None:
        """A dead instance does nothing: whatever it tries ends here."""
        if self._killed is not None:
            raise self._killed

    def reach(self, moment: str) -> None:
        """It is ``moment`` now; it may be the last one."""
        self.require_alive()
        number = len(self.trace.moments)
        self.trace.moments.append(moment)
        if self._shut_down_at in (moment, number):
            self.shutdown.begin()
        if self._kill_at in (moment, number):
            self._killed = InstanceKilled(moment)
            raise self._killed


class ObservedStore:
    """An instance's store: every commit is a moment before and one after it. Dead instances are refused."""

    def __init__(self, instance: Instance, store: Store, lease_duration: timedelta | None) -> None:
        self._instance = instance
        self._store = store
        self._lease_duration = lease_duration

    async def start_run(self, start: RunStart) -> StartOutcome:
        if self._lease_duration is not None:
            start = replace(start, lease_duration=self._lease_duration)
        return await self._commit("start", self._store.start_run(start), lambda found: self._started(start, found))

    async def claim_run(
        self, workflow_id: str, run_id: str, claim: RunClaim, *, version: object = None
    ) -> ClaimOutcome | None:
        if self._lease_duration is not None:
            claim = replace(claim, lease_duration=self._lease_duration)
        return await self._commit(
            "claim", self._store.claim_run(workflow_id, run_id, claim, version=version), self._claimed
        )

    async def get_run_steps(self, workflow_id: str, run_id: str) -> list[StepRecord]:
        self._instance.require_alive()
        return await self._store.get_run_steps(workflow_id, run_id)

    async def read_steps(self, lease: Lease) -> list[StepRecord]:
        self._instance.require_alive()
        return await self._store.read_steps(lease)

    async def record_step(self, lease: Lease, step: StepRecord, *, expires_at: datetime) -> StepRecord:
        recording = self._store.record_step(lease, step, expires_at=expires_at)
        what = f"step {step.key} {step.status}" if is_step(step.key) else "retry"
        return await self._commit(what, recording, lambda recorded: self._recorded(lease, step, recorded))

    async def save_run(self, run: WorkflowRun) -> None:
        what = "end" if run.status.is_terminal else "release"
        await self._commit(what, self._store.save_run(run), lambda _: None)

    async def get_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        self._instance.require_alive()
        return await self._store.get_run(workflow_id, run_id)

    async def list_runs(
        self, workflow_id: str, *, limit: int = 50, start_after: str | None = None, status: RunStatus | None = None
    ) -> tuple[list[WorkflowRun], str | None]:
        self._instance.require_alive()
        return await self._store.list_runs(workflow_id, limit=limit, start_after=start_after, status=status)

    async def get_stats(self, workflow_id: str) -> RunStats:
        self._instance.require_alive()
        return await self._store.get_stats(workflow_id)

    async def get_latest_run(self, workflow_id: str) -> WorkflowRun | None:
        self._instance.require_alive()
        return await self._store.get_latest_run(workflow_id)

    async def get_paused_runs(self) -> list[WorkflowRun]:
        self._instance.require_alive()
        return await self._store.get_paused_runs()

    def close(self) -> None:
        """The store outlives its instances."""

    async def _commit(self, what: str, call: Coroutine[Any, Any, T], take: Callable[[T], None]) -> T:
        # To its end even if the caller is cancelled: what was committed must be in the account.
        return await uninterrupted(self._observe(what, call, take))

    async def _observe(self, what: str, call: Coroutine[Any, Any, T], take: Callable[[T], None]) -> T:
        with closing(call):  # when it comes to nothing, since the instance is dead
            self._instance.reach(f"before commit {what}")
            with self._instance.committing():
                take(answer := await call)
                self._instance.trace.commits.append(what)
        self._instance.reach(f"after commit {what}")
        return answer

    def _started(self, start: RunStart, found: StartOutcome) -> None:
        if found.created:
            run = found.run
            self._instance.trace.leases[run.id] = Lease(
                workflow_id=run.workflow_id,
                run_id=run.id,
                attempt=run.attempt,
                owner=start.owner,
                incarnation=start.incarnation,
            )

    def _claimed(self, found: ClaimOutcome | None) -> None:
        if found is not None and found.lease is not None:
            self._instance.trace.leases[found.run.id] = found.lease

    def _recorded(self, lease: Lease, step: StepRecord, recorded: StepRecord) -> None:
        if recorded == step:
            self._instance.trace.steps.setdefault((lease.run_id, step.key), []).append(step.status)
