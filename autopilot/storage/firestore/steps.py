"""What is kept of a run's steps in Firestore, and the fences that keep superseded attempts from adding to it.

In the collection ``steps`` of the run's document, under ids that begin with the run's incarnation::

    {incarnation}~step~{digest of the key}~begun    the last that is known of a step without a result; replaced at will
    {incarnation}~step~{digest of the key}~done     its success; created once and never changed
    {incarnation}~fence~{attempt}                   a newer attempt has claimed the run: this one writes no more

A fence is written in the commit of the claim, and each commit of a step requires that its attempt's fence is absent:
so the two cannot both go through in the wrong order. A success has a document of its own so that the server keeps it,
too, with a precondition that needs no reading: whoever comes later cannot create it again, and what is not a success
requires that it is absent.

Everything here carries ``expires_at``, the field of one TTL policy for the collection group ``steps``. No field but
the id is ever searched for.
"""

import hashlib
from dataclasses import fields as fields_of
from datetime import datetime, timedelta
from typing import Any

from google.cloud.firestore_v1 import SERVER_TIMESTAMP, AsyncClient, AsyncDocumentReference, DocumentSnapshot

from autopilot.core.store import Lease, StepRecord
from autopilot.errors import RunSuperseded
from autopilot.models import StepStatus
from autopilot.storage.firestore.calls import Calls, guarded
from autopilot.storage.firestore.clients import LoopClients
from autopilot.storage.firestore.documents import RUNS, STEPS, Fields, document_id, known_fields, new_document, plain
from autopilot.storage.firestore.queries import STEPS_OF_RUN, bind_query, within_ids

_FENCE_KEPT = timedelta(days=400)
"""Longer than a run can last (``max_age``: 366 days at most). An attempt that its host held back for longer finds no
fence, and nobody left who would read what it writes."""

_REMOVED_AT_ONCE = 400

_FIELDS = tuple(field.name for field in fields_of(StepRecord))


def fence_id(incarnation: str, attempt: int) -> str:
    """The id of the document that fences off an attempt of a run."""
    return f"{incarnation}~fence~{attempt}"


def encode_fence(*, by_attempt: int, owner: str, now: datetime) -> Fields:
    """A fence, put up by the claim of the attempt ``by_attempt``."""
    fence = {"by_attempt": by_attempt, "owner": owner, "claimed_at": SERVER_TIMESTAMP}
    return new_document(fence | {"expires_at": now + _FENCE_KEPT})


def _step_id(incarnation: str, key: str, *, done: bool) -> str:
    # A digest: a key may be longer than an id, and has characters that an id cannot have. Of two documents of one
    # step the one that is done comes last.
    digest = hashlib.sha256(key.encode()).hexdigest()[:40]
    return f"{incarnation}~step~{digest}~{'done' if done else 'begun'}"


def _encode_step(step: StepRecord, owner: str, expires_at: datetime) -> Fields:
    told = {name: getattr(step, name) for name in _FIELDS}
    return new_document(told | {"status": step.status.value, "owner": owner, "expires_at": expires_at})


def _read_step(snapshot: DocumentSnapshot[Any]) -> StepRecord | None:
    fields = known_fields(snapshot)
    if fields is None:
        return None
    told = {name: plain(fields[name]) for name in _FIELDS if name in fields}
    return StepRecord(**told | {"status": StepStatus(fields["status"])})


class StepDocuments:
    """The steps of the runs of one database."""

    def __init__(self, clients: LoopClients, calls: Calls) -> None:
        self._clients = clients
        self._calls = calls

    async def read(self, workflow_id: str, run_id: str, incarnation: str) -> list[StepRecord]:
        """Everything recorded of the steps of a run, in no particular order."""
        return await self._calls.settle(
            f"reading steps of run {run_id}", lambda _: self._read(workflow_id, run_id, incarnation)
        )

    async def _read(self, workflow_id: str, run_id: str, incarnation: str) -> list[StepRecord]:
        run = _run_of(self._clients.current(), workflow_id, run_id)
        query = within_ids(
            bind_query(run, STEPS_OF_RUN), run.collection(STEPS), f"{incarnation}~step~", f"{incarnation}~step~~"
        )
        found = query.stream(retry=None, timeout=self._calls.rpc_seconds)
        records = [record async for snapshot in found if (record := _read_step(snapshot)) is not None]
        return list({record.key: record for record in records}.values())

    async def remove(self, workflow_id: str, run_id: str, incarnation: str) -> None:
        """Remove the steps and fences of a run that is removed itself already."""
        await self._calls.settle(
            f"removing steps of run {run_id}", lambda _: self._remove(workflow_id, run_id, incarnation)
        )

    async def _remove(self, workflow_id: str, run_id: str, incarnation: str) -> None:
        client = self._clients.current()
        run = _run_of(client, workflow_id, run_id)
        query = within_ids(bind_query(run, STEPS_OF_RUN), run.collection(STEPS), f"{incarnation}~", f"{incarnation}~~")
        query = query.select(["__name__"]).limit(_REMOVED_AT_ONCE)
        removed = _REMOVED_AT_ONCE
        while removed == _REMOVED_AT_ONCE:
            batch = client.batch()
            async for snapshot in query.stream(retry=None, timeout=self._calls.rpc_seconds):
                batch.delete(snapshot.reference)
            removed = len(batch)
            if removed:
                await batch.commit(retry=None, timeout=self._calls.rpc_seconds)

    async def record(self, lease: Lease, step: StepRecord, *, expires_at: datetime) -> StepRecord:
        """See :meth:`~autopilot.core.store.RunJournal.record_step`."""
        fields = _encode_step(step, lease.owner, expires_at)
        return await self._calls.settle(
            f"recording step {step.key} of run {lease.run_id}",
            lambda tries: self._try_record(lease, step, fields, look=tries > 0),
        )

    async def _try_record(self, lease: Lease, step: StepRecord, fields: Fields, *, look: bool) -> StepRecord:
        client = self._clients.current()
        steps = _run_of(client, lease.workflow_id, lease.run_id).collection(STEPS)
        done = steps.document(_step_id(lease.incarnation, step.key, done=True))
        fence = steps.document(fence_id(lease.incarnation, lease.attempt))
        if look and (recorded := await self._look(lease, done, fence)) is not None:
            return recorded
        absent = client.write_option(exists=False)
        batch = client.batch()
        if step.status is StepStatus.SUCCESS:
            batch.create(done, fields)
        else:
            batch.set(steps.document(_step_id(lease.incarnation, step.key, done=False)), fields)
            batch.delete(done, absent)
        batch.delete(fence, absent)
        async with guarded():
            await batch.commit(retry=None, timeout=self._calls.rpc_seconds)
        return step

    async def _look(
        self, lease: Lease, done: AsyncDocumentReference, fence: AsyncDocumentReference
    ) -> StepRecord | None:
        """The success that is recorded of a step, after a commit that did not go through or whose answer was lost."""
        found = self._clients.current().get_all([done, fence], retry=None, timeout=self._calls.rpc_seconds)
        there = {snapshot.id: snapshot async for snapshot in found}
        fenced_off = known_fields(there[fence.id])
        if fenced_off is not None:
            raise RunSuperseded(lease.run_id, lease.attempt, fenced_off["by_attempt"])
        return _read_step(there[done.id])


def _run_of(client: AsyncClient, workflow_id: str, run_id: str) -> AsyncDocumentReference:
    return client.collection(RUNS).document(document_id(workflow_id, run_id))
