"""What every request passes on its way in, and every answer on its way out."""

from urllib.parse import quote

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from autopilot.api.access import Access, AccessDenied
from autopilot.function.answers import error_response

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


class SecurityHeaders:
    """Tells browsers to run nothing but what is ours, and to keep nothing but static files."""

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
                headers["Cache-Control"] = "public, max-age=31536000, immutable" if is_static else "no-store"
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Boundary:
    """The process boundary: no traceback leaves, and none is lost."""

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


class Door:
    """Lets in who may come in."""

    def __init__(self, app: ASGIApp, access: Access, *, api_path: str) -> None:
        self._app = app
        self._access = access
        self._api_path = api_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = route_path(scope)
        if scope["type"] != "http" or path.startswith(_OPEN_PATHS):
            await self._app(scope, receive, send)
            return
        try:
            await self._access.check_caller(HTTPConnection(scope))
        except AccessDenied as denied:
            await self._refuse(denied, scope, path)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refuse(self, denied: AccessDenied, scope: Scope, path: str) -> Response:
        if path.startswith(f"{self._api_path}/") or denied.status != 401:
            return error_response(denied.status, denied.code, str(denied))
        wanted, is_read = path, scope["method"] in {"GET", "HEAD"}
        if is_read and scope["query_string"]:
            wanted += "?" + scope["query_string"].decode("latin-1")
        elif not is_read and (action := path.rpartition("/")) and action[2] in _ACTIONS:
            wanted = action[0]  # the page that the form was on
        ended = "" if is_read else "&ended=1"
        return RedirectResponse(f"{to_root(path)}sign-in?next={quote(wanted, safe='')}{ended}", 303)


def route_path(scope: Scope) -> str:
    """The path within the application, wherever it is mounted."""
    path: str = scope.get("path", "")
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


def to_root(path: str) -> str:
    """From a page at ``path`` to the root, as a relative address: right behind any prefix that a proxy takes away."""
    return "../" * (path.count("/") - 1) or "./"
