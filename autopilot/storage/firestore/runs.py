"""The documents of runs: reading them, and the one commit by which they change.

Each write is one batch: a guarded write of the run's document (it must not exist, or must be the version that was
decided on) and, with it or not at all, the change of its workflow's counters and activity. So a write that is repeated
by anyone counts once, and no transaction is needed: a counter is never read to be written.
"""

from collections.abc import Callable
from datetime import datetime

from google.cloud.firestore_v1 import SERVER_TIMESTAMP, AsyncClient, AsyncDocumentReference, AsyncQuery

from autopilot.core.clock import Clock
from autopilot.core.runs.activity import activity_changes, activity_of
from autopilot.core.runs.transitions import count_changes, follows
from autopilot.models import RunStatus, WorkflowRun
from autopilot.storage.base import RunWrite
from autopilot.storage.encoding import Fields
from autopilot.storage.firestore.activity import activity_id, encode_activity
from autopilot.storage.firestore.calls import Calls
from autopilot.storage.firestore.documents import (
    ACTIVITY,
    COUNTERS,
    LISTED_FIELDS,
    ONLY_COUNTER,
    RUNS,
    STEPS,
    WORKFLOWS,
    ListedRun,
    RunDocument,
    changed_document,
    counter_of,
    document_id,
    encode_claim,
    encode_counts,
    encode_lease,
    encode_run,
    new_document,
    read_listed_run,
    read_run,
)
from autopilot.storage.firestore.memory import Counted, Remembered, RunMemory
from autopilot.storage.firestore.steps import encode_fence, fence_id


class RunDocuments:
    """The runs of one database, and what this process remembers of those that it wrote.

    Each method is an attempt of :meth:`Calls.settle <autopilot.storage.firestore.calls.Calls.settle>`. Writes raise
    :class:`~autopilot.storage.firestore.calls.GuardFailed` when the document is not the one they were decided on.
    """

    def __init__(self, calls: Calls, clock: Clock) -> None:
        self._calls = calls
        self._clock = clock
        self._memory = RunMemory()

    def remember(self, stored: RunDocument) -> None:
        """Remember a document that this process wrote, so that its next write needs no reading."""
        self._memory.put(_id_of(stored.run), Remembered.of_stored(stored))

    def forget(self) -> None:
        """Forget all documents."""
        self._memory.clear()

    async def read(self, workflow_id: str, run_id: str) -> RunDocument | None:
        """A run's document as it is now."""
        return read_run(await self._calls.get(self._reference(document_id(workflow_id, run_id))))

    async def find(self, query: Callable[[AsyncClient], AsyncQuery]) -> list[ListedRun]:
        """The runs that ``query`` finds, in its order; of each document only what a list shows is read."""
        found = await self._calls.read(query(self._calls.client).select(LISTED_FIELDS))
        return [listed for snapshot in found if (listed := read_listed_run(snapshot)) is not None]

    async def find_whole(self, query: Callable[[AsyncClient], AsyncQuery]) -> list[WorkflowRun]:
        """The runs that ``query`` finds, in its order, with payloads and results."""
        found = await self._calls.read(query(self._calls.client))
        return [stored.run for snapshot in found if (stored := read_run(snapshot)) is not None]

    async def save(self, run: WorkflowRun) -> None:
        """See :meth:`~autopilot.core.store.RunLogService.save_run`."""
        fields = encode_run(run)
        known = self._memory.take(_id_of(run))
        if known is None or not known.is_followed_by(run):  # it may have been removed since
            stored = await self.read(run.workflow_id, run.id)
            known = None if stored is None else Remembered.of_stored(stored)
        if known is None:
            first = fields | {"counter": ONLY_COUNTER}
            await self._commit(run, fields, first, over=None, counter=ONLY_COUNTER, counted=None)
        elif (write := known.differing(fields)) and follows(
            run, started_at=known.started_at, attempt=known.attempt, status=known.counted.status
        ):
            if run.status is RunStatus.RUNNING and write.get("due_at") is not None:
                write |= encode_lease(write["due_at"] - self._clock.now())
            await self._commit(run, fields, write, over=known.update_time, counter=known.counter, counted=known.counted)
        else:
            self._memory.put(_id_of(run), known)

    async def create(self, write: RunWrite, *, over: RunDocument | None) -> None:
        """Write a new run, in place of the expired one that is stored, if any.

        That one stays counted, as if Firestore had removed it in time.
        """
        fields = encode_run(write.run)
        counter = counter_of(write.run.id, write.counter_shards)
        await self._commit(
            write.run,
            fields,
            fields | encode_claim(write) | {"counter": counter},
            over=None if over is None else over.update_time,
            counter=counter,
            counted=None,
        )

    async def supersede(self, write: RunWrite, stored: RunDocument) -> None:
        """Write a run over the one that is stored, as its next attempt, and fence off the attempt before."""
        fields = encode_run(write.run)
        known = Remembered.of_stored(stored)
        fence = None
        if write.incarnation is not None:  # without one there are no steps to fence off
            by_attempt = encode_fence(by_attempt=write.run.attempt, owner=write.owner, now=self._clock.now())
            fence = fence_id(write.incarnation, stored.run.attempt), by_attempt
        await self._commit(
            write.run,
            fields,
            known.differing(fields) | encode_claim(write, claimed_from=stored.run.status),
            over=stored.update_time,
            counter=stored.counter,
            counted=known.counted,
            fence=fence,
        )

    async def remove(self, stored: RunDocument) -> None:
        """Remove a run's document if it is still as it was read; the run stays counted."""
        document = _id_of(stored.run)
        batch = self._calls.client.batch()
        guard = self._calls.client.write_option(last_update_time=stored.update_time)
        batch.delete(self._reference(document), guard)
        self._memory.take(document)
        await self._calls.commit(batch)

    async def _commit(
        self,
        run: WorkflowRun,
        fields: Fields,
        write: Fields,
        *,
        over: datetime | None,
        counter: str,
        counted: Counted | None,
        fence: tuple[str, Fields] | None = None,
    ) -> None:
        """Write a run's document and move what it is counted as, at once or not at all; remember what was written.

        Args:
            fields: those of the run.
            write: those to send; in a document that exists the others stay as they are.
            over: the version of the document that is written over; None: there must be none.
            counted: what the run is counted as so far; None: it is not.
            fence: the id and the fields of the fence to add.
        """
        client = self._calls.client
        batch = client.batch()
        reference = self._reference(_id_of(run))
        write = write | {"changed_at": SERVER_TIMESTAMP}
        if over is None:
            batch.create(reference, new_document(write))
        else:
            batch.update(reference, changed_document(write), client.write_option(last_update_time=over))
        if fence is not None:
            name, about = fence
            batch.set(reference.collection(STEPS).document(name), about)
        if changes := count_changes(counted.status if counted else None, run.status):
            counters = client.collection(WORKFLOWS, run.workflow_id, COUNTERS)
            batch.set(counters.document(counter), encode_counts(changes), merge=True)
        ended = activity_changes(counted.activity if counted else None, activity_of(run))
        for day, activity in encode_activity(ended).items():
            days = client.collection(WORKFLOWS, run.workflow_id, ACTIVITY)
            batch.set(days.document(activity_id(day, counter)), activity, merge=True)
        results = await self._calls.commit(batch)
        self._memory.put(_id_of(run), Remembered.of(run, fields, counter, results[0].update_time))

    def _reference(self, document: str) -> AsyncDocumentReference:
        return self._calls.client.collection(RUNS).document(document)


def _id_of(run: WorkflowRun) -> str:
    return document_id(run.workflow_id, run.id)
