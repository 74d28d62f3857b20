"""Runs and steps as rows, and every statement that reads or writes one."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from autopilot.core.clock import from_microseconds, to_microseconds
from autopilot.core.runs.cursor import RunPosition
from autopilot.core.store import Lease, RunFilter, StepRecord
from autopilot.models import RunStatus, WorkflowRun
from autopilot.storage.base import RunWrite, StoredRun
from autopilot.storage.encoding import (
    LISTED_FIELDS,
    STEP_FIELDS,
    Fields,
    decode_listed_run,
    decode_run,
    decode_step,
    encode_run,
    encode_step,
)

_RUN = (
    "workflow_id, id, status, trigger_type, trigger_data, started_at, completed_at, duration_ms, result, error, "
    "error_type, attempt, due_at, waiting_for, version, fingerprint, payload_hash, rerun_of, expires_at, "
    "reopened_attempt, attempts, round, failed_steps, idle_claims, idle_deadlines"
)
_RUN_COLUMNS = tuple(_RUN.split(", "))
_LISTED = ", ".join(LISTED_FIELDS)
_CLAIM = "owner, incarnation, lease"
_TIMES = {"started_at", "completed_at", "ended_at", "due_at", "expires_at"}
_MICROSECOND = timedelta(microseconds=1)


def _insert(columns: str) -> str:
    names = columns.split(", ")
    changes = ", ".join(
        f"{name} = excluded.{name}" for name in (*names, "changed") if name not in {"workflow_id", "id"}
    )
    values = ", ".join("?" for _ in names)
    return (
        f"INSERT INTO runs ({columns}, changed) VALUES ({values}, (SELECT last + 1 FROM changes)) "  # noqa: S608 - our own names
        f"ON CONFLICT (workflow_id, id) DO UPDATE SET {changes}"
    )


# Of a run that is over the lease is counted from its end, so that it ends when it would have ended.
_LEFT_OF_LEASE = """CASE
    WHEN excluded.completed_at IS NULL THEN runs.lease
    WHEN runs.status = 'running' THEN max(0, runs.due_at - excluded.completed_at)
    WHEN runs.completed_at IS NOT NULL THEN max(0, runs.completed_at + runs.lease - excluded.completed_at)
    ELSE 0
END"""
PUT_RUN = f"{_insert(_RUN)}, lease = {_LEFT_OF_LEASE}"
"""Write a run; its claim stays as it is."""
PUT_RUN_AND_CLAIM = _insert(f"{_RUN}, {_CLAIM}")
CREATE_RUN = f"{PUT_RUN_AND_CLAIM.partition(' DO UPDATE')[0]} DO NOTHING"
"""Write a run and its claim unless the id is taken; ``rowcount`` tells."""
TAKE_POSITION = "UPDATE changes SET last = last + 1"
"""Part of the transaction of each of the three: the run they write is the last change."""

GET_RUN = f"SELECT {_RUN} FROM runs WHERE workflow_id = ? AND id = ?"  # noqa: S608
GET_RUN_AND_CLAIM = f"SELECT {_RUN}, {_CLAIM} FROM runs WHERE workflow_id = ? AND id = ?"  # noqa: S608

GET_COUNTS = "SELECT status, runs FROM run_counts WHERE workflow_id = ?"
ADD_TO_COUNT = """
    INSERT INTO run_counts (workflow_id, status, runs) VALUES (?, ?, ?)
    ON CONFLICT (workflow_id, status) DO UPDATE SET runs = runs + excluded.runs
"""

GET_CHANGES = f"SELECT {_LISTED}, changed FROM runs WHERE changed > ? ORDER BY changed LIMIT ?"  # noqa: S608
GET_LAST_POSITION = "SELECT last FROM changes"

DELETE_RUN = "DELETE FROM runs WHERE workflow_id = ? AND id = ?"
DELETE_STEPS = "DELETE FROM steps WHERE workflow_id = ? AND run_id = ?"

_EXPIRED = "expires_at <= ? AND status IN ('success', 'failed', 'skipped', 'cancelled')"
HAS_EXPIRED = f"SELECT 1 FROM runs WHERE {_EXPIRED} LIMIT 1"  # noqa: S608
DELETE_EXPIRED = f"DELETE FROM runs WHERE rowid IN (SELECT rowid FROM runs WHERE {_EXPIRED} LIMIT ?)"  # noqa: S608

_STEP = ", ".join(STEP_FIELDS)
GET_HOLDER = "SELECT attempt, owner, incarnation FROM runs WHERE workflow_id = ? AND id = ?"
GET_STEPS = f"SELECT {_STEP} FROM steps WHERE workflow_id = ? AND run_id = ? AND incarnation = ?"  # noqa: S608
GET_STEP = f"{GET_STEPS} AND key = ?"
GET_RUN_STEPS = f"""
    SELECT {", ".join(f"steps.{column}" for column in STEP_FIELDS)} FROM steps
    JOIN runs ON runs.workflow_id = steps.workflow_id AND runs.id = steps.run_id AND runs.incarnation = steps.incarnation
    WHERE steps.workflow_id = ? AND steps.run_id = ?
"""  # noqa: S608
PUT_STEP = f"""
    INSERT INTO steps ({_STEP}, expires_at, workflow_id, run_id, incarnation)
    VALUES ({", ".join("?" for _ in STEP_FIELDS)}, ?, ?, ?, ?)
    ON CONFLICT (workflow_id, run_id, incarnation, key) DO UPDATE SET
        {", ".join(f"{name} = excluded.{name}" for name in (*STEP_FIELDS, "expires_at") if name != "key")}
    WHERE steps.status <> 'success' OR steps.round < excluded.round
"""  # noqa: S608 - our own names
"""Write a step unless it has succeeded in its round; ``rowcount`` tells."""
HAS_EXPIRED_STEPS = "SELECT 1 FROM steps WHERE expires_at <= ? LIMIT 1"
DELETE_EXPIRED_STEPS = "DELETE FROM steps WHERE rowid IN (SELECT rowid FROM steps WHERE expires_at <= ? LIMIT ?)"

END_SESSION = "INSERT INTO ended_sessions (session, expires_at) VALUES (?, ?) ON CONFLICT (session) DO NOTHING"
HAS_ENDED = "SELECT 1 FROM ended_sessions WHERE session = ?"
HAS_EXPIRED_SESSIONS = "SELECT 1 FROM ended_sessions WHERE expires_at <= ? LIMIT 1"
DELETE_EXPIRED_SESSIONS = """
    DELETE FROM ended_sessions WHERE session IN (SELECT session FROM ended_sessions WHERE expires_at <= ? LIMIT ?)
"""


def find_runs_query(
    wanted: RunFilter, *, after: RunPosition | None, limit: int | None, whole: bool = False
) -> tuple[str, list[str | int]]:
    """The statement that selects runs, newest first, and its parameters; ``whole``: with payloads and results."""
    terms: list[tuple[str, tuple[str | int, ...]]] = []
    order = "started_at, workflow_id, id"
    if wanted.workflow_id is not None:
        terms.append(("workflow_id = ?", (wanted.workflow_id,)))
        order = "started_at, id"
    if wanted.status is not None:
        terms.append(("status = ?", (wanted.status.value,)))
    if wanted.trigger_type is not None:
        terms.append(("trigger_type = ?", (wanted.trigger_type.value,)))
    if wanted.since is not None:
        terms.append(("started_at >= ?", (to_microseconds(wanted.since),)))
    if after is not None:  # which is before ``until``: an index is entered at one upper bound
        ids = (after.run_id,) if wanted.workflow_id is not None else (after.workflow_id, after.run_id)
        place = (to_microseconds(after.started_at), *ids)
        terms.append((f"({order}) < ({', '.join('?' for _ in place)})", place))
    elif wanted.until is not None:
        terms.append(("started_at < ?", (to_microseconds(wanted.until),)))
    where = f"WHERE {' AND '.join(text for text, _ in terms)} " if terms else ""
    newest_first = f"ORDER BY {order.replace(',', ' DESC,')} DESC"
    statement = f"SELECT {_RUN if whole else _LISTED} FROM runs {where}{newest_first} LIMIT ?"  # noqa: S608 - our own names
    no_limit = -1
    return statement, [*(value for _, values in terms for value in values), no_limit if limit is None else limit]


def run_row(run: WorkflowRun) -> tuple[Any, ...]:
    """The parameters of :data:`PUT_RUN`.

    Raises:
        PayloadTooLarge, ResultTooLarge, ResultInvalid: the run cannot be stored.
    """
    return _row(encode_run(run), _RUN_COLUMNS)


def claim_row(write: RunWrite) -> tuple[Any, ...]:
    """The parameters of :data:`PUT_RUN_AND_CLAIM` and :data:`CREATE_RUN`."""
    return (*run_row(write.run), write.owner, write.incarnation, write.lease_duration // _MICROSECOND)


def run_of(row: Sequence[Any]) -> WorkflowRun:
    """The run of a row that has all of it."""
    return decode_run(_fields(row, _RUN_COLUMNS))


def listed_run_of(row: Sequence[Any]) -> WorkflowRun:
    """The run of a row of a list or of :data:`GET_CHANGES`, without payload and result."""
    return decode_listed_run(_fields(row, LISTED_FIELDS))


def stored_run_of(row: Sequence[Any], now: datetime) -> StoredRun:
    """The run and the claim of a row of :data:`GET_RUN_AND_CLAIM`."""
    *columns, owner, incarnation, lease = row
    run = run_of(columns)
    lease_ends_at = run.due_at if run.status is RunStatus.RUNNING else None
    if run.completed_at is not None and lease is not None:
        lease_ends_at = run.completed_at + lease * _MICROSECOND
    return StoredRun(run=run, owner=owner, incarnation=incarnation, lease_ends_at=lease_ends_at, read_at=now)


def step_row(lease: Lease, step: StepRecord, expires_at: datetime) -> tuple[Any, ...]:
    """The parameters of :data:`PUT_STEP`."""
    columns = _row(encode_step(step), STEP_FIELDS)
    return (*columns, to_microseconds(expires_at), lease.workflow_id, lease.run_id, lease.incarnation)


def step_of(row: Sequence[Any]) -> StepRecord:
    """The step of a row of :data:`GET_STEPS`."""
    return decode_step(_fields(row, STEP_FIELDS))


def _row(fields: Fields, columns: Sequence[str]) -> tuple[Any, ...]:
    values = (fields[column] for column in columns)
    return tuple(to_microseconds(value) if isinstance(value, datetime) else value for value in values)


def _fields(row: Sequence[Any], columns: Sequence[str]) -> Fields:
    fields = dict(zip(columns, row, strict=False))
    for column in _TIMES & fields.keys():
        if fields[column] is not None:
            fields[column] = from_microseconds(fields[column])
    return fields
