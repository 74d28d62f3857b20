"""A workflow under test: cold instances, a clock to move, and a look at everything that was recorded."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from autopilot.base_workflow import BaseWorkflow, equip
from autopilot.core.clock import random_id
from autopilot.core.engine import LEASE_MARGIN, Engine
from autopilot.core.outcome import Ended, Outcome
from autopilot.core.runtime import Runtime
from autopilot.core.steps.keys import is_step
from autopilot.core.steps.threads import start_thread
from autopilot.core.store import StepRecord, Store
from autopilot.models import RunStats, RunStatus, StepStatus, Trigger, TriggerType, WorkflowRun
from autopilot.testing.clock import ManualClock
from autopilot.testing.instance import Instance, InstanceObserver, Trace
from autopilot.testing.store import MemoryStore

MakeWorkflow = Callable[[], BaseWorkflow[Any, Any]]
"""A workflow's class, or a function that makes an instance with whatever its constructor needs."""


class Harness:
    """Runs a workflow as the cloud does, on a store and a clock of its own.

    Every invocation is served by a fresh instance, a cold start: what the workflow remembers, it remembers by its
    records. The settings and the process's store are not touched.

    Args:
        workflow: the workflow's class, or a function that makes an instance.
        store: default: a store in memory, with the limits that every store enforces, Firestore's among them.
        clock: what workflow and default store know of time. Sleeps and pauses between tries take no time.
        lease_duration: instead of the leases that the engine asks for; for a store whose time cannot be moved.
        seed: of ids and of the pauses between tries, which are the same in every test. With a ``store`` of yours ids
            are random: it may hold other runs.
        observer: is called as the instances do things.
        in_threads: whether plain functions run in threads, as they do in the cloud. Otherwise each runs in the event
            loop from its beginning to its end, always in the same order, and none can wait for another.
    """

    def __init__(
        self,
        workflow: MakeWorkflow,
        *,
        store: Store | None = None,
        clock: ManualClock | None = None,
        lease_duration: timedelta | None = None,
        seed: int = 0,
        observer: InstanceObserver | None = None,
        in_threads: bool = True,
    ) -> None:
        self.clock = clock or ManualClock()
        self.store: Store = store or MemoryStore(clock=self.clock)
        self.trace = Trace()
        require_maker(workflow)
        self._make = workflow
        self._lease_duration = lease_duration
        self._start_thread = start_thread if in_threads else run_in_loop
        self._observer = observer or InstanceObserver()
        self._random = random.Random(seed)  # noqa: S311 - no secrets: they are to be the same in every test
        self._new_id = self._seeded_id if store is None else random_id
        self._workflow = workflow()
        """Is asked for its name and manifest, and never runs."""

    async def run(
        self,
        payload: Any = None,
        *,
        identity: str | None = None,
        trigger_type: TriggerType = TriggerType.MANUAL,
        kill_at: str | int | None = None,
        shut_down_at: str | int | None = None,
    ) -> WorkflowRun:
        """Deliver a trigger to a cold instance, and return the run as that leaves it.

        Args:
            payload: a JSON object; None is an empty one.
            identity: the trigger's: delivered again, it is the same run.
            kill_at: the moment at which the instance is killed, such as ``"after body check"``, ``"before commit step
                check success"``, ``"after commit start"``, ``"before commit end"``; or its number in
                ``trace.moments``.
            shut_down_at: the moment at which it gets SIGTERM: it stops at its next ``await`` and releases the run,
                which is returned as ``running``.

        Raises:
            InstanceKilled: it was killed. Once its lease has ended (:meth:`expire_lease`), the same trigger continues.
            ValueError: ``kill_at`` or ``shut_down_at`` is a text that names no moment of any run.
            PayloadError, ConfigInvalid, SetupTimedOut: as :meth:`BaseWorkflow.run`.
        """
        return _run_of(
            await self.deliver(
                payload, identity=identity, trigger_type=trigger_type, kill_at=kill_at, shut_down_at=shut_down_at
            )
        )

    async def deliver(
        self,
        payload: Any = None,
        *,
        identity: str | None = None,
        trigger_type: TriggerType = TriggerType.MANUAL,
        kill_at: str | int | None = None,
        shut_down_at: str | int | None = None,
    ) -> Outcome:
        """:meth:`run`, and how durable its outcome is."""
        return await self._deliver(self._instance(kill_at, shut_down_at), payload, identity, trigger_type)

    async def _deliver(
        self, instance: Instance, payload: Any, identity: str | None, trigger_type: TriggerType
    ) -> Outcome:
        trigger = Trigger(identity=identity)
        return await self._serve(
            instance,
            lambda engine: engine.invoke(
                trigger_type,
                {} if payload is None else payload,
                trigger=trigger,
                require_start=identity is not None or engine.manifest.durability == "required",
            ),
        )

    async def pause(
        self,
        payload: Any = None,
        *,
        identity: str | None = None,
        trigger_type: TriggerType = TriggerType.MANUAL,
        pause_at: str | int,
    ) -> "PausedInstance":
        """Deliver a trigger to a cold instance that stops on the way, as a process does that gets no CPU or SIGSTOP.

        Time passes and other instances work while it stands still; see :meth:`PausedInstance.wake`.

        Args:
            payload, identity, trigger_type: as :meth:`run`.
            pause_at: the moment, as for ``kill_at``. At a body's, it stops at its next call of the store.
        """
        instance = self._instance(pause_at=pause_at)
        delivery = asyncio.ensure_future(self._deliver(instance, payload, identity, trigger_type))
        stopped = asyncio.ensure_future(instance.paused.wait())
        try:
            await asyncio.wait((delivery, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        return PausedInstance(instance, delivery)

    async def resume(self, run_id: str, *, kill_at: str | int | None = None) -> WorkflowRun:
        """Continue a run that nobody holds, as ``/runs/{id}/continue`` does; any other is returned as it is.

        Raises:
            RunNotFound: there is no such run.
            InstanceKilled: as :meth:`run`.
        """
        return _run_of(await self._serve(self._instance(kill_at), lambda engine: engine.resume(run_id)))

    async def retry(
        self, run_id: str, *, again_interrupted: Collection[str] = (), kill_at: str | int | None = None
    ) -> WorkflowRun:
        """Reopen a run that failed or was cancelled, as a person does by ``/runs/{id}/retry``.

        Raises:
            RunNotFound: there is no such run.
            RunStateConflict: it has not ended, or it succeeded or was skipped.
            InstanceKilled: as :meth:`run`.
        """
        return _run_of(
            await self._serve(
                self._instance(kill_at), lambda engine: engine.retry(run_id, again_interrupted=again_interrupted)
            )
        )

    def advance(self, by: timedelta) -> None:
        """Time passes."""
        self.clock.advance(by)

    def expire_lease(self) -> None:
        """As much time passes as any attempt can hold a run without ending."""
        self.advance(timedelta(seconds=self._workflow.manifest.timeout_seconds) + LEASE_MARGIN)

    async def runs(self, *, status: RunStatus | None = None) -> list[WorkflowRun]:
        """The workflow's recorded runs, newest first, at most 1,000."""
        listed, _ = await self.store.list_runs(self._workflow.workflow_id, limit=1000, status=status)
        found = [await self.get_run(run.id) for run in listed]  # whole, as a list is not
        return [run for run in found if run is not None]

    async def get_run(self, run_id: str) -> WorkflowRun | None:
        """The run as it is recorded."""
        return await self.store.get_run(self._workflow.workflow_id, run_id)

    async def steps(self, run_id: str) -> dict[str, StepRecord]:
        """What is recorded of the steps of a run that this harness ran, by their full keys."""
        lease = self.trace.leases.get(run_id)
        return (
            {}
            if lease is None
            else {step.key: step for step in await self.store.read_steps(lease) if is_step(step.key)}
        )

    async def stats(self) -> RunStats:
        """The workflow's recorded statistics."""
        return await self.store.get_stats(self._workflow.workflow_id)

    def executions(self, run_id: str) -> Counter[str]:
        """How often the body of each step of a run was begun, by the steps' full keys, over all attempts."""
        return Counter({key: count for (run, key), count in self.trace.bodies.items() if run == run_id})

    def _instance(
        self,
        kill_at: str | int | None = None,
        shut_down_at: str | int | None = None,
        pause_at: str | int | None = None,
    ) -> Instance:
        for moment in (kill_at, shut_down_at, pause_at):
            _require_moment(moment)
        return Instance(
            self.store,
            kill_at=kill_at,
            shut_down_at=shut_down_at,
            pause_at=pause_at,
            lease_duration=self._lease_duration,
            observer=self._observer,
        )

    def _runtime(self, instance: Instance) -> Runtime:
        return Runtime(
            run_log=lambda: instance.store,
            journal=lambda: instance.store,
            clock=self.clock,
            new_id=self._new_id,
            random=self._random.random,
            probe=instance,
            shutdown=instance.shutdown,
            start_thread=self._start_thread,
        )

    def _seeded_id(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    async def _serve(self, instance: Instance, call: Callable[[Engine], Awaitable[Outcome]]) -> Outcome:
        try:
            outcome = await call(equip(self._make(), self._runtime(instance)))
            instance.require_alive()
        finally:
            await instance.settle()
            self.trace.add(instance.trace)
        return outcome


_MOMENT = re.compile(
    rf"(before|after) (body .+|commit (start|claim|retry|end|release|step .+ ({'|'.join(StepStatus)})))", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class PausedInstance:
    """An instance that stands still in the middle of a delivery; or one that did not come to the moment, and is done."""

    _instance: Instance
    _delivery: "asyncio.Future[Outcome]"

    @property
    def moment(self) -> str | None:
        """The moment at which it stopped; None if that did not come."""
        return self._instance.paused_at if self._instance.paused.is_set() else None

    @property
    def trace(self) -> Trace:
        """The record of what it did until now."""
        return self._instance.trace.copy()

    async def wake(self) -> Outcome:
        """Let it go on to its end, and return how its delivery ended.

        Raises:
            RunStartFailed, SetupTimedOut, StoreError: as :meth:`Harness.deliver`.
        """
        self._instance.wake()
        return await self._delivery


def require_maker(workflow: object) -> None:
    """Raise if ``workflow`` makes no workflow.

    Raises:
        TypeError: it is an instance, or something else.
    """
    if not callable(workflow):
        raise TypeError(
            f"workflow: it must be a class, or a function that makes an instance, and not a {type(workflow).__name__}: "
            "each attempt begins cold, with an instance of its own"
        )


def _require_moment(moment: str | int | None) -> None:
    if isinstance(moment, str) and not _MOMENT.fullmatch(moment):
        raise ValueError(
            f"{moment!r} is no moment: it is 'before' or 'after', then 'body <step>' or 'commit <name>', where the name is "
            "start, claim, 'step <key> <status>', retry, end or release"
        )


def run_in_loop(run: Callable[[], None]) -> None:
    """Let ``run`` run in a later turn of the event loop, which it does not see: it may run one of its own."""
    loop = asyncio.get_running_loop()

    def turn() -> None:
        asyncio._set_running_loop(None)  # noqa: SLF001 - documented, for those who run loops
        try:
            run()
        finally:
            asyncio._set_running_loop(loop)  # noqa: SLF001

    loop.call_soon(turn)


def _run_of(outcome: Outcome) -> WorkflowRun:
    if isinstance(outcome, Ended) and outcome.interruption is not None:
        raise outcome.interruption
    return outcome.run
