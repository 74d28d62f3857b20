"""Runs in Firestore, by its asyncio client.

Each write is one batch: a guarded write of the run's document (it must not exist, or must be the version that was
decided on) and, with it or not at all, the change of its workflow's counters. So a write that is repeated by anyone
counts once, and no transaction is needed: a counter is never read to be written. A claim is such a write, with the
fence of the attempt before in the same batch; what is kept of steps is in firestore_steps.
"""

import random as system_random
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

from google.cloud.firestore_v1 import AsyncClient, AsyncQuery

from autopilot.core.clock import Clock, SystemClock
from autopilot.core.cursor import decode_cursor, encode_cursor
from autopilot.core.journal import ClaimOutcome, RunHold, RunStart, StartOutcome, StepRecord
from autopilot.core.limits import check_page_size
from autopilot.core.transitions import claimed, count_changes, follows, may_claim, stats_of
from autopilot.models import RunStats, RunStatus, WorkflowRun, is_run_id, is_workflow_name
from autopilot.storage.firestore_calls import Calls, guarded
from autopilot.storage.firestore_clients import LoopClients
from autopilot.storage.firestore_documents import (
    COUNTERS,
    ONLY_COUNTER,
    RUNS,
    STEPS,
    WORKFLOWS,
    Fields,
    StoredRun,
    changed_document,
    counter_of,
    document_id,
    encode_claim,
    encode_counts,
    encode_lease,
    encode_run,
    new_document,
    read_counts,
    read_run,
)
from autopilot.storage.firestore_memory import Remembered, RunMemory
from autopilot.storage.firestore_queries import (
    RUNS_IN_STATUS,
    RUNS_OF_WORKFLOW,
    RUNS_OF_WORKFLOW_IN_STATUS,
    after_position,
    bind_query,
)
from autopilot.storage.firestore_steps import StepDocuments, encode_fence, fence_id


class FirestoreStore:
    """Run log and journal in one Firestore database. Nothing is opened before the first call."""

    def __init__(
        self,
        *,
        project: str | None = None,
        database: str = "(default)",
        clock: Clock = SystemClock(),  # noqa: B008 - it has no state
        deadline: timedelta = timedelta(seconds=10),
        random: Callable[[], float] = system_random.random,
        connect: Callable[[], AsyncClient] | None = None,
    ) -> None:
        """
        Args:
            project: None is what the environment says.
            deadline: of one call, with all its attempts.
            random: numbers from 0 to 1, for the pauses between attempts.
            connect: makes the client of an event loop, instead of ``project`` and ``database``.
        """
        self._clock = clock
        self._calls = Calls(deadline=deadline, clock=self._clock, random=random)
        self._clients = LoopClients(connect or (lambda: AsyncClient(project=project, database=database)))
        self._memory = RunMemory()
        self._steps = StepDocuments(self._clients, self._calls)

    async def start_run(self, start: RunStart) -> StartOutcome:
        run = start.run
        if run.status is RunStatus.RUNNING:
            run = run.model_copy(update={"due_at": self._clock.now() + start.lease})
        fields = encode_run(run)
        return await self._calls.settle(
            f"starting run {run.id}", lambda tries: self._try_start(start, run, fields, look=tries > 0)
        )

    async def _try_start(self, start: RunStart, run: WorkflowRun, fields: Fields, *, look: bool) -> StartOutcome:
        document = document_id(run.workflow_id, run.id)
        stored = await self._read(document) if look else None
        if stored is not None and stored.owner == start.owner:  # our own commit, whose answer was lost
            self._memory.put(document, Remembered.of_stored(stored))
            return StartOutcome(run=stored.run, created=True)
        if stored is not None and not stored.is_expired:
            return StartOutcome(run=stored.run, created=False, is_due=stored.is_due, version=stored)
        counter = counter_of(run.id, start.counter_shards)
        claim = encode_claim(owner=start.owner, nonce=start.nonce, lease=start.lease)
        await self._commit(
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
        nonce: str,
        lease: timedelta,
        reopen: bool = False,
        version: object = None,
    ) -> ClaimOutcome | None:
        if not is_workflow_name(workflow_id) or not is_run_id(run_id):
            return None
        document = document_id(workflow_id, run_id)
        known = version if isinstance(version, StoredRun) else None
        if known is not None and not may_claim(known.run, due=known.is_due, reopen=reopen):
            known = None  # it may have become due since

        async def claim(tries: int) -> ClaimOutcome | None:
            stored = known if known is not None and tries == 0 else await self._read(document)
            if stored is None or stored.is_expired:
                return None
            run, marked = stored.run, stored.nonce or nonce
            if stored.owner == owner and run.status is RunStatus.RUNNING:  # our own claim, whose answer was lost
                self._memory.put(document, Remembered.of_stored(stored))
                return ClaimOutcome(run=run, before=stored.claimed_from or run.status, hold=_hold(run, owner, marked))
            if not may_claim(run, due=stored.is_due, reopen=reopen):
                return ClaimOutcome(run=run, before=run.status, hold=None)
            return await self._take_over(stored, owner=owner, nonce=marked, lease=lease)

        return await self._calls.settle(f"claiming run {run_id}", claim)

    async def _take_over(self, stored: StoredRun, *, owner: str, nonce: str, lease: timedelta) -> ClaimOutcome:
        before, now = stored.run.status, self._clock.now()
        run = claimed(stored.run, due_at=now + lease)
        fields = encode_run(run)
        claim = encode_claim(owner=owner, nonce=nonce, lease=lease, claimed_from=before)
        await self._commit(
            run,
            fields,
            write=Remembered.of_stored(stored).differing(fields) | claim,
            over=stored.update_time,
            counter=stored.counter,
            counted=before,
            fence=(
                fence_id(nonce, stored.run.attempt),
                encode_fence(by_attempt=run.attempt, owner=owner, now=now),
            ),
        )
        return ClaimOutcome(run=run, before=before, hold=_hold(run, owner, nonce))

    async def read_steps(self, hold: RunHold) -> list[StepRecord]:
        return await self._steps.read(hold)

    async def record_step(
        self, hold: RunHold, step: StepRecord, *, expires_at: datetime, known: StepRecord | None = None
    ) -> StepRecord:
        return await self._steps.record(hold, step, expires_at=expires_at)

    async def save_run(self, run: WorkflowRun) -> None:
        fields = encode_run(run)
        await self._calls.settle(f"saving run {run.id}", lambda _: self._try_save(run, fields))

    async def _try_save(self, run: WorkflowRun, fields: Fields) -> None:
        document = document_id(run.workflow_id, run.id)
        known = self._memory.take(document)
        if known is None and (stored := await self._read(document)) is not None:
            known = Remembered.of_stored(stored)
        if known is None:
            first = {"counter": ONLY_COUNTER}
            await self._commit(run, fields, write=fields | first, over=None, counter=ONLY_COUNTER, counted=None)
        elif (write := known.differing(fields)) and follows(
            run, started_at=known.started_at, attempt=known.attempt, status=known.status
        ):
            if run.status is RunStatus.RUNNING and write.get("due_at") is not None:
                write |= encode_lease(write["due_at"] - self._clock.now())
            await self._commit(
                run, fields, write=write, over=known.update_time, counter=known.counter, counted=known.status
            )
        else:
            self._memory.put(document, known)

    async def _commit(
        self,
        run: WorkflowRun,
        fields: Fields,
        *,
        write: Fields,
        over: datetime | None,
        counter: str,
        counted: RunStatus | None,
        fence: tuple[str, Fields] | None = None,
    ) -> None:
        """Write a run's document and move its count, at once or not at all; remember what was written.

        Args:
            fields: those of the run.
            write: what of them and beside them is sent; in a document that exists the rest stays as it is.
            over: the version of the document that is written over; None: there must be none.
            counted: the status under which the run is counted so far.
            fence: the id and the fields of the fence that is put up with this.
        """
        client = self._clients.current()
        batch = client.batch()
        document = document_id(run.workflow_id, run.id)
        reference = client.collection(RUNS).document(document)
        if over is None:
            batch.create(reference, new_document(write))
        else:
            batch.update(reference, changed_document(write), client.write_option(last_update_time=over))
        if fence is not None:
            name, about = fence
            batch.set(reference.collection(STEPS).document(name), about)
        if changes := count_changes(counted, run.status):
            counters = client.collection(WORKFLOWS, run.workflow_id, COUNTERS)
            batch.set(counters.document(counter), encode_counts(changes), merge=True)
        async with guarded():
            results = await batch.commit(retry=None, timeout=self._calls.rpc_seconds)
        self._memory.put(document, Remembered.of(run, fields, counter, results[0].update_time))

    async def get_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        if not is_workflow_name(workflow_id) or not is_run_id(run_id):
            return None
        document = document_id(workflow_id, run_id)
        stored = await self._calls.settle(f"reading run {run_id}", lambda _: self._read(document))
        return None if stored is None else stored.run

    async def list_runs(
        self, workflow_id: str, *, limit: int = 50, start_after: str | None = None, status: RunStatus | None = None
    ) -> tuple[list[WorkflowRun], str | None]:
        check_page_size(limit)
        position = None if start_after is None else decode_cursor(start_after, workflow_id, status)
        if not is_workflow_name(workflow_id):
            return [], None

        def page(client: AsyncClient) -> AsyncQuery:
            if status is None:
                query = bind_query(client, RUNS_OF_WORKFLOW, workflow_id)
            else:
                query = bind_query(client, RUNS_OF_WORKFLOW_IN_STATUS, workflow_id, status.value)
            if position is not None:
                query = after_position(client, query, workflow_id, position)
            return query.limit(limit + 1)

        runs = await self._find_runs(f"listing runs of {workflow_id}", page)
        return runs[:limit], encode_cursor(runs[limit - 1], status) if len(runs) > limit else None

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
        runs = await self._find_runs(
            f"reading the latest run of {workflow_id}",
            lambda client: bind_query(client, RUNS_OF_WORKFLOW, workflow_id).limit(1),
        )
        return runs[0] if runs else None

    async def get_paused_runs(self) -> list[WorkflowRun]:
        return await self._find_runs(
            "reading paused runs", lambda client: bind_query(client, RUNS_IN_STATUS, RunStatus.PAUSED.value)
        )

    def close(self) -> None:
        self._clients.drop()
        self._memory.clear()

    async def _read(self, document: str) -> StoredRun | None:
        reference = self._clients.current().collection(RUNS).document(document)
        return read_run(await reference.get(retry=None, timeout=self._calls.rpc_seconds))

    async def _read_counters(self, workflow_id: str) -> list[dict[str, int]]:
        counters = self._clients.current().collection(WORKFLOWS, workflow_id, COUNTERS)
        found = counters.stream(retry=None, timeout=self._calls.rpc_seconds)
        return [read_counts(snapshot) async for snapshot in found]

    async def _find_runs(self, doing: str, query: Callable[[AsyncClient], AsyncQuery]) -> list[WorkflowRun]:
        async def find(_: int) -> list[WorkflowRun]:
            found = query(self._clients.current()).stream(retry=None, timeout=self._calls.rpc_seconds)
            return [stored.run async for snapshot in found if (stored := read_run(snapshot)) is not None]

        return await self._calls.settle(doing, find)


def _hold(run: WorkflowRun, owner: str, nonce: str) -> RunHold:
    return RunHold(workflow_id=run.workflow_id, run_id=run.id, attempt=run.attempt, owner=owner, nonce=nonce)
