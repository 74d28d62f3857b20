"""The layout in Firestore: what documents there are, and how a run becomes one.

::

    runs/{workflow}~{run id}                  a run: all its fields, and what its journal needs
    runs/{workflow}~{run id}/steps/{id}       its steps and fences: see firestore_steps
    workflows/{workflow}/counters/{k}         counts: {status: n}, of the runs whose field counter is k
    workflows/{workflow}/activity/{day}~{k}   what ended on that day, yyyymmdd, of those runs: see firestore_activity

A workflow name has no ``~``, so the id of a run's document says both parts. What a run has as None is absent from its
document. Every document carries ``schema``: :data:`SCHEMA_VERSION` when it was written; a newer one is refused.

Beside the run's own fields its document has ``incarnation``, ``counter``, and of the attempt that holds it ``owner``,
``claimed_from`` (the status in which it found the run; absent for the first), ``lease_ms`` and ``claimed_at``. The
lease ends by the server's time, ``lease_ms`` after ``claimed_at``; ``due_at`` is when that is by the clock of the
process that wrote it, for whoever looks for what is due. ``changed_at`` is the server's time of the last write.
"""

import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.cloud.firestore_v1 import DELETE_FIELD, SERVER_TIMESTAMP, DocumentSnapshot, Increment, Maximum

from autopilot.core.runs.transitions import is_due
from autopilot.errors import StoreVersionUnsupported
from autopilot.models import RunStatus, WorkflowRun
from autopilot.storage.encoding import decode_attempts, decode_json, encode_texts

STORE = "firestore"
"""The store's name in errors."""

SCHEMA_VERSION = 1

RUNS = "runs"
STEPS = "steps"
WORKFLOWS = "workflows"
COUNTERS = "counters"
ACTIVITY = "activity"

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
)

Fields = dict[str, Any]
"""Fields of a document. None is a field that is absent."""

_MILLISECOND = timedelta(milliseconds=1)

# Names that differ from the model's: they are what indexes, consoles and other readers see.
_RENAMED = {"id": "run", "workflow_id": "workflow", "trigger_data": "payload"}
_FIELDS = {name: _RENAMED.get(name, name) for name in WorkflowRun.model_fields}


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run's document as it was read."""

    run: WorkflowRun
    owner: str | None
    incarnation: str | None
    lease_ends_at: datetime | None
    """By the server's time; None: the run never had one."""
    claimed_from: RunStatus | None
    counter: str
    """The counter document that counts this run."""
    changed_at: datetime | None
    """The server's time of the last write; None: it was not kept yet."""
    update_time: datetime
    """The version of the document: what a guarded write names."""
    read_time: datetime
    """The server's time of the reading."""

    @property
    def is_expired(self) -> bool:
        """Whether the run counts as absent: Firestore removes what has expired up to a day late."""
        return self.run.expires_at is not None and self.run.expires_at <= self.read_time

    @property
    def is_due(self) -> bool:
        """Whether nobody holds the run and it is not over."""
        run = self.run
        if run.status is RunStatus.RUNNING and run.due_at is not None and self.lease_ends_at is not None:
            run = run.model_copy(update={"due_at": self.lease_ends_at})
        return is_due(run, self.read_time)


def document_id(workflow_id: str, run_id: str) -> str:
    """The id of a run's document in :data:`RUNS`."""
    return f"{workflow_id}~{run_id}"


def counter_of(run_id: str, counter_shards: int) -> str:
    """The id of the counter document that is to count a run: the same one each time its status changes."""
    return str(zlib.crc32(run_id.encode()) % counter_shards) if counter_shards else ONLY_COUNTER


def encode_run(run: WorkflowRun) -> Fields:
    """The fields that say what a run is: all of them, so that they leave nothing of an earlier record.

    Raises:
        PayloadTooLarge, ResultTooLarge, ResultInvalid: the run does not fit.
    """
    texts = encode_texts(run)
    fields = {stored: getattr(run, name) for name, stored in _FIELDS.items()}
    return fields | {
        "status": run.status.value,
        "trigger_type": run.trigger_type.value,
        "payload": texts.payload,
        "result": texts.result,
        "error": texts.error,
        "attempts": texts.attempts,
    }


def encode_claim(
    *, owner: str, incarnation: str | None, lease_duration: timedelta, claimed_from: RunStatus | None = None
) -> Fields:
    """The fields by which an attempt holds a run from this commit on."""
    found = None if claimed_from is None else claimed_from.value
    return {"owner": owner, "incarnation": incarnation, "claimed_from": found} | encode_lease(lease_duration)


def encode_lease(lease_duration: timedelta) -> Fields:
    """The fields of a lease that begins with this commit."""
    return {"lease_ms": max(0, lease_duration // _MILLISECOND), "claimed_at": SERVER_TIMESTAMP}


def encode_counts(changes: dict[RunStatus, int]) -> Fields:
    """What a counter document is merged with: it never goes back to an older schema."""
    counts = {status.value: Increment(by) for status, by in changes.items()}
    return {"counts": counts, "schema": Maximum(SCHEMA_VERSION)}


def new_document(fields: Fields) -> Fields:
    """The fields of a document that does not exist yet."""
    return {name: value for name, value in fields.items() if value is not None} | {"schema": SCHEMA_VERSION}


def changed_document(fields: Fields) -> Fields:
    """The fields to change in a document that exists; those that are not named stay as they are."""
    changed = {name: DELETE_FIELD if value is None else value for name, value in fields.items()}
    return changed | {"schema": SCHEMA_VERSION}


def decode_run(fields: Fields) -> WorkflowRun:
    """The run that a document's fields say."""
    values = {name: plain(fields[stored]) for name, stored in _FIELDS.items() if fields.get(stored) is not None}
    texts = {
        "trigger_data": decode_json(fields["payload"]),
        "result": decode_json(fields.get("result")),
        "attempts": decode_attempts(fields.get("attempts")),
    }
    return WorkflowRun.model_validate(values | texts)


def read_run(snapshot: DocumentSnapshot[Any]) -> StoredRun | None:
    """The run of a document; None if there is no such document.

    Raises:
        StoreVersionUnsupported: a newer Autopilot wrote it.
    """
    fields = known_fields(snapshot)
    if fields is None:
        return None
    claimed_at, claimed_from = plain(fields.get("claimed_at")), fields.get("claimed_from")
    return StoredRun(
        run=decode_run(fields),
        owner=fields.get("owner"),
        incarnation=fields.get("incarnation"),
        lease_ends_at=None if claimed_at is None else claimed_at + fields["lease_ms"] * _MILLISECOND,
        claimed_from=None if claimed_from is None else RunStatus(claimed_from),
        counter=fields.get("counter", ONLY_COUNTER),
        changed_at=plain(fields.get("changed_at")),
        update_time=snapshot.update_time,
        read_time=snapshot.read_time,
    )


def read_counts(snapshot: DocumentSnapshot[Any]) -> dict[str, int]:
    """Runs by status that a counter document has counted.

    Raises:
        StoreVersionUnsupported: a newer Autopilot counted in it.
    """
    counts: dict[str, int] = (known_fields(snapshot) or {}).get("counts", {})
    return counts


def known_fields(snapshot: DocumentSnapshot[Any]) -> Fields | None:
    """The fields of a document; None if there is no such document.

    Raises:
        StoreVersionUnsupported: a newer Autopilot wrote it.
    """
    fields: Fields | None = snapshot.to_dict()
    if fields is not None and (found := fields.get("schema", SCHEMA_VERSION)) > SCHEMA_VERSION:
        raise StoreVersionUnsupported(STORE, found, SCHEMA_VERSION)
    return fields


def plain(value: Any) -> Any:
    """A field's value, with a time as anyone's: Firestore's own subclass of datetime prints and pickles otherwise."""
    return datetime.combine(value.date(), value.time(), UTC) if isinstance(value, datetime) else value
