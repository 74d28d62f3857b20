"""What a run looks like in any of the stores: JSON text within the limits, and back again."""

import json
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from autopilot.core.runs.limits import cut_error, payload_text, result_text
from autopilot.models import RunAttempt, WorkflowRun

_ATTEMPTS = TypeAdapter(tuple[RunAttempt, ...])


class RunTexts(NamedTuple):
    """The fields of a run that are not stored as they are."""

    payload: str
    """``trigger_data`` as JSON."""
    result: str | None
    """``result`` as JSON; None for no result."""
    error: str | None
    """``error`` within its limit."""
    attempts: str | None
    """``attempts`` as JSON; None for none."""


def encode_texts(run: WorkflowRun) -> RunTexts:
    """The texts of a run, each within its limit. Called before anything is sent.

    Raises:
        PayloadTooLarge, ResultTooLarge: over the limit.
        ResultInvalid: the result is not JSON.
    """
    return RunTexts(
        payload=payload_text(run.trigger_data),
        result=None if run.result is None else result_text(run.result),
        error=None if run.error is None else cut_error(run.error),
        attempts=_ATTEMPTS.dump_json(run.attempts, exclude_none=True).decode() if run.attempts else None,
    )


def decode_attempts(text: str | None) -> tuple[RunAttempt, ...]:
    """The attempts of their JSON text; none for no text."""
    return () if text is None else _ATTEMPTS.validate_json(text)


def decode_json(text: str | None) -> Any:
    """The value of a JSON text; None for no text."""
    return None if text is None else json.loads(text)
