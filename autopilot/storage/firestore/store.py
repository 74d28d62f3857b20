"""Runs in Firestore, by its asyncio client.

How a run's document is written, with everything that must go with it, is in firestore_runs; what is kept of steps, and
the fences that keep a superseded attempt from adding to them, in firestore_steps; what people ask in firestore_archive.
"""

import random as system_random
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

from google.cloud.firestore_v1 import AsyncClient

from autopilot.core.clock import Clock, SystemClock
from autopilot.core.runs.transitions import claimed, follows, may_claim, stats_of
from autopilot.core.store import ClaimOutcome, Lease, RunFilter, RunStart, StartOutcome, StepRecord
from autopilot.models import RunStats, RunStatus, WorkflowRun, is_run_id, is_workflow_name
from autopilot.settings import Settings
from autopilot.storage.firestore.archive import FirestoreArchive
from autopilot.storage.firestore.calls import Calls
from autopilot.storage.firestore.clients import LoopClients
from autopilot.storage.firestore.documents import (
    COUNTERS,
    ONLY_COUNTER,
    WORKFLOWS,
    Fields,
    StoredRun,
    counter_of,
    document_id,
    encode_claim,
    encode_lease,
    encode_run,
    read_counts,
)
from autopilot.storage.firestore.memory import Remembered
from autopilot.storage.firestore.queries import RUNS_IN_STATUS, RUNS_OF_WORKFLOW, bind_query
from autopilot.storage.firestore.runs import RunDocuments
from autopilot.storage.firestore.steps import StepDocuments


class FirestoreStore(FirestoreArchive):
    """Run log, journal and archive in one Firestore database. Nothing is opened before the first call."""

    def __init__(
        self,
        *,
        project: str | None = None,
        database: str = "(default)",
        clock: Clock = SystemClock(),  # noqa: B008 - it has no state
        deadline: timedelta = timedelta(seconds=10),
        random: Callable[[], float] = system_random.random,
        connect: Callable[[], AsyncClient] | None = None,
        settled: timedelta = timedelta(seconds=2),
    ) -> None:
        """
        Args:
            project: None is what the environment says.
            deadline: of one call, with all its attempts.
            random: numbers from 0 to 1, for the pauses between attempts.
            connect: makes the client of an event loop, instead of ``project`` and ``database``.
            settled: how old a change is when it is told; see :class:`FirestoreArchive`.
        """
        calls = Calls(deadline=deadline, clock=clock, random=random)
        clients = LoopClients(connect or (lambda: AsyncClient(project=project, database=database)))
        super().__init__(
            clients,
            calls,
            runs=RunDocuments(clients, calls),
            steps=StepDocuments(clients, calls),
            clock=clock,
            settled=settled,
        )

    async def start_run(self, start: RunStart) -> StartOutcome:
        run = start.run
        if run.status is RunStatus.RUNNING:
            run = run.model_copy(update={"due_at": self._clock.now() + start.lease_duration})
        fields = encode_run(run)
        return await self._calls.settle(
            f"starting run {run.id}", lambda tries: self._try_start(start, run, fields, look=tries > 0)
        )

    async def _try_start(self, start: RunStart, run: WorkflowRun, fields: Fields, *, look: bool) -> StartOutcome:
        document = document_id(run.workflow_id, run.id)
        stored = await self._runs.read(document) if look else None
        if stored is not None and stored.owner == start.owner:  # our own commit, whose answer was lost
            self._runs.memory.put(document, Remembered.of_stored(stored))
            return StartOutcome(run=stored.run, created=True)
        if stored is not None and not stored.is_expired:
            return StartOutcome(run=stored.run, created=False, is_due=stored.is_due, version=stored)
        counter = counter_of(run.id, start.counter_shards)
        claim = encode_claim(owner=start.owner, incarnation=start.incarnation, lease_duration=start.lease_duration)
        await self._runs.write(
            run,
            fields,
            write=fields | claim | {"counter": counter},
            over=None if stored is None else stored.update_time,
            counter=counter,
            counted=None,  # a run that expired stays counted, as if Firestore had removed it in time
        )
        return StartOutcome(run=run, created=True)

    async def claim_run(
        self,
        workflow_id: str,
        run_id: str,
        *,
        owner: str,
        incarnation: str,
        lease_duration: timedelta,
        reopen: bool = False,
        version: object = None,
        revision: str | None = None,
    ) -> ClaimOutcome | None:
        if not is_workflow_name(workflow_id) or not is_run_id(run_id):
            return None
        document = document_id(workflow_id, run_id)
        known = version if isinstance(version, StoredRun) else None
        if known is not None and not may_claim(known.run, due=known.is_due, reopen=reopen):
            known = None  # it may have become due since

        async def claim(tries: int) -> ClaimOutcome | None:
            stored = known if known is not None and tries == 0 else await self._runs.read(document)
            if stored is None or stored.is_expired:
                return None
            run, marked = stored.run, stored.incarnation or incarnation
            if stored.owner == owner and run.status is RunStatus.RUNNING:  # our own claim, whose answer was lost
                self._runs.memory.put(document, Remembered.of_stored(stored))
                return ClaimOutcome(run=run, before=stored.claimed_from or run.status, lease=_lease(run, owner, marked))
            if not may_claim(run, due=stored.is_due, reopen=reopen):
                return ClaimOutcome(run=run, before=run.status, lease=None)
            return await self._take_over(
                stored, owner=owner, incarnation=marked, lease_duration=lease_duration, revision=revision
            )

        return await self._calls.settle(f"claiming run {run_id}", claim)

    async def _take_over(
        self, stored: StoredRun, *, owner: str, incarnation: str, lease_duration: timedelta, revision: str | None
    ) -> ClaimOutcome:
        now = self._clock.now()
        run = claimed(stored.run, now=now, due_at=now + lease_duration, revision=revision)
        await self._runs.supersede(
            stored, run, owner=owner, incarnation=incarnation, lease_duration=lease_duration, now=now
        )
        return ClaimOutcome(run=run, before=stored.run.status, lease=_lease(run, owner, incarnation))

    async def read_steps(self, lease: Lease) -> list[StepRecord]:
        return await self._steps.read(lease.workflow_id, lease.run_id, lease.incarnation)

    async def record_step(
        self, lease: Lease, step: StepRecord, *, expires_at: datetime, known: StepRecord | None = None
    ) -> StepRecord:
        return await self._steps.record(lease, step, expires_at=expires_at)

    async def save_run(self, run: WorkflowRun) -> None:
        fields = encode_run(run)
        await self._calls.settle(f"saving run {run.id}", lambda _: self._try_save(run, fields))

    async def _try_save(self, run: WorkflowRun, fields: Fields) -> None:
        document = document_id(run.workflow_id, run.id)
        known = self._runs.memory.take(document)
        if known is None and (stored := await self._runs.read(document)) is not None:
            known = Remembered.of_stored(stored)
        if known is None:
            first = {"counter": ONLY_COUNTER}
            await self._runs.write(run, fields, write=fields | first, over=None, counter=ONLY_COUNTER, counted=None)
        elif (write := known.differing(fields)) and follows(
            run, started_at=known.started_at, attempt=known.attempt, status=known.counted.status
        ):
            if run.status is RunStatus.RUNNING and write.get("due_at") is not None:
                write |= encode_lease(write["due_at"] - self._clock.now())
            await self._runs.write(
                run, fields, write=write, over=known.update_time, counter=known.counter, counted=known.counted
            )
        else:
            self._runs.memory.put(document, known)

    async def get_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        if not is_workflow_name(workflow_id) or not is_run_id(run_id):
            return None
        document = document_id(workflow_id, run_id)
        stored = await self._calls.settle(f"reading run {run_id}", lambda _: self._runs.read(document))
        return None if stored is None else stored.run

    async def list_runs(
        self, workflow_id: str, *, limit: int = 50, start_after: str | None = None, status: RunStatus | None = None
    ) -> tuple[list[WorkflowRun], str | None]:
        wanted = RunFilter(workflow_id=workflow_id, status=status)
        return await self.find_runs(wanted, limit=limit, start_after=start_after)

    async def get_stats(self, workflow_id: str) -> RunStats:
        if not is_workflow_name(workflow_id):
            return stats_of({})
        total: Counter[str] = Counter()
        for counts in await self._calls.settle(
            f"reading statistics of {workflow_id}", lambda _: self._read_counters(workflow_id)
        ):
            total.update(counts)
        return stats_of(total)

    async def get_latest_run(self, workflow_id: str) -> WorkflowRun | None:
        if not is_workflow_name(workflow_id):
            return None
        runs = await self._runs.find(
            f"reading the latest run of {workflow_id}",
            lambda client: bind_query(client, RUNS_OF_WORKFLOW, workflow_id).limit(1),
        )
        return runs[0].run if runs else None

    async def get_paused_runs(self) -> list[WorkflowRun]:
        found = await self._runs.find(
            "reading paused runs", lambda client: bind_query(client, RUNS_IN_STATUS, RunStatus.PAUSED.value)
        )
        return [stored.run for stored in found]

    def close(self) -> None:
        self._clients.drop()
        self._runs.memory.clear()

    async def _read_counters(self, workflow_id: str) -> list[dict[str, int]]:
        counters = self._clients.current().collection(WORKFLOWS, workflow_id, COUNTERS)
        found = counters.stream(retry=None, timeout=self._calls.rpc_seconds)
        return [read_counts(snapshot) async for snapshot in found]


def _lease(run: WorkflowRun, owner: str, incarnation: str) -> Lease:
    return Lease(workflow_id=run.workflow_id, run_id=run.id, attempt=run.attempt, owner=owner, incarnation=incarnation)


def open_store(settings: Settings) -> FirestoreStore:
    """The store as the settings describe it; see :data:`autopilot.core.run_log.STORES`."""
    return FirestoreStore(project=settings.project, database=settings.firestore_database)
