"""Every query that the Firestore store can issue, as data: the indexes it needs are derived from this list.

A query that names more than one field needs a composite index; Firestore refuses it without one, and the emulator
does not. Ids alone need none: so are the steps of a run and a workflow's activity read, and its counters as a whole
collection.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from google.cloud.firestore_v1 import (
    AsyncClient,
    AsyncCollectionReference,
    AsyncDocumentReference,
    AsyncQuery,
    FieldFilter,
)

from autopilot.core.runs.cursor import RunPosition
from autopilot.core.store import RunFilter
from autopilot.storage.firestore.documents import ACTIVITY, RUNS, STEPS, document_id

Direction = Literal["ASCENDING", "DESCENDING"]

_NEWEST_FIRST: tuple[tuple[str, Direction], ...] = (("started_at", "DESCENDING"), ("__name__", "DESCENDING"))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreQuery:
    """A shape of query: which fields it compares and in which order it reads. The values come with the call."""

    collection: str
    equal: tuple[str, ...]
    """Fields that are compared with ``==``."""
    order: tuple[tuple[str, Direction], ...]
    """Fields by which it is ordered; ``__name__`` is the document's own path and part of every index."""


def _run_list(*equal: str) -> StoreQuery:
    # A range of started_at is read from the same index.
    return StoreQuery(collection=RUNS, equal=equal, order=_NEWEST_FIRST)


RUNS_NEWEST = _run_list()
RUNS_OF_WORKFLOW = _run_list("workflow")
RUNS_IN_STATUS = _run_list("status")
RUNS_BY_TRIGGER = _run_list("trigger_type")
RUNS_OF_WORKFLOW_IN_STATUS = _run_list("workflow", "status")
RUNS_OF_WORKFLOW_BY_TRIGGER = _run_list("workflow", "trigger_type")
RUNS_IN_STATUS_BY_TRIGGER = _run_list("status", "trigger_type")
RUNS_OF_WORKFLOW_IN_STATUS_BY_TRIGGER = _run_list("workflow", "status", "trigger_type")
RUN_CHANGES = StoreQuery(collection=RUNS, equal=(), order=(("changed_at", "ASCENDING"), ("__name__", "ASCENDING")))
LAST_RUN_CHANGE = StoreQuery(
    collection=RUNS, equal=(), order=(("changed_at", "DESCENDING"), ("__name__", "DESCENDING"))
)
STEPS_OF_RUN = StoreQuery(collection=STEPS, equal=(), order=(("__name__", "ASCENDING"),))
ACTIVITY_OF_WORKFLOW = StoreQuery(collection=ACTIVITY, equal=(), order=(("__name__", "ASCENDING"),))

_RUN_LISTS = {
    query.equal: query
    for query in (
        RUNS_NEWEST,
        RUNS_OF_WORKFLOW,
        RUNS_IN_STATUS,
        RUNS_BY_TRIGGER,
        RUNS_OF_WORKFLOW_IN_STATUS,
        RUNS_OF_WORKFLOW_BY_TRIGGER,
        RUNS_IN_STATUS_BY_TRIGGER,
        RUNS_OF_WORKFLOW_IN_STATUS_BY_TRIGGER,
    )
}
STORE_QUERIES = (*_RUN_LISTS.values(), RUN_CHANGES, LAST_RUN_CHANGE, STEPS_OF_RUN, ACTIVITY_OF_WORKFLOW)


def bind_query(parent: AsyncClient | AsyncDocumentReference, query: StoreQuery, *values: str) -> AsyncQuery:
    """The query on the collection of ``parent``, with the values that its fields are compared with."""
    bound = AsyncQuery(parent.collection(query.collection))
    for field, value in zip(query.equal, values, strict=True):
        bound = bound.where(filter=FieldFilter(field, "==", value))
    for field, direction in query.order:
        bound = bound.order_by(field, direction=direction)
    return bound


def bind_runs(client: AsyncClient, wanted: RunFilter, *, after: RunPosition | None = None) -> AsyncQuery:
    """The runs that ``wanted`` describes, newest first, or the part of them that follows ``after``."""
    values = {"workflow": wanted.workflow_id, "status": wanted.status, "trigger_type": wanted.trigger_type}
    compared = {field: str(value) for field, value in values.items() if value is not None}
    query = bind_query(client, _RUN_LISTS[tuple(compared)], *compared.values())
    if wanted.since is not None:
        query = query.where(filter=FieldFilter("started_at", ">=", wanted.since))
    if wanted.until is not None:
        query = query.where(filter=FieldFilter("started_at", "<", wanted.until))
    if after is None:
        return query
    document = client.collection(RUNS).document(document_id(after.workflow_id, after.run_id))
    return query.start_after([after.started_at, document])


def bind_changes(client: AsyncClient, *, changed_at: datetime, document: str | None) -> AsyncQuery:
    """The runs that were written after the write of a run's document at ``changed_at``.

    Args:
        document: the id of that document; None: from that time on.
    """
    query = bind_query(client, RUN_CHANGES)
    if document is None:
        return query.start_at([changed_at])
    return query.start_after([changed_at, client.collection(RUNS).document(document)])


def within_ids(query: AsyncQuery, collection: AsyncCollectionReference, first: str, end: str) -> AsyncQuery:
    """The part of a query in the order of ids that begins at ``first`` and ends before ``end``."""
    return query.start_at([collection.document(first)]).end_before([collection.document(end)])
