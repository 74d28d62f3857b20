"""Gives the errors of frameworks the one JSON shape that all errors have."""

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from autopilot.function.answers import error_response

_KEPT = frozenset({"allow", "retry-after", "vary", "accept-ranges", "content-range"})


class ErrorShapeMiddleware:
    """ASGI middleware that replaces an error in plain text, which is never ours, by one in JSON.

    Frameworks answer so before or beside our own code: a method that no route takes, a range of a file that cannot be
    read, a preflight request of another origin.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_replaced = False

        async def send_in_shape(message: Message) -> None:
            nonlocal is_replaced
            if message["type"] == "http.response.start" and _is_plain_error(message):
                is_replaced = True
                await _error_of(message)(scope, receive, send)
            elif not is_replaced:
                await send(message)

        await self._app(scope, receive, send_in_shape)


def _is_plain_error(message: Message) -> bool:
    content_type = Headers(raw=message["headers"]).get("content-type", "text/plain")
    return message["status"] >= 400 and content_type.startswith("text/plain")


def _error_of(message: Message) -> ASGIApp:
    status, headers = HTTPStatus(message["status"]), Headers(raw=message["headers"])
    kept = {name: value for name, value in headers.items() if name in _KEPT or name.startswith("access-control-")}
    code = status.phrase.lower().replace(" ", "_")
    return error_response(status, code, status.description or status.phrase, headers=kept)
