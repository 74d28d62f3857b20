"""ASGI middleware around API v1 and the dashboard: authorization, deadlines, security headers, the process boundary."""

from urllib.parse import quote

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from autopilot.api.access import Access
from autopilot.api.paths import route_path, to_root
from autopilot.core.clock import Clock
from autopilot.core.deadline import deadline
from autopilot.errors import StoreError
from autopilot.function.answers import answer_error, error_response
from autopilot.function.trigger import RequestRefused

log = structlog.get_logger(__name__)

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

_OPEN_PATHS = ("/sign-in", "/static/")
_ACTIONS = frozenset({"retry", "rerun", "cancel", "delete"})


class SecurityHeadersMiddleware:
    """ASGI middleware that sets security headers, and lets browsers cache static files alone."""

    def __init__(self, app: ASGIApp, *, in_cloud: bool) -> None:
        self._app = app
        self._headers = HEADERS | ({"Strict-Transport-Security": "max-age=31536000"} if in_cloud else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_static = route_path(scope).startswith("/static/")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                is_kept = is_static and message["status"] < 400  # the next version may have what this one has not
                headers["Cache-Control"] = "public, max-age=31536000, immutable" if is_kept else "no-store"
            await send(message)

        await self._app(scope, receive, send_with_headers)


class DeadlineMiddleware:
    """ASGI middleware that hands the end of the request down to every store call, but for a tenth kept for the answer.

    Args:
        seconds: after which the platform ends a request.
    """

    def __init__(self, app: ASGIApp, clock: Clock, seconds: float) -> None:
        self._app = app
        self._clock = clock
        self._seconds = seconds * 0.9

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with deadline(self._clock, self._clock.monotonic() + self._seconds):
            await self._app(scope, receive, send)


class ErrorMiddleware:
    """ASGI middleware that logs an unexpected exception and answers 500: no traceback reaches the caller."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def send_and_see(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_see)
        except Exception:  # the process boundary
            log.exception("request_failed", path=route_path(scope), status=500)
            if not has_begun:
                answer = error_response(500, "internal", "the request could not be handled; the log says why")
                await answer(scope, receive, send)


class AuthMiddleware:
    """ASGI middleware that rejects unauthorized requests: 401 from the API, a redirect to sign in from a page."""

    def __init__(self, app: ASGIApp, access: Access, *, api_path: str) -> None:
        self._app = app
        self._access = access
        self._api_path = api_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = route_path(scope)
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        try:
            self._access.check_host(connection)
            if not path.startswith(_OPEN_PATHS):
                await self._access.check_caller(connection)
        except RequestRefused as refused:
            await self._refuse(refused, scope, path)(scope, receive, send)
            return
        except StoreError as error:
            log.error("request_failed", path=path, status=503, error=str(error))  # noqa: TRY400 - it says all there is
            await answer_error(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refuse(self, refused: RequestRefused, scope: Scope, path: str) -> Response:
        if path.startswith(f"{self._api_path}/") or refused.status != 401:
            return error_response(refused.status, refused.code, str(refused))
        wanted, is_read = path, scope["method"] in {"GET", "HEAD"}
        if is_read and scope["query_string"]:
            wanted += "?" + scope["query_string"].decode("latin-1")
        elif not is_read and (action := path.rpartition("/")) and action[2] in _ACTIONS:
            wanted = action[0]  # the page that the form was on
        ended = "" if is_read else "&ended=1"
        return RedirectResponse(f"{to_root(path)}sign-in?next={quote(wanted, safe='')}{ended}", 303)
