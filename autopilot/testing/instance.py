"""One instance of a workflow under observation: what it does, one moment after the other, and where it is killed."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, TypeVar

from autopilot.core.runtime import StepProbe
from autopilot.core.shutdown import Shutdown
from autopilot.core.steps.keys import is_step
from autopilot.core.store import ClaimOutcome, Lease, RunClaim, RunStart, StartOutcome, StepRecord, Store
from autopilot.core.tasks import uninterrupted
from autopilot.errors import AttemptStopped, StepNotAwaited
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
    went_on: bool = False
    """A killed instance's ``execute`` returned all the same, or a body, or a task asked for another step after it was
    told of the end: its code may have handled that."""
    not_awaited: list[str] = field(default_factory=list)
    """The errors of the steps that failed because they did not await a step."""

    def add(self, other: "Trace") -> None:
        """Take over what another instance did after these."""
        self.moments += other.moments
        self.bodies += other.bodies
        self.commits += other.commits
        self.went_on |= other.went_on
        self.not_awaited += other.not_awaited
        for run_id, lease in other.leases.items():
            if run_id not in self.leases or self.leases[run_id].attempt <= lease.attempt:
                self.leases[run_id] = lease
        for key, statuses in other.steps.items():
            self.steps.setdefault(key, []).extend(statuses)

    def copy(self) -> "Trace":
        """The same record, which what happens from now on does not change."""
        copied = Trace()
        copied.add(self)
        return copied


class InstanceObserver:
    """Called as instances do things, one after the other; by default nothing happens."""

    def begin_body(self, key: str) -> None: ...

    def end_body(self, key: str) -> None: ...

    def die(self) -> None:
        """The instance is killed now."""

    def gone(self) -> None:
        """Nothing of a killed instance is under way any more."""


_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)

_NOBODY = InstanceObserver()


class Instance(StepProbe):
    """The life of an instance, and its death.

    Args:
        store: what it would use if nobody looked.
        kill_at: the moment that it does not survive: by its text, the first such; or by its number, from 0.
        shut_down_at: the moment at which it gets SIGTERM.
        pause_at: the moment at which it stops: from then on each call of its store waits for :meth:`wake`.
        lease_duration: instead of the lease that the engine asks for.
        observer: is called as the instance does things.
    """

    def __init__(
        self,
        store: Store,
        *,
        kill_at: str | int | None = None,
        shut_down_at: str | int | None = None,
        pause_at: str | int | None = None,
        lease_duration: timedelta | None = None,
        observer: InstanceObserver = _NOBODY,
    ) -> None:
        self.trace = Trace()
        self.shutdown = Shutdown()
        self.store = ObservedStore(self, store, lease_duration)
        self._kill_at = kill_at
        self._shut_down_at = shut_down_at
        self._pause_at = pause_at
        self._observer = observer
        self.paused = asyncio.Event()
        """Set once it has stopped."""
        self._may_go_on = asyncio.Event()
        self._may_go_on.set()
        self.paused_at: str | None = None
        self._killed: InstanceKilled | None = None
        self._told: set[asyncio.Task[Any] | None] = set()
        """The task that was at work when it was killed, and so was told."""
        self._under_way: set[asyncio.Future[None]] = set()

    def before_body(self, run_id: str, key: str) -> None:
        self._notice_going_on()
        self.reach(f"before body {key}")
        self.trace.bodies[run_id, key] += 1
        self._observer.begin_body(key)

    def after_body(self, run_id: str, key: str) -> None:
        self._notice_going_on()
        self._observer.end_body(key)
        self.reach(f"after body {key}")

    def after_execution(self, run_id: str) -> None:
        self.trace.went_on |= self._killed is not None

    def wake(self) -> None:
        """Let a paused instance go on."""
        self._pause_at = None
        self._may_go_on.set()

    async def ready(self) -> None:
        """Return when the instance may call its store: not while it is paused, and never once it is dead."""
        if not self._may_go_on.is_set():
            self.paused.set()
            await uninterrupted(self._may_go_on.wait())
        self.require_alive()

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
        if self._killed is not None:
            self._observer.gone()

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
        if self._pause_at in (moment, number):
            self.paused_at = moment
            self._may_go_on.clear()
        if self._kill_at in (moment, number):
            self.kill(moment)

    def kill(self, moment: str) -> NoReturn:
        """It does not survive this moment."""
        self._killed = InstanceKilled(moment)
        self._told.add(asyncio.current_task())
        self._observer.die()
        raise self._killed

    def _notice_going_on(self) -> None:
        self.trace.went_on |= self._killed is not None and asyncio.current_task() in self._told


class ObservedStore:
    """An instance's store: every commit is a moment before and one after it. Dead instances are refused."""

    def __init__(self, instance: Instance, store: Store, lease_duration: timedelta | None) -> None:
        self._instance = instance
        self._store = store
        self._lease_duration = lease_duration
        self.on_step: Callable[[str, str, StepStatus], None] = lambda *_: None
        """Called with the run's id, the key and the status of each record of a step that was committed."""

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
        await self._instance.ready()
        return await self._store.get_run_steps(workflow_id, run_id)

    async def read_steps(self, lease: Lease) -> list[StepRecord]:
        await self._instance.ready()
        return await self._store.read_steps(lease)

    async def record_step(self, lease: Lease, step: StepRecord, *, expires_at: datetime) -> StepRecord:
        recording = self._store.record_step(lease, step, expires_at=expires_at)
        what = f"step {step.key} {step.status}" if is_step(step.key) else "retry"
        return await self._commit(what, recording, lambda recorded: self._recorded(lease, step, recorded))

    async def save_run(self, run: WorkflowRun) -> None:
        what = "end" if run.status.is_terminal else "release"
        if self._lease_duration is not None and run.due_at is not None:
            run = run.model_copy(update={"due_at": _LONG_AGO})  # free by whatever time the store has
        await self._commit(what, self._store.save_run(run), lambda _: None)

    async def get_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        await self._instance.ready()
        return await self._store.get_run(workflow_id, run_id)

    async def list_runs(
        self, workflow_id: str, *, limit: int = 50, start_after: str | None = None, status: RunStatus | None = None
    ) -> tuple[list[WorkflowRun], str | None]:
        await self._instance.ready()
        return await self._store.list_runs(workflow_id, limit=limit, start_after=start_after, status=status)

    async def get_stats(self, workflow_id: str) -> RunStats:
        await self._instance.ready()
        return await self._store.get_stats(workflow_id)

    async def get_latest_run(self, workflow_id: str) -> WorkflowRun | None:
        await self._instance.ready()
        return await self._store.get_latest_run(workflow_id)

    async def get_paused_runs(self) -> list[WorkflowRun]:
        await self._instance.ready()
        return await self._store.get_paused_runs()

    def close(self) -> None:
        """The store outlives its instances."""

    async def _commit(self, what: str, call: Coroutine[Any, Any, T], take: Callable[[T], None]) -> T:
        # To its end even if the caller is cancelled: what was committed must be in the account.
        return await uninterrupted(self._observe(what, call, take))

    async def _observe(self, what: str, call: Coroutine[Any, Any, T], take: Callable[[T], None]) -> T:
        with closing(call):  # when it comes to nothing, since the instance is dead
            self._instance.reach(f"before commit {what}")
            await self._instance.ready()
            with self._instance.committing():
                take(answer := await call)
                self._instance.trace.commits.append(what)
        self._instance.reach(f"after commit {what}")
        await self._instance.ready()
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
            self.on_step(lease.run_id, step.key, step.status)
        if step.error_type == StepNotAwaited.__name__ and step.error:
            self._instance.trace.not_awaited.append(step.error)
