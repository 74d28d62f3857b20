"""Every query that the Firestore store can issue, as data: the indexes it needs are derived from this list.

A query that names more than one field needs a composite index; Firestore refuses it without one, and the emulator
does not. A query of ids alone needs none: steps and activity are read that way, and the counters of a workflow as a
whole collection.
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
from autopilot.core.store import BucketSize, RunFilter
from autopilot.storage.firestore.activity import activity_id
from autopilot.storage.firestore.documents import ACTIVITY, RUNS, STEPS, WORKFLOWS, document_id

Direction = Literal["ASCENDING", "DESCENDING"]

_NEWEST_FIRST: tuple[tuple[str, Direction], ...] = (("started_at", "DESCENDING"), ("__name__", "DESCENDING"))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreQuery:
    """The shape of a query: the fields that it compares and its order. The values come with the call."""

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
    """The query on the collection of ``parent``, with the values for its compared fields."""
    bound = AsyncQuery(parent.collection(query.collection))
    for field, value in zip(query.equal, values, strict=True):
        bound = bound.where(filter=FieldFilter(field, "==", value))
    for field, direction in query.order:
        bound = bound.order_by(field, direction=direction)
    return bound


def bind_runs(client: AsyncClient, wanted: RunFilter, *, after: RunPosition | None, limit: int | None) -> AsyncQuery:
    """The query for runs, newest first; only what follows ``after``, if it is given."""
    values = {"workflow": wanted.workflow_id, "status": wanted.status, "trigger_type": wanted.trigger_type}
    compared = {field: str(value) for field, value in values.items() if value is not None}
    query = bind_query(client, _RUN_LISTS[tuple(compared)], *compared.values())
    if wanted.since is not None:
        query = query.where(filter=FieldFilter("started_at", ">=", wanted.since))
    if wanted.until is not None:
        query = query.where(filter=FieldFilter("started_at", "<", wanted.until))
    if after is not None:
        document = client.collection(RUNS).document(document_id(after.workflow_id, after.run_id))
        query = query.start_after([after.started_at, document])
    return query if limit is None else query.limit(limit)


def bind_changes(client: AsyncClient, *, changed_at: datetime, document: str | None) -> AsyncQuery:
    """The runs that were written after the write of a run's document at ``changed_at``.

    Args:
        document: the id of that document; None: from that time on.
    """
    query = bind_query(client, RUN_CHANGES)
    if document is None:
        return query.start_at([changed_at])
    return query.start_after([changed_at, client.collection(RUNS).document(document)])


def bind_steps(run: AsyncDocumentReference, prefix: str) -> AsyncQuery:
    """The documents beside a run's steps whose ids begin with ``prefix``, which ends with ``~``."""
    return _within_ids(bind_query(run, STEPS_OF_RUN), run.collection(STEPS), prefix, f"{prefix}~")


def bind_activity(
    client: AsyncClient, workflow_id: str, first: datetime, last: datetime, size: BucketSize
) -> AsyncQuery:
    """A workflow's activity from one day to another, with no more of each document than the counts of ``size``."""
    workflow = client.collection(WORKFLOWS).document(workflow_id)
    query = bind_query(workflow, ACTIVITY_OF_WORKFLOW)
    query = query.select(["date", "schema", "total" if size is BucketSize.DAY else "hours"])
    return _within_ids(query, workflow.collection(ACTIVITY), activity_id(first), f"{activity_id(last)}~")


def _within_ids(query: AsyncQuery, collection: AsyncCollectionReference, first: str, end: str) -> AsyncQuery:
    """The part of a query in the order of ids that begins at ``first`` and ends before ``end``."""
    return query.start_at([collection.document(first)]).end_before([collection.document(end)])
