"""The layout in Firestore: its documents, and the encoding of a run as one of them.

::

    runs/{workflow}~{run id}                  a run: all its fields, and what its journal needs
    runs/{workflow}~{run id}/steps/{id}       its steps and fences: see the module steps
    workflows/{workflow}/counters/{k}         counts: {status: n}, of the runs whose field counter is k
    workflows/{workflow}/activity/{day}~{k}   what ended on that day, yyyymmdd, of those runs: see the module activity
    sessions/{digest}                         a session of the dashboard that was signed out

A workflow name has no ``~``, so the id of a run's document says both parts. What a run has as None is absent from its
document. Every document carries ``schema``: :data:`SCHEMA_VERSION` when it was written; a newer one is refused.

Beside the run's own fields its document has ``incarnation``, ``counter``, and of the attempt that holds it ``owner``,
``claimed_from`` (the status in which it found the run; absent for the first), ``lease_ms`` and ``claimed_at``. The
lease ends by the server's time, ``lease_ms`` after ``claimed_at``; ``due_at`` is the same end by the clock of the
process that wrote it, for queries of what is due. ``changed_at`` is the server's time of the last write.
"""

import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.cloud.firestore_v1 import DELETE_FIELD, SERVER_TIMESTAMP, DocumentSnapshot, Increment, Maximum

from autopilot.errors import StoreVersionUnsupported
from autopilot.models import RunStatus, WorkflowRun
from autopilot.storage import encoding
from autopilot.storage.base import RunWrite, StoredRun
from autopilot.storage.encoding import Fields

STORE = "firestore"
"""The store's name in errors."""

SCHEMA_VERSION = 1

RUNS = "runs"
STEPS = "steps"
WORKFLOWS = "workflows"
COUNTERS = "counters"
ACTIVITY = "activity"
SESSIONS = "sessions"

ONLY_COUNTER = "0"
"""The counter document of a workflow whose counters are not spread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A collection group of this layout, as far as the database itself must know it."""

    name: str
    expires_by: str | None = None
    """The field with the time from which on Firestore may remove a document; None keeps them all."""


COLLECTIONS = (
    Collection(name=RUNS, expires_by="expires_at"),
    Collection(name=STEPS, expires_by="expires_at"),
    Collection(name=COUNTERS),
    Collection(name=ACTIVITY, expires_by="expires_at"),
    Collection(name=SESSIONS, expires_by="expires_at"),
)

_MILLISECOND = timedelta(milliseconds=1)

# Names that differ from the model's: they are what indexes, consoles and other readers see.
_RENAMED = {"id": "run", "workflow_id": "workflow", "trigger_data": "payload"}
_FIELDS = {name: _RENAMED.get(name, name) for name in WorkflowRun.model_fields}

LISTED_FIELDS = (*(_FIELDS[name] for name in encoding.LISTED_FIELDS), "changed_at", "schema")
"""What a list reads of each run's document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDocument(StoredRun):
    """A run's document as it was read."""

    counter: str
    """The counter document that counts this run."""
    changed_at: datetime | None
    """The server's time of the last write; None: an older Autopilot wrote it."""
    update_time: datetime
    """The version of the document: what a guarded write names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRun:
    """A run in a list: its document's :data:`LISTED_FIELDS` as they were read."""

    run: WorkflowRun
    """Without its payload and result."""
    changed_at: datetime | None
    """The server's time of the last write; None: an older Autopilot wrote it."""
    read_at: datetime
    """The server's time at the reading."""


def document_id(workflow_id: str, run_id: str) -> str:
    """The id of a run's document in :data:`RUNS`."""
    return f"{workflow_id}~{run_id}"


def counter_of(run_id: str, counter_shards: int) -> str:
    """The id of the counter document for a run: the same one each time its status changes."""
    return str(zlib.crc32(run_id.encode()) % counter_shards) if counter_shards else ONLY_COUNTER


def encode_run(run: WorkflowRun) -> Fields:
    """The document's fields of a run: all of them, so that they leave nothing of an earlier record.

    Raises:
        PayloadTooLarge, ResultTooLarge, ResultInvalid: the run does not fit.
    """
    return {_FIELDS[name]: value for name, value in encoding.encode_run(run).items()}


def encode_claim(write: RunWrite, *, claimed_from: RunStatus | None = None) -> Fields:
    """The fields by which an attempt holds a run from this commit on."""
    found = None if claimed_from is None else claimed_from.value
    marks = {"owner": write.owner, "incarnation": write.incarnation, "claimed_from": found}
    return marks | encode_lease(write.lease_duration)


def encode_lease(lease_duration: timedelta) -> Fields:
    """The fields of a lease that begins with this commit."""
    return {"lease_ms": max(0, lease_duration // _MILLISECOND), "claimed_at": SERVER_TIMESTAMP}


def encode_counts(changes: dict[RunStatus, int]) -> Fields:
    """The fields to merge into a counter document; they never lower its schema version."""
    counts = {status.value: Increment(by) for status, by in changes.items()}
    return {"counts": counts, "schema": Maximum(SCHEMA_VERSION)}


def new_document(fields: Fields) -> Fields:
    """The fields of a document that does not exist yet."""
    return {name: value for name, value in fields.items() if value is not None} | {"schema": SCHEMA_VERSION}


def changed_document(fields: Fields) -> Fields:
    """The fields to change in a document that exists; the others stay as they are."""
    changed = {name: DELETE_FIELD if value is None else value for name, value in fields.items()}
    return changed | {"schema": SCHEMA_VERSION}


def read_run(snapshot: DocumentSnapshot[Any]) -> RunDocument | None:
    """The run of a document; None if there is no such document.

    Raises:
        StoreVersionUnsupported: a newer Autopilot wrote it.
    """
    fields = known_fields(snapshot)
    if fields is None:
        return None
    claimed_at, claimed_from = fields.get("claimed_at"), fields.get("claimed_from")
    return RunDocument(
        run=encoding.decode_run(_run_fields(fields)),
        owner=fields.get("owner"),
        incarnation=fields.get("incarnation"),
        lease_ends_at=None if claimed_at is None else claimed_at + fields["lease_ms"] * _MILLISECOND,
        claimed_from=None if claimed_from is None else RunStatus(claimed_from),
        counter=fields.get("counter", ONLY_COUNTER),
        changed_at=fields.get("changed_at"),
        update_time=snapshot.update_time,
        read_at=plain_time(snapshot.read_time),
    )


def read_listed_run(snapshot: DocumentSnapshot[Any]) -> ListedRun | None:
    """The run of a document that was read for a list; None if there is no such document.

    Raises:
        StoreVersionUnsupported: a newer Autopilot wrote it.
    """
    fields = known_fields(snapshot)
    if fields is None:
        return None
    run = encoding.decode_listed_run(_run_fields(fields))
    return ListedRun(run=run, changed_at=fields.get("changed_at"), read_at=plain_time(snapshot.read_time))


def _run_fields(fields: Fields) -> Fields:
    return {name: fields.get(stored) for name, stored in _FIELDS.items()}


def read_counts(snapshot: DocumentSnapshot[Any]) -> dict[str, int]:
    """Runs by status that a counter document has counted.

    Raises:
        StoreVersionUnsupported: a newer Autopilot counted in it.
    """
    counts: dict[str, int] = (known_fields(snapshot) or {}).get("counts", {})
    return counts


def known_fields(snapshot: DocumentSnapshot[Any]) -> Fields | None:
    """The fields of a document, with plain times; None if there is no such document.

    Raises:
        StoreVersionUnsupported: a newer Autopilot wrote it.
    """
    fields: Fields | None = snapshot.to_dict()
    if fields is None:
        return None
    if (found := fields.get("schema", SCHEMA_VERSION)) > SCHEMA_VERSION:
        raise StoreVersionUnsupported(STORE, found, SCHEMA_VERSION)
    return {name: plain_time(value) if isinstance(value, datetime) else value for name, value in fields.items()}


def plain_time(time: datetime) -> datetime:
    """Convert Firestore's subclass of datetime, which prints and pickles differently, to a plain UTC datetime."""
    return datetime.combine(time.date(), time.time(), UTC)
