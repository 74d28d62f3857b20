"""Runs in Firestore, by its asyncio client: the primitives of a store on the documents of runs and steps."""

import random as system_random
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from google.cloud.firestore_v1 import AsyncClient, AsyncDocumentReference, AsyncQuery

from autopilot.core.clock import Clock, SystemClock, from_microseconds, to_microseconds
from autopilot.core.runs.activity import ActivityCounts
from autopilot.core.runs.cursor import RunPosition
from autopilot.core.store import BucketSize, Lease, RunChange, RunFilter, StepRecord
from autopilot.errors import CursorInvalid
from autopilot.models import WorkflowRun, is_run_id, is_workflow_name
from autopilot.settings import Settings
from autopilot.storage.base import BaseStore, Decide, StoredRun, T
from autopilot.storage.firestore.activity import read_activity
from autopilot.storage.firestore.calls import Calls, GuardFailed
from autopilot.storage.firestore.documents import (
    COUNTERS,
    SESSIONS,
    WORKFLOWS,
    ListedRun,
    RunDocument,
    document_id,
    known_fields,
    new_document,
    read_counts,
)
from autopilot.storage.firestore.queries import (
    LAST_RUN_CHANGE,
    bind_activity,
    bind_changes,
    bind_query,
    bind_runs,
)
from autopilot.storage.firestore.runs import RunDocuments
from autopilot.storage.firestore.steps import StepDocuments

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class FirestoreStore(BaseStore):
    """Run log, journal and archive in one Firestore database. Nothing is opened before the first call.

    The order of changes is that of the server's times at which it took the writes, and of ids where those are equal.
    A write that waits for others (those of a counter come one after the other) can be taken before a write and be seen
    after it. So a change is reported once it is ``settled`` old: by then whatever was taken before it is seen, too.

    Args:
        project: None is what the environment says.
        clock: the store's time where it is not the server's, and the pauses between attempts.
        deadline: of one call, with all its attempts.
        deadline_clock: measures deadlines; the machine's by default, since a network is waited for.
        random: numbers from 0 to 1, for the pauses between attempts.
        connect: makes the client of an event loop, instead of ``project`` and ``database``.
        settled: the age from which on changes are reported.
    """

    def __init__(
        self,
        *,
        project: str | None = None,
        database: str = "(default)",
        clock: Clock = SystemClock(),  # noqa: B008 - it has no state
        deadline: timedelta = timedelta(seconds=10),
        deadline_clock: Clock = SystemClock(),  # noqa: B008
        random: Callable[[], float] = system_random.random,
        connect: Callable[[], AsyncClient] | None = None,
        settled: timedelta = timedelta(seconds=2),
    ) -> None:
        super().__init__(clock)
        connect = connect or (lambda: AsyncClient(project=project, database=database))
        self._calls = Calls(connect, deadline=deadline, deadline_clock=deadline_clock, clock=clock, random=random)
        self._runs = RunDocuments(self._calls, clock)
        self._steps = StepDocuments(self._calls)
        self._settled = settled

    async def save_run(self, run: WorkflowRun) -> None:
        await self._calls.settle(f"saving run {run.id}", lambda _: self._runs.save(run))

    async def read_steps(self, lease: Lease) -> list[StepRecord]:
        return await self._steps.read(lease.workflow_id, lease.run_id, lease.incarnation)

    async def record_step(self, lease: Lease, step: StepRecord, *, expires_at: datetime) -> StepRecord:
        return await self._steps.record(lease, step, expires_at=expires_at)

    async def get_last_position(self) -> str:
        found = await self._find("reading the last change", lambda client: bind_query(client, LAST_RUN_CHANGE).limit(1))
        if not found or found[0].changed_at is None:
            return _position(_EPOCH)
        settled_at = found[0].read_at - self._settled
        if found[0].changed_at > settled_at:
            return _position(settled_at)
        return _position(found[0].changed_at, found[0].run)

    async def end_session(self, session: str, *, expires_at: datetime) -> None:
        async def end(tries: int) -> None:
            if tries and await self._is_recorded(session):
                return
            batch = self._calls.client.batch()
            batch.create(self._session(session), new_document({"expires_at": expires_at}))
            await self._calls.commit(batch)

        await self._calls.settle("ending a session", end)

    async def has_ended(self, session: str) -> bool:
        return await self._calls.settle("looking for an ended session", lambda _: self._is_recorded(session))

    async def check_connection(self) -> None:
        await self._calls.settle(
            "checking the connection",
            lambda _: self._calls.get(self._calls.client.collection(WORKFLOWS).document("~")),  # there is none
        )

    def close(self) -> None:
        self._calls.close()
        self._runs.forget()

    async def _change_run(
        self, doing: str, workflow_id: str, run_id: str, decide: Decide[T], known: StoredRun | None, *, creates: bool
    ) -> T:
        assumed = known if isinstance(known, RunDocument) else None

        async def attempt(tries: int) -> T:
            is_assumed = tries == 0 and (creates or assumed is not None)
            stored = assumed if is_assumed else await self._runs.read(workflow_id, run_id)
            decision = decide(stored)
            if decision.write is not None and (creates or stored is None):
                await self._runs.create(decision.write, over=stored)
            elif decision.write is not None and stored is not None:
                await self._runs.supersede(decision.write, stored)
            elif decision.is_own and stored is not None:
                self._runs.remember(stored)
            return decision.outcome

        return await self._calls.settle(doing, attempt)

    async def _remove_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        removing: RunDocument | None = None

        async def remove(_: int) -> RunDocument | None:
            nonlocal removing
            stored = await self._runs.read(workflow_id, run_id)
            if stored is None:
                return removing  # by a commit whose answer was lost, if by us
            stored.check_removable()
            removing = stored
            try:
                await self._runs.remove(stored)
            except GuardFailed:
                removing = None  # somebody else changed it or removed it first
                raise
            return stored

        removed = await self._calls.settle(f"removing run {run_id}", remove)
        if removed is None:
            return None
        if removed.incarnation is not None:
            await self._steps.remove(workflow_id, run_id, removed.incarnation)
        return removed.run

    async def _read_run(self, workflow_id: str, run_id: str) -> WorkflowRun | None:
        stored = await self._stored_run(workflow_id, run_id)
        return None if stored is None else stored.run

    async def _find_runs(
        self, doing: str, wanted: RunFilter, *, after: RunPosition | None, limit: int | None, whole: bool
    ) -> list[WorkflowRun]:
        def query(client: AsyncClient) -> AsyncQuery:
            return bind_runs(client, wanted, after=after, limit=limit)

        if whole:
            return await self._calls.settle(doing, lambda _: self._runs.find_whole(query))
        return [listed.run for listed in await self._find(doing, query)]

    async def _read_counts(self, workflow_id: str) -> Mapping[str, int]:
        snapshots = await self._calls.settle(
            f"reading statistics of {workflow_id}",
            lambda _: self._calls.read(self._calls.client.collection(WORKFLOWS, workflow_id, COUNTERS)),
        )
        total: Counter[str] = Counter()
        for snapshot in snapshots:
            total.update(read_counts(snapshot))
        return total

    async def _read_run_steps(self, workflow_id: str, run_id: str) -> list[StepRecord]:
        stored = await self._stored_run(workflow_id, run_id)
        if stored is None or stored.incarnation is None:
            return []
        return await self._steps.read(workflow_id, run_id, stored.incarnation)

    async def _read_activity(
        self, workflow_id: str, first: datetime, last: datetime, size: BucketSize
    ) -> list[tuple[datetime, ActivityCounts]]:
        snapshots = await self._calls.settle(
            f"reading the activity of {workflow_id}",
            lambda _: self._calls.read(bind_activity(self._calls.client, workflow_id, first, last, size)),
        )
        return read_activity(snapshots, size)

    async def _read_changes(self, after: str, limit: int) -> list[RunChange]:
        changed_at, document = _place_of(after)
        found = await self._find(
            "reading changes",
            lambda client: bind_changes(client, changed_at=changed_at, document=document).limit(limit),
        )
        return [
            RunChange(position=_position(listed.changed_at, listed.run), run=listed.run)
            for listed in found
            if listed.changed_at is not None and listed.changed_at <= listed.read_at - self._settled
        ]

    async def _is_recorded(self, session: str) -> bool:
        return known_fields(await self._calls.get(self._session(session))) is not None

    def _session(self, session: str) -> AsyncDocumentReference:
        return self._calls.client.collection(SESSIONS).document(session)

    async def _stored_run(self, workflow_id: str, run_id: str) -> RunDocument | None:
        return await self._calls.settle(f"reading run {run_id}", lambda _: self._runs.read(workflow_id, run_id))

    async def _find(self, doing: str, query: Callable[[AsyncClient], AsyncQuery]) -> list[ListedRun]:
        return await self._calls.settle(doing, lambda _: self._runs.find(query))


def _position(changed_at: datetime, run: WorkflowRun | None = None) -> str:
    return f"{to_microseconds(changed_at)}~{document_id(run.workflow_id, run.id) if run is not None else ''}"


def _place_of(position: str) -> tuple[datetime, str | None]:
    microseconds, _, document = position.partition("~")
    workflow_id, _, run_id = document.partition("~")
    is_time = microseconds.isascii() and microseconds.isdigit() and len(microseconds) <= 18
    if is_time and (not document or (is_workflow_name(workflow_id) and is_run_id(run_id))):
        with suppress(OverflowError):
            return from_microseconds(int(microseconds)), document or None
    raise CursorInvalid("it is not the position of a change")


def open_store(settings: Settings) -> FirestoreStore:
    """The store as the settings describe it; see :data:`autopilot.core.run_log.STORES`."""
    return FirestoreStore(project=settings.project, database=settings.firestore_database)
