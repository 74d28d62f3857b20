"""The archive in Firestore: what people ask of the records, and what they do to them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from google.cloud.firestore_v1 import DocumentSnapshot

from autopilot.core.clock import Clock, from_microseconds, to_microseconds
from autopilot.core.runs.activity import bucket_range
from autopilot.core.runs.cursor import decode_cursor, encode_cursor
from autopilot.core.runs.limits import check_page_size
from autopilot.core.runs.transitions import cancelled, check_removable
from autopilot.core.store import ActivityBucket, BucketSize, RunChange, RunFilter, StepRecord
from autopilot.errors import CursorInvalid, RunStateConflict
from autopilot.models import RunStatus, WorkflowRun, is_run_id, is_workflow_name
from autopilot.storage.firestore.activity import activity_id, buckets_of, without_unread_fields
from autopilot.storage.firestore.calls import Calls
from autopilot.storage.firestore.clients import LoopClients
from autopilot.storage.firestore.documents import (
    ACTIVITY,
    WORKFLOWS,
    StoredRun,
    document_id,
    plain,
)
from autopilot.storage.firestore.queries import (
    ACTIVITY_OF_WORKFLOW,
    LAST_RUN_CHANGE,
    bind_changes,
    bind_query,
    bind_runs,
    within_ids,
)
from autopilot.storage.firestore.runs import RunDocuments
from autopilot.storage.firestore.steps import StepDocuments

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class FirestoreArchive:
    """The part of a store that is :class:`~autopilot.core.store.RunArchive`, on the store's own documents.

    The order of changes is that of the server's times at which it took the writes, and of ids where those are equal.
    A write that waits for others (those of a counter come one after the other) can be taken before a write and be seen
    after it. So a change is told once it is ``settled`` old: by then whatever was taken before it is seen, too.
    """

    def __init__(
        self,
        clients: LoopClients,
        calls: Calls,
        *,
        runs: RunDocuments,
        steps: StepDocuments,
        clock: Clock,
        settled: timedelta,
    ) -> None:
        self._clients = clients
        self._calls = calls
        self._runs = runs
        self._steps = steps
        self._clock = clock
        self._settled = settled

    async def find_runs(
        self, wanted: RunFilter, *, limit: int = 50, start_after: str | None = None
    ) -> tuple[list[WorkflowRun], str | None]:
        check_page_size(limit)
        after = None if start_after is None else decode_cursor(start_after, wanted)
        if wanted.workflow_id is not None and not is_workflow_name(wanted.workflow_id):
            return [], None
        if wanted.since is not None and wanted.until is not None and wanted.since >= wanted.until:
            return [], None  # a query that Firestore refuses
        # One run more than asked for tells whether anything follows.
        found = await self._runs.find(
            "listing runs", lambda client: bind_runs(client, wanted, after=after).limit(limit + 1)
        )
        page = [stored.run for stored in found[:limit]]
        return page, encode_cursor(page[-1], wanted) if len(found) > limit else None

    async def get_run_steps(self, workflow_id: str, run_id: str) -> list[StepRecord]:
        if not (is_workflow_name(workflow_id) and is_run_id(run_id)):
            return []
        document = document_id(workflow_id, run_id)
        stored = await self._calls.settle(f"reading run {run_id}", lambda _: self._runs.read(document))
        if stored is None or stored.incarnation is None:
            return []
        steps = await self._steps.read(workflow_id, run_id, stored.incarnation)
        return sorted(steps, key=lambda step: (step.started_at, step.key))

    async def get_activity(
        self, workflow_id: str, *, since: datetime, until: datetime, size: BucketSize
    ) -> list[ActivityBucket]:
        found = bucket_range(since, until, size)
        if found is None or not is_workflow_name(workflow_id):
            return []
        first, last = found
        snapshots = await self._calls.settle(
            f"reading the activity of {workflow_id}", lambda _: self._read_days(workflow_id, first, last, size)
        )
        return [bucket for bucket in buckets_of(snapshots, size) if first <= bucket.start <= last]

    async def _read_days(
        self, workflow_id: str, first: datetime, last: datetime, size: BucketSize
    ) -> list[DocumentSnapshot[Any]]:
        workflow = self._clients.current().collection(WORKFLOWS).document(workflow_id)
        query = within_ids(
            without_unread_fields(bind_query(workflow, ACTIVITY_OF_WORKFLOW), size),
            workflow.collection(ACTIVITY),
            activity_id(first),
            f"{activity_id(last)}~",
        )
        return [snapshot async for snapshot in query.stream(retry=None, timeout=self._calls.rpc_seconds)]

    async def delete_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        if not (is_workflow_name(workflow_id) and is_run_id(run_id)):
            return None
        document = document_id(workflow_id, run_id)
        removing: StoredRun | None = None

        async def remove(_: int) -> StoredRun | None:
            nonlocal removing
            stored = await self._runs.read(document)
            if stored is None:
                return removing  # by a commit whose answer was lost, if by us
            check_removable(stored.run, lease_ends_at=stored.lease_ends_at, now=stored.read_time)
            removing = stored
            await self._runs.remove(stored)
            return stored

        removed = await self._calls.settle(f"removing run {run_id}", remove)
        if removed is None:
            return None
        if removed.incarnation is not None:
            await self._steps.remove(workflow_id, run_id, removed.incarnation)
        return removed.run

    async def request_cancel(
        self, workflow_id: str, run_id: str, *, owner: str, retention: timedelta | None = None
    ) -> WorkflowRun | None:
        if not (is_workflow_name(workflow_id) and is_run_id(run_id)):
            return None
        document = document_id(workflow_id, run_id)

        async def cancel(_: int) -> WorkflowRun | None:
            stored = await self._runs.read(document)
            if stored is None:
                return None
            if stored.owner == owner:  # our own commit, whose answer was lost
                return stored.run
            if stored.run.status.is_terminal:
                raise RunStateConflict(run_id, stored.run.status, "cancelled")
            now = self._clock.now()
            run = cancelled(stored.run, now=now, retention=retention)
            await self._runs.supersede(
                stored, run, owner=owner, incarnation=stored.incarnation, lease_duration=_left_of_lease(stored), now=now
            )
            return run

        return await self._calls.settle(f"cancelling run {run_id}", cancel)

    async def get_last_position(self) -> str:
        found = await self._runs.find(
            "reading the last change", lambda client: bind_query(client, LAST_RUN_CHANGE).limit(1)
        )
        if not found or found[0].changed_at is None:
            return _position(_EPOCH)
        settled_at = plain(found[0].read_time) - self._settled
        if found[0].changed_at > settled_at:
            return _position(settled_at)
        return _position(found[0].changed_at, found[0].run)

    async def read_changes(self, after: str, *, limit: int = 100) -> list[RunChange]:
        check_page_size(limit)
        changed_at, document = _place_of(after)
        found = await self._runs.find(
            "reading changes",
            lambda client: bind_changes(client, changed_at=changed_at, document=document).limit(limit),
        )
        return [
            RunChange(position=_position(stored.changed_at, stored.run), run=stored.run)
            for stored in found
            if stored.changed_at is not None and stored.changed_at <= plain(stored.read_time) - self._settled
        ]

    async def check_connection(self) -> None:
        async def look(_: int) -> None:
            nothing = self._clients.current().collection(WORKFLOWS).document("~")
            await nothing.get(retry=None, timeout=self._calls.rpc_seconds)

        await self._calls.settle("checking the connection", look)


def _left_of_lease(stored: StoredRun) -> timedelta:
    if stored.run.status is not RunStatus.RUNNING or stored.lease_ends_at is None:
        return timedelta(0)
    left: timedelta = stored.lease_ends_at - plain(stored.read_time)
    return max(timedelta(0), left)


def _position(changed_at: datetime, run: WorkflowRun | None = None) -> str:
    return f"{to_microseconds(changed_at)}~{document_id(run.workflow_id, run.id) if run is not None else ''}"


def _place_of(position: str) -> tuple[datetime, str | None]:
    microseconds, _, document = position.partition("~")
    workflow_id, _, run_id = document.partition("~")
    if not (microseconds.isascii() and microseconds.isdigit() and len(microseconds) <= 18):
        raise CursorInvalid("it is not the position of a change")
    if document and not (is_workflow_name(workflow_id) and is_run_id(run_id)):
        raise CursorInvalid("it is not the position of a change")
    try:
        return from_microseconds(int(microseconds)), document or None
    except OverflowError:
        raise CursorInvalid("it is not the position of a change") from None
