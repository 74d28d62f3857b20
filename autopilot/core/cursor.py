"""Page cursors: the place in a list of runs, opaque to callers and bound to its list."""

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime

from autopilot.core.clock import from_microseconds, to_microseconds
from autopilot.errors import CursorInvalid
from autopilot.models import RunStatus, WorkflowRun, is_run_id

_MAX_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class RunPosition:
    """The place just behind a run in the order of a list: by ``started_at``, then by id, both descending."""

    started_at: datetime
    run_id: str


def encode_cursor(last: WorkflowRun, status: RunStatus | None) -> str:
    """The cursor for what follows ``last`` in its workflow's list of runs in ``status``."""
    fields = [last.workflow_id, status, to_microseconds(last.started_at), last.id]
    return base64.urlsafe_b64encode(json.dumps(fields, separators=(",", ":")).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, workflow_id: str, status: RunStatus | None) -> RunPosition:
    """The place that ``cursor`` stands for.

    Raises:
        CursorInvalid: it is none of ours, or of another workflow or status.
    """
    if len(cursor) > _MAX_LENGTH:
        raise CursorInvalid("it is too long")
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        of_workflow, of_status, microseconds, run_id = json.loads(base64.b64decode(padded, b"-_", validate=True))
        if type(microseconds) is not int or not isinstance(run_id, str) or not is_run_id(run_id):
            raise ValueError
        started_at = from_microseconds(microseconds)
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error):
        raise CursorInvalid("it is not one that a list of runs gave") from None
    if of_workflow != workflow_id or of_status != status:
        raise CursorInvalid("it belongs to another list")
    return RunPosition(started_at, run_id)
