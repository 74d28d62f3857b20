"""How a run is a row, and every statement that reads or writes one."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from autopilot.core.clock import from_microseconds, to_microseconds
from autopilot.core.runs.cursor import RunPosition
from autopilot.core.store import Lease, RunFilter, StepRecord
from autopilot.models import StepStatus, WorkflowRun
from autopilot.storage.encoding import decode_attempts, decode_json, encode_texts

_RUN = (
    "workflow_id, id, status, trigger_type, trigger_data, started_at, completed_at, duration_ms, result, error, "
    "error_type, attempt, due_at, waiting_for, version, fingerprint, payload_hash, rerun_of, expires_at, "
    "reopened_attempt, attempts"
)
_CLAIM = "owner, incarnation, lease"


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


PUT_RUN = _insert(_RUN)
"""Write a run and leave its claim as it is."""
PUT_RUN_AND_CLAIM = _insert(f"{_RUN}, {_CLAIM}")
CREATE_RUN = f"{PUT_RUN_AND_CLAIM.partition(' DO UPDATE')[0]} DO NOTHING"
"""Write a run and its claim unless the id is taken; ``rowcount`` tells."""
TAKE_POSITION = "UPDATE changes SET last = last + 1"
"""Belongs into the transaction of each of the three: what they write is the last change."""

GET_RUN = f"SELECT {_RUN} FROM runs WHERE workflow_id = ? AND id = ?"  # noqa: S608
GET_RUN_AND_CLAIM = f"SELECT {_RUN}, {_CLAIM} FROM runs WHERE workflow_id = ? AND id = ?"  # noqa: S608
GET_LATEST_RUN = f"SELECT {_RUN} FROM runs WHERE workflow_id = ? ORDER BY started_at DESC, id DESC LIMIT 1"  # noqa: S608
GET_PAUSED_RUNS = (
    f"SELECT {_RUN} FROM runs WHERE status = 'paused' "  # noqa: S608
    "ORDER BY started_at DESC, workflow_id DESC, id DESC"
)

GET_COUNTS = "SELECT status, runs FROM run_counts WHERE workflow_id = ?"

GET_CHANGES = f"SELECT {_RUN}, changed FROM runs WHERE changed > ? ORDER BY changed LIMIT ?"  # noqa: S608
GET_LAST_POSITION = "SELECT last FROM changes"

DELETE_RUN = "DELETE FROM runs WHERE workflow_id = ? AND id = ?"
DELETE_STEPS = "DELETE FROM steps WHERE workflow_id = ? AND run_id = ?"

_EXPIRED = "expires_at <= ? AND status IN ('success', 'failed', 'skipped', 'cancelled')"
HAS_EXPIRED = f"SELECT 1 FROM runs WHERE {_EXPIRED} LIMIT 1"  # noqa: S608
DELETE_EXPIRED = f"DELETE FROM runs WHERE rowid IN (SELECT rowid FROM runs WHERE {_EXPIRED} LIMIT ?)"  # noqa: S608

_STEP = "key, status, attempt, tries, started_at, ended_at, result, error, error_type"
GET_HOLDER = "SELECT attempt, owner, incarnation FROM runs WHERE workflow_id = ? AND id = ?"
GET_STEPS = f"SELECT {_STEP} FROM steps WHERE workflow_id = ? AND run_id = ? AND incarnation = ?"  # noqa: S608
GET_STEP = f"{GET_STEPS} AND key = ?"
GET_RUN_STEPS = f"""
    SELECT {", ".join(f"steps.{column}" for column in _STEP.split(", "))} FROM steps
    JOIN runs ON runs.workflow_id = steps.workflow_id AND runs.id = steps.run_id AND runs.incarnation = steps.incarnation
    WHERE steps.workflow_id = ? AND steps.run_id = ?
    ORDER BY steps.started_at, steps.key
"""  # noqa: S608
PUT_STEP = f"""
    INSERT INTO steps ({_STEP}, expires_at, workflow_id, run_id, incarnation)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (workflow_id, run_id, incarnation, key) DO UPDATE SET
        status = excluded.status, attempt = excluded.attempt, tries = excluded.tries,
        started_at = excluded.started_at, ended_at = excluded.ended_at, result = excluded.result,
        error = excluded.error, error_type = excluded.error_type, expires_at = excluded.expires_at
    WHERE steps.status <> 'success'
"""  # noqa: S608 - our own names
"""Write a step unless it has succeeded; ``rowcount`` tells."""
HAS_EXPIRED_STEPS = "SELECT 1 FROM steps WHERE expires_at <= ? LIMIT 1"
DELETE_EXPIRED_STEPS = "DELETE FROM steps WHERE rowid IN (SELECT rowid FROM steps WHERE expires_at <= ? LIMIT ?)"


def find_runs_query(wanted: RunFilter, *, after: RunPosition | None, limit: int) -> tuple[str, list[str | int]]:
    """A page of the runs that ``wanted`` describes, newest first: the statement and its parameters."""
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
    statement = f"SELECT {_RUN} FROM runs {where}{newest_first} LIMIT ?"  # noqa: S608 - our own names
    return statement, [*(value for _, values in terms for value in values), limit]


def run_row(run: WorkflowRun) -> tuple[Any, ...]:
    """The parameters of :data:`PUT_RUN`.

    Raises:
        PayloadTooLarge, ResultTooLarge, ResultInvalid: the run cannot be stored.
    """
    texts = encode_texts(run)
    return (
        run.workflow_id,
        run.id,
        run.status.value,
        run.trigger_type.value,
        texts.payload,
        to_microseconds(run.started_at),
        _integer(run.completed_at),
        run.duration_ms,
        texts.result,
        texts.error,
        run.error_type,
        run.attempt,
        _integer(run.due_at),
        run.waiting_for,
        run.version,
        run.fingerprint,
        run.payload_hash,
        run.rerun_of,
        _integer(run.expires_at),
        run.reopened_attempt,
        texts.attempts,
    )


def run_of(row: Sequence[Any]) -> WorkflowRun:
    """The run of a row of any of the statements above."""
    return WorkflowRun(
        workflow_id=row[0],
        id=row[1],
        status=row[2],
        trigger_type=row[3],
        trigger_data=decode_json(row[4]),
        started_at=from_microseconds(row[5]),
        completed_at=_time(row[6]),
        duration_ms=row[7],
        result=decode_json(row[8]),
        error=row[9],
        error_type=row[10],
        attempt=row[11],
        due_at=_time(row[12]),
        waiting_for=row[13],
        version=row[14],
        fingerprint=row[15],
        payload_hash=row[16],
        rerun_of=row[17],
        expires_at=_time(row[18]),
        reopened_attempt=row[19],
        attempts=decode_attempts(row[20]),
    )


def step_row(lease: Lease, step: StepRecord, expires_at: datetime) -> tuple[Any, ...]:
    """The parameters of :data:`PUT_STEP`."""
    return (
        step.key,
        step.status.value,
        step.attempt,
        step.tries,
        to_microseconds(step.started_at),
        _integer(step.ended_at),
        step.result,
        step.error,
        step.error_type,
        to_microseconds(expires_at),
        lease.workflow_id,
        lease.run_id,
        lease.incarnation,
    )


def step_of(row: Sequence[Any]) -> StepRecord:
    """The step of a row of :data:`GET_STEPS`."""
    return StepRecord(
        key=row[0],
        status=StepStatus(row[1]),
        attempt=row[2],
        tries=row[3],
        started_at=from_microseconds(row[4]),
        ended_at=_time(row[5]),
        result=row[6],
        error=row[7],
        error_type=row[8],
    )


def _integer(time: datetime | None) -> int | None:
    return None if time is None else to_microseconds(time)


def _time(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_microseconds(microseconds)
