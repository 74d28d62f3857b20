"""Errors of the API: from exceptions to the one shape, and what of it the document tells."""

from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from autopilot.api.access import AccessDenied
from autopilot.api.actions import FunctionRefusal
from autopilot.api.schemas import ErrorAnswer
from autopilot.errors import AutopilotError
from autopilot.function.answers import answer_error, error_response


class FilterInvalid(Exception):
    """A filter that the types let pass and that means nothing; ``field`` names it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


_REASONS = {
    400: "The body is not JSON.",
    401: "The key or the session is missing, wrong or over.",
    403: "A browser's write without the page's token, or from elsewhere.",
    404: "There is no such workflow, run or step.",
    409: "It does not go with the run's status.",
    413: "The payload is over 256 KiB.",
    415: "The payload is not sent as JSON.",
    422: "A filter, cursor or payload is refused; the details name the fields.",
    500: "The request could not be handled; the log says why.",
    502: "The workflow's function did not answer.",
    503: "The store is away, or the function asks to be called again.",
}
_ALWAYS = (401, 403, 422, 500, 503)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a call can answer beside its success, for the document."""
    return {status: {"model": ErrorAnswer, "description": _REASONS[status]} for status in sorted({*_ALWAYS, *statuses})}


def answer_exception(error: Exception) -> Response:
    """The answer to a call that ended in an error of ours or of the framework's."""
    match error:
        case AutopilotError():
            return answer_error(error)
        case AccessDenied():
            return error_response(error.status, error.code, str(error))
        case FunctionRefusal():
            return error_response(error.status, error.code, str(error), error.details)
        case FilterInvalid():
            details = [{"type": "filter_invalid", "loc": ["query", error.field], "msg": error.reason}]
            return error_response(422, "request_invalid", str(error), details)
        case HTTPException():
            phrase = HTTPStatus(error.status_code).phrase
            return error_response(
                error.status_code, phrase.lower().replace(" ", "_"), f"{phrase}: {error.detail}", headers=error.headers
            )
        case _:
            return error_response(500, "internal", "the request could not be handled; the log says why")


def answer_invalid(errors: list[dict[str, Any]]) -> Response:
    """The answer to a call whose parameters the types refuse; the values are not repeated."""
    details = [{name: fault[name] for name in ("type", "loc", "msg")} for fault in errors]
    told = "; ".join(f"{'.'.join(str(part) for part in fault['loc'][1:])}: {fault['msg']}" for fault in details[:5])
    return error_response(422, "request_invalid", told, details)
