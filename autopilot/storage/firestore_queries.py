"""Every query that the Firestore store can issue, as data: the indexes it needs are derived from this list.

A query that names more than one field needs a composite index; Firestore refuses it without one, and the emulator
does not. Ids alone need none: so are the steps of a run read, and the counters of a workflow as a whole collection.
"""

from dataclasses import dataclass
from typing import Literal

from google.cloud.firestore_v1 import AsyncClient, AsyncDocumentReference, AsyncQuery, FieldFilter

from autopilot.core.cursor import RunPosition
from autopilot.storage.firestore_documents import RUNS, STEPS, document_id

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


RUNS_OF_WORKFLOW = StoreQuery(collection=RUNS, equal=("workflow",), order=_NEWEST_FIRST)
RUNS_OF_WORKFLOW_IN_STATUS = StoreQuery(collection=RUNS, equal=("workflow", "status"), order=_NEWEST_FIRST)
RUNS_IN_STATUS = StoreQuery(collection=RUNS, equal=("status",), order=_NEWEST_FIRST)
STEPS_OF_RUN = StoreQuery(collection=STEPS, equal=(), order=(("__name__", "ASCENDING"),))

STORE_QUERIES = (RUNS_OF_WORKFLOW, RUNS_OF_WORKFLOW_IN_STATUS, RUNS_IN_STATUS, STEPS_OF_RUN)


def bind_query(parent: AsyncClient | AsyncDocumentReference, query: StoreQuery, *values: str) -> AsyncQuery:
    """The query on the collection of ``parent``, with the values that its fields are compared with."""
    bound = AsyncQuery(parent.collection(query.collection))
    for field, value in zip(query.equal, values, strict=True):
        bound = bound.where(filter=FieldFilter(field, "==", value))
    for field, direction in query.order:
        bound = bound.order_by(field, direction=direction)
    return bound


def after_position(client: AsyncClient, query: AsyncQuery, workflow_id: str, position: RunPosition) -> AsyncQuery:
    """The part of a workflow's list, newest first, that follows ``position``."""
    document = client.collection(RUNS).document(document_id(workflow_id, position.run_id))
    return query.start_after([position.started_at, document])
