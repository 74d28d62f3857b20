"""Page cursors: a position in a list of runs, opaque to callers and bound to its list."""

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from autopilot.core.clock import from_microseconds, to_microseconds
from autopilot.core.store import RunFilter
from autopilot.errors import CursorInvalid
from autopilot.models import WorkflowRun, is_run_id, is_workflow_name

_MAX_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class RunPosition:
    """The position just after a run in the order of a list: by ``started_at``, then by its ids, all descending."""

    started_at: datetime
    workflow_id: str
    run_id: str


def encode_cursor(last: WorkflowRun, wanted: RunFilter) -> str:
    """The cursor of the runs after ``last`` in the list that ``wanted`` selects."""
    fields = [_list_of(wanted), to_microseconds(last.started_at), last.workflow_id, last.id]
    return base64.urlsafe_b64encode(json.dumps(fields, separators=(",", ":")).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, wanted: RunFilter) -> RunPosition:
    """The position of ``cursor``.

    Raises:
        CursorInvalid: it is not a cursor, or it belongs to another list.
    """
    if len(cursor) > _MAX_LENGTH:
        raise CursorInvalid("it is too long")
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        of_list, microseconds, workflow_id, run_id = json.loads(base64.b64decode(padded, b"-_", validate=True))
        if type(microseconds) is not int or not _can_be_ids(workflow_id, run_id):
            raise ValueError
        position = RunPosition(from_microseconds(microseconds), workflow_id, run_id)
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error):
        raise CursorInvalid("it is not one that a list of runs gave") from None
    if of_list != _list_of(wanted) or not _is_in_list(position, wanted):
        raise CursorInvalid("it belongs to another list")
    return position


def _list_of(wanted: RunFilter) -> list[Any]:
    times = (None if time is None else to_microseconds(time) for time in (wanted.since, wanted.until))
    return [wanted.workflow_id, wanted.status, wanted.trigger_type, *times]


def _can_be_ids(workflow_id: Any, run_id: Any) -> bool:
    if not (isinstance(workflow_id, str) and isinstance(run_id, str)):
        return False
    return is_workflow_name(workflow_id) and is_run_id(run_id)


def _is_in_list(position: RunPosition, wanted: RunFilter) -> bool:
    return (
        wanted.workflow_id in {None, position.workflow_id}
        and (wanted.since is None or wanted.since <= position.started_at)
        and (wanted.until is None or position.started_at < wanted.until)
    )
