"""From what came of a request to its HTTP answer: the one place that knows statuses and error codes."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from autopilot.core.outcome import Ended, Outcome, Released, Replayed, Superseded
from autopilot.errors import (
    AutopilotError,
    ConfigInvalid,
    ConfigurationError,
    CursorInvalid,
    FunctionUnavailable,
    PayloadConflict,
    PayloadInvalid,
    PayloadTooLarge,
    RunNotFound,
    RunStartFailed,
    RunStateConflict,
    SetupTimedOut,
    StepNotFound,
    StepsInterrupted,
    StoreError,
    WorkflowNotFound,
)
from autopilot.models import RunStatus, WorkflowManifest, WorkflowRun

RETRY_SECONDS = 30
"""``Retry-After`` of an answer after which nothing is recorded."""

LONGEST_POLL_SECONDS = 300
"""The longest that a caller is asked to wait before it looks at an unfinished run again."""

_ERRORS: tuple[tuple[type[AutopilotError], int, str], ...] = (
    (PayloadTooLarge, 413, "payload_too_large"),
    (PayloadConflict, 422, "payload_conflict"),
    (PayloadInvalid, 422, "payload_invalid"),
    (ConfigInvalid, 503, "config_invalid"),
    (ConfigurationError, 503, "configuration_error"),
    (RunNotFound, 404, "run_not_found"),
    (StepsInterrupted, 409, "steps_interrupted"),
    (RunStateConflict, 409, "run_state_conflict"),
    (RunStartFailed, 503, "start_not_recorded"),
    (SetupTimedOut, 503, "setup_timed_out"),
    (WorkflowNotFound, 404, "workflow_not_found"),
    (StepNotFound, 404, "step_not_found"),
    (FunctionUnavailable, 502, "function_unavailable"),
    (CursorInvalid, 422, "cursor_invalid"),
    (StoreError, 503, "store_unavailable"),
)


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``content`` as JSON."""
    return Response(to_json(content), status, headers, media_type="application/json")


def error_response(
    status: int, code: str, message: str, details: Any = None, headers: Mapping[str, str] | None = None
) -> Response:
    """An error in the one shape that all of them have."""
    if status == 503:
        headers = {"Retry-After": str(RETRY_SECONDS)} | dict(headers or {})
    return json_response({"error": {"code": code, "message": message, "details": details}}, status, headers)


def answer_error(error: AutopilotError) -> Response:
    """The answer to a request that ended in ``error``."""
    for kind, status, code in _ERRORS:
        if isinstance(error, kind):
            return error_response(status, code, str(error), _details(error))
    return error_response(500, "internal", "the request could not be handled; the log says why")


def answer_run(outcome: Outcome, manifest: WorkflowManifest, now: datetime) -> Response:
    """The answer to a trigger that has a run.

    =================================================  ======
    the run succeeded, was skipped or was cancelled       200
    it is not over: it waits, or works elsewhere          202
    it failed for good                                    500
    its start was recorded and its ending was not         503
    this attempt ended before it did                      503
    =================================================  ======
    """
    run, headers = outcome.run, _run_headers(outcome)
    match outcome:
        case Released():
            message = f"run {run.id} is not over: {outcome.reason}; deliver the trigger again to continue it"
            return error_response(503, "attempt_ended", message, headers=headers | {"Retry-After": "1"})
        case Superseded():
            message = f"another attempt has taken over run {run.id}; its outcome counts"
            return error_response(503, "attempt_superseded", message, headers=headers)
        case Ended(start_recorded=True, persisted=False):
            message = f"run {run.id} ended as {run.status}, and that could not be recorded; deliver the trigger again"
            return error_response(503, "ending_not_recorded", message, headers=headers)
        case Replayed() if not run.status.is_terminal:
            headers |= {"Location": f"runs/{run.id}", "Retry-After": str(_seconds_until(run.due_at, now))}
            return json_response(run, 202, headers)
        case Replayed():
            headers["Autopilot-Replayed"] = "true"
    if manifest.answer == "result":
        return _answer_result(run, headers)
    return json_response(run, 500 if run.status is RunStatus.FAILED else 200, headers)


def answer_continued(outcome: Replayed | Ended) -> Response:
    """The answer to a continuation of a run that is over: 200 however it ended, since nothing is left to resume."""
    return json_response(outcome.run, 200, _run_headers(outcome))


def answer_cancelled(run: WorkflowRun) -> Response:
    """The answer to a cancellation that was recorded."""
    return json_response(run, 200, _run_headers(Replayed(run=run, persisted=True)))


def _run_headers(outcome: Outcome) -> dict[str, str]:
    persisted = not isinstance(outcome, Superseded) and outcome.persisted
    return {
        "Autopilot-Run-Id": outcome.run.id,
        "Autopilot-Run-Status": outcome.run.status.value,
        "Autopilot-Persisted": "true" if persisted else "false",
    }


def _answer_result(run: WorkflowRun, headers: dict[str, str]) -> Response:
    if run.status is RunStatus.FAILED:
        return error_response(500, "run_failed", run.error or "", {"error_type": run.error_type}, headers)
    return json_response(run.result, 200, headers)


def _details(error: AutopilotError) -> Any:
    match error:
        case PayloadInvalid():
            return error.details
        case PayloadTooLarge():
            return {"size": error.size, "limit": error.limit}
        case StepsInterrupted():
            return {"run_id": error.run_id, "steps": list(error.keys)}
        case RunStateConflict() | PayloadConflict():
            return {"run_id": error.run_id} | ({"status": error.status} if isinstance(error, RunStateConflict) else {})
        case ConfigInvalid():
            return [{"field": field, "variable": variable, "msg": reason} for field, variable, reason in error.fields]
        case _:
            return None


def _seconds_until(due_at: datetime | None, now: datetime) -> int:
    if due_at is None:
        return RETRY_SECONDS
    return max(1, min(LONGEST_POLL_SECONDS, round((due_at - now).total_seconds())))
