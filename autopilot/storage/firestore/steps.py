"""The documents of a run's steps, and the fences that keep superseded attempts from adding to them.

In the collection ``steps`` of the run's document, under ids that begin with the run's incarnation::

    {incarnation}~step~{digest of the key}~begun    the last record of a step without a result; replaced at will
    {incarnation}~step~{digest of the key}~done     its success; created once and never changed
    {incarnation}~fence~{attempt}                   a newer attempt has claimed the run: this one writes no more

A fence is written in the commit of the claim, and each commit of a step requires that its attempt's fence is absent:
so the two cannot both go through in the wrong order. A success has a document of its own, so that a precondition that
needs no reading keeps it: it cannot be created again, and any other record of the step requires that it is absent.

Every document has ``expires_at``, the field of one TTL policy for the collection group ``steps``. Only ids are queried.
"""

import hashlib
from datetime import datetime, timedelta
from typing import Any

from google.cloud.firestore_v1 import SERVER_TIMESTAMP, AsyncDocumentReference, DocumentSnapshot

from autopilot.core.store import Lease, StepRecord
from autopilot.errors import RunSuperseded
from autopilot.models import StepStatus
from autopilot.storage.encoding import Fields, decode_step, encode_step
from autopilot.storage.firestore.calls import Calls
from autopilot.storage.firestore.documents import RUNS, STEPS, document_id, known_fields, new_document
from autopilot.storage.firestore.queries import bind_steps

_FENCE_KEPT = timedelta(days=400)
"""Longer than a run can last (``max_age``: 366 days at most). An attempt that its host held back for longer finds no
fence, and nothing reads what it writes then."""

_REMOVED_AT_ONCE = 400


def fence_id(incarnation: str, attempt: int) -> str:
    """The id of the document that fences off an attempt of a run."""
    return f"{incarnation}~fence~{attempt}"


def encode_fence(*, by_attempt: int, owner: str, now: datetime) -> Fields:
    """A fence, put up by the claim of the attempt ``by_attempt``."""
    fence = {"by_attempt": by_attempt, "owner": owner, "claimed_at": SERVER_TIMESTAMP}
    return new_document(fence | {"expires_at": now + _FENCE_KEPT})


def _step_id(incarnation: str, key: str, *, done: bool) -> str:
    # A digest: a key may be longer than an id, and has characters that an id cannot have. Of the two documents of one
    # step the one that is done sorts last.
    digest = hashlib.sha256(key.encode()).hexdigest()[:40]
    return f"{incarnation}~step~{digest}~{'done' if done else 'begun'}"


def _read_step(snapshot: DocumentSnapshot[Any]) -> StepRecord | None:
    fields = known_fields(snapshot)
    return None if fields is None else decode_step(fields)


class StepDocuments:
    """The steps of the runs of one database."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def read(self, workflow_id: str, run_id: str, incarnation: str) -> list[StepRecord]:
        """All steps of a run's incarnation, in no particular order."""
        return await self._calls.settle(
            f"reading steps of run {run_id}", lambda _: self._read(workflow_id, run_id, incarnation)
        )

    async def _read(self, workflow_id: str, run_id: str, incarnation: str) -> list[StepRecord]:
        found = await self._calls.read(bind_steps(self._run(workflow_id, run_id), f"{incarnation}~step~"))
        records = [record for snapshot in found if (record := _read_step(snapshot)) is not None]
        return list({record.key: record for record in records}.values())

    async def remove(self, workflow_id: str, run_id: str, incarnation: str) -> None:
        """Remove the steps and fences of a run that is removed itself already."""
        await self._calls.settle(
            f"removing steps of run {run_id}", lambda _: self._remove(workflow_id, run_id, incarnation)
        )

    async def _remove(self, workflow_id: str, run_id: str, incarnation: str) -> None:
        steps = bind_steps(self._run(workflow_id, run_id), f"{incarnation}~")
        removed = _REMOVED_AT_ONCE
        while removed == _REMOVED_AT_ONCE:
            batch = self._calls.client.batch()
            for snapshot in await self._calls.read(steps.select(["__name__"]).limit(_REMOVED_AT_ONCE)):
                batch.delete(snapshot.reference)
            removed = len(batch)
            if removed:
                await self._calls.commit(batch)

    async def record(self, lease: Lease, step: StepRecord, *, expires_at: datetime) -> StepRecord:
        """See :meth:`~autopilot.core.store.RunJournal.record_step`."""
        fields = new_document(encode_step(step) | {"owner": lease.owner, "expires_at": expires_at})
        return await self._calls.settle(
            f"recording step {step.key} of run {lease.run_id}",
            lambda tries: self._try_record(lease, step, fields, look=tries > 0),
        )

    async def _try_record(self, lease: Lease, step: StepRecord, fields: Fields, *, look: bool) -> StepRecord:
        steps = self._run(lease.workflow_id, lease.run_id).collection(STEPS)
        done = steps.document(_step_id(lease.incarnation, step.key, done=True))
        fence = steps.document(fence_id(lease.incarnation, lease.attempt))
        if look and (recorded := await self._look(lease, done, fence)) is not None:
            return recorded
        absent = self._calls.client.write_option(exists=False)
        batch = self._calls.client.batch()
        if step.status is StepStatus.SUCCESS:
            batch.create(done, fields)
        else:
            batch.set(steps.document(_step_id(lease.incarnation, step.key, done=False)), fields)
            batch.delete(done, absent)
        batch.delete(fence, absent)
        await self._calls.commit(batch)
        return step

    async def _look(
        self, lease: Lease, done: AsyncDocumentReference, fence: AsyncDocumentReference
    ) -> StepRecord | None:
        """The recorded success of a step, after a commit that did not go through or whose answer was lost."""
        found = await self._calls.get_all([done, fence])
        fenced_off = known_fields(found[fence.id])
        if fenced_off is not None:
            raise RunSuperseded(lease.run_id, lease.attempt, fenced_off["by_attempt"])
        return _read_step(found[done.id])

    def _run(self, workflow_id: str, run_id: str) -> AsyncDocumentReference:
        return self._calls.client.collection(RUNS).document(document_id(workflow_id, run_id))
