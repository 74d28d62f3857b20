"""The documents of runs: reading them, and the one commit by which they change.

Each write is one batch: a guarded write of the run's document (it must not exist, or must be the version that was
decided on) and, with it or not at all, the change of its workflow's counters and activity. So a write that is repeated
by anyone counts once, and no transaction is needed: a counter is never read to be written.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from google.cloud.firestore_v1 import SERVER_TIMESTAMP, AsyncClient, AsyncQuery

from autopilot.core.runs.activity import activity_changes, activity_of
from autopilot.core.runs.transitions import count_changes
from autopilot.models import WorkflowRun
from autopilot.storage.firestore.activity import activity_id, encode_activity
from autopilot.storage.firestore.calls import Calls, guarded
from autopilot.storage.firestore.clients import LoopClients
from autopilot.storage.firestore.documents import (
    ACTIVITY,
    COUNTERS,
    RUNS,
    STEPS,
    WORKFLOWS,
    Fields,
    StoredRun,
    changed_document,
    document_id,
    encode_claim,
    encode_counts,
    encode_run,
    new_document,
    read_run,
)
from autopilot.storage.firestore.memory import Counted, Remembered, RunMemory
from autopilot.storage.firestore.steps import encode_fence, fence_id


class RunDocuments:
    """The runs of one database, and what this process remembers of those that it wrote."""

    def __init__(self, clients: LoopClients, calls: Calls) -> None:
        self._clients = clients
        self._calls = calls
        self.memory = RunMemory()

    async def read(self, document: str) -> StoredRun | None:
        """A run's document as it is now."""
        reference = self._clients.current().collection(RUNS).document(document)
        return read_run(await reference.get(retry=None, timeout=self._calls.rpc_seconds))

    async def find(self, doing: str, query: Callable[[AsyncClient], AsyncQuery]) -> list[StoredRun]:
        """The runs that ``query`` finds, in its order."""

        async def find(_: int) -> list[StoredRun]:
            found = query(self._clients.current()).stream(retry=None, timeout=self._calls.rpc_seconds)
            return [stored async for snapshot in found if (stored := read_run(snapshot)) is not None]

        return await self._calls.settle(doing, find)

    async def write(
        self,
        run: WorkflowRun,
        fields: Fields,
        *,
        write: Fields,
        over: datetime | None,
        counter: str,
        counted: Counted | None,
        fence: tuple[str, Fields] | None = None,
    ) -> None:
        """Write a run's document and move what it is counted as, at once or not at all; remember what was written.

        Args:
            fields: those of the run.
            write: what of them and beside them is sent; in a document that exists the rest stays as it is.
            over: the version of the document that is written over; None: there must be none.
            counted: what the run is counted as so far.
            fence: the id and the fields of the fence that is put up with this.

        Raises:
            GuardFailed: the document is another than the one that this was decided on.
        """
        client = self._clients.current()
        batch = client.batch()
        document = document_id(run.workflow_id, run.id)
        reference = client.collection(RUNS).document(document)
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
        async with guarded():
            results = await batch.commit(retry=None, timeout=self._calls.rpc_seconds)
        self.memory.put(document, Remembered.of(run, fields, counter, results[0].update_time))

    async def supersede(
        self,
        stored: StoredRun,
        run: WorkflowRun,
        *,
        owner: str,
        incarnation: str | None,
        lease_duration: timedelta,
        now: datetime,
    ) -> None:
        """Write a run over the one that is stored, as its next attempt, and fence the attempt before off.

        Args:
            incarnation: that of the run. None: it has none, and so no steps to fence off.

        Raises:
            GuardFailed: as :meth:`write`.
        """
        fields = encode_run(run)
        claim = encode_claim(
            owner=owner, incarnation=incarnation, lease_duration=lease_duration, claimed_from=stored.run.status
        )
        fence = None
        if incarnation is not None:
            by_attempt = encode_fence(by_attempt=run.attempt, owner=owner, now=now)
            fence = fence_id(incarnation, stored.run.attempt), by_attempt
        known = Remembered.of_stored(stored)
        await self.write(
            run,
            fields,
            write=known.differing(fields) | claim,
            over=stored.update_time,
            counter=stored.counter,
            counted=known.counted,
            fence=fence,
        )

    async def remove(self, stored: StoredRun) -> None:
        """Remove the document of a run, as it was read; what it is counted as stays.

        Raises:
            GuardFailed: it has changed, or is gone.
        """
        client = self._clients.current()
        document = document_id(stored.run.workflow_id, stored.run.id)
        batch = client.batch()
        reference = client.collection(RUNS).document(document)
        batch.delete(reference, client.write_option(last_update_time=stored.update_time))
        self.memory.take(document)
        async with guarded():
            await batch.commit(retry=None, timeout=self._calls.rpc_seconds)
