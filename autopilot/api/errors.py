"""Error answers of the API: exceptions in the one JSON shape, and their documentation in OpenAPI."""

from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from autopilot.api.schemas import ErrorAnswer
from autopilot.errors import AutopilotError
from autopilot.function.answers import answer_error, error_response
from autopilot.function.trigger import RequestRefused

_REASONS = {
    400: "The body is not JSON, or not of the documented form.",
    401: "The key or the session is missing, wrong or expired.",
    403: "A browser's write without the page's CSRF token, or from another site.",
    404: "There is no such workflow, run or step.",
    409: "The run's status does not allow it, a retry must confirm interrupted steps, or main.py no longer defines the "
    "workflow.",
    413: "The body is over 256 KiB.",
    415: "The body is not sent as JSON.",
    422: "A filter, cursor or payload is invalid; the details name the fields.",
    429: "Too many wrong keys at once.",
    500: "The request could not be handled; the log says why.",
    502: "The workflow's function does not answer.",
    503: "The store does not answer, or the function asks to be called again.",
}
_ALWAYS = (401, 403, 422, 429, 500, 503)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of an endpoint, for OpenAPI."""
    return {status: {"model": ErrorAnswer, "description": _REASONS[status]} for status in sorted({*_ALWAYS, *statuses})}


def answer_exception(error: Exception) -> Response:
    """The answer to a call that raised an error of ours or of the framework's."""
    match error:
        case AutopilotError():
            return answer_error(error)
        case RequestRefused():
            return error_response(error.status, error.code, str(error), error.details)
        case HTTPException():
            phrase = HTTPStatus(error.status_code).phrase
            return error_response(
                error.status_code, phrase.lower().replace(" ", "_"), f"{phrase}: {error.detail}", headers=error.headers
            )
        case _:
            return error_response(500, "internal", "the request could not be handled; the log says why")


def answer_invalid(errors: list[dict[str, Any]]) -> Response:
    """The answer to a call with invalid parameters; it does not repeat their values."""
    details = [{name: error[name] for name in ("type", "loc", "msg")} for error in errors]
    message = "; ".join(f"{'.'.join(str(part) for part in error['loc'][1:])}: {error['msg']}" for error in details[:5])
    return error_response(422, "request_invalid", message, details)
