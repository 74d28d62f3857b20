"""``autopilot dashboard``: the dashboard of ``autopilot dev``, or of a deployed API through an authenticated proxy."""

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Final
from urllib.parse import quote, urlsplit

import httpx
import typer
import uvicorn
from pydantic import ValidationError
from rich.console import Console
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from autopilot.api.schemas import HealthReport
from autopilot.cli.api_runs import error_of
from autopilot.cli.credentials import api_credentials, checked_url
from autopilot.cli.exits import CommandFailed, ExitCode
from autopilot.cli.options import UrlOption
from autopilot.loopback import LOOPBACK, PortUnavailable, foreign, listen

_CONNECT_SECONDS = 10.0
# Of one connection, not of the request (RFC 9110, 7.6.1); and the host, which httpx sets itself.
_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "host"}
)


def dashboard(
    *,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of `autopilot dev`; with --url, of the local proxy.")
    ] = 8080,
    browser: Annotated[bool, typer.Option(help="Open it in a browser.")] = True,
    url: UrlOption = None,
) -> None:
    """Open the dashboard of `autopilot dev`, or with --url that of a deployed API, authenticated as you."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    here = f"http://{LOOPBACK}:{port}/"
    if not url:
        _require_dev(port)
        console.print(f"The dashboard is at {here}")
        if browser:
            typer.launch(here)
        return
    upstream = checked_url(url)
    credentials = api_credentials(upstream)
    credentials()  # so that a missing sign-in is reported here and not in the browser
    try:
        listener = listen(port)
    except PortUnavailable as error:
        raise CommandFailed(ExitCode.NOT_SERVED, f"{error}; choose another with --port") from None
    with listener:
        console.print(f"The dashboard of {urlsplit(upstream).netloc} is at {here} until you press Ctrl-C")
        if browser:
            typer.launch(here)
        _serve(AuthenticatingProxy(upstream, credentials=credentials, port=port), listener)
    console.print("stopped")


class AuthenticatingProxy:
    """ASGI application that forwards each request to ``url``, with the caller's credentials.

    Every request that it accepts acts as the person at the keyboard, so it rejects those of other sites' pages.

    Args:
        url: base URL of the API.
        credentials: gives the headers that authorize a request, at each request.
        port: the port of this machine at which it is served.
        transport: httpx's own, or a test's.
    """

    def __init__(
        self,
        url: str,
        *,
        credentials: Callable[[], dict[str, str]],
        port: int,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = httpx.URL(url)
        self._origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        self._credentials = credentials
        self._port = port
        # Streams of events can be silent for long.
        timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)
        self._http = httpx.AsyncClient(transport=transport, timeout=timeout, follow_redirects=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            response = await self._answer(Request(scope, receive))
            await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if (reason := foreign(request.headers, self._port)) is not None:
            return PlainTextResponse(reason, 403)
        if (target := self._target(request.scope)) is None:
            return PlainTextResponse("the target of a request must be a path that begins with a slash", 400)
        try:
            answer = await self._http.send(await self._forwarded(request, target), stream=True)
        except CommandFailed as failure:
            return PlainTextResponse(f"autopilot: {failure}", 502)
        except httpx.HTTPError as error:
            return PlainTextResponse(f"{self._url} does not answer: {type(error).__name__}: {error}", 502)
        response = StreamingResponse(
            answer.aiter_raw(), status_code=answer.status_code, background=BackgroundTask(answer.aclose)
        )
        response.raw_headers = [
            (name.lower(), value) for name, value in answer.headers.raw if name.lower().decode() not in _HOP_BY_HOP
        ]
        return response

    def _target(self, scope: Scope) -> httpx.URL | None:
        """The address at the API for a request's target; None if it is not a path, or leads anywhere else.

        Clients other than browsers can send anything there: `@evil.example/`, `.evil.example/` or a whole URL, which
        joined to the API's address would take the credentials to another host.
        """
        path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
        if not path.startswith(b"/"):
            return None
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        try:
            target = self._url.copy_with(raw_path=self._url.raw_path.rstrip(b"/") + path + query)
        except (httpx.InvalidURL, ValueError):  # bytes that no URL has
            return None
        return target if _origin_of(target) == _origin_of(self._url) else None

    async def _forwarded(self, request: Request, target: httpx.URL) -> httpx.Request:
        headers = httpx.Headers([(name, value) for name, value in request.headers.items() if name not in _HOP_BY_HOP])
        if "origin" in headers:
            headers["origin"] = self._origin  # the API's own page, as it sees it
        headers.update(self._credentials())
        return self._http.build_request(request.method, target, headers=headers, content=await request.body())


def _origin_of(url: httpx.URL) -> tuple[str, bytes, int | None]:
    return url.scheme, url.netloc, url.port


def _require_dev(port: int) -> None:
    try:
        answer = httpx.get(f"http://{LOOPBACK}:{port}/api/v1/health", timeout=5.0, trust_env=False)
    except httpx.HTTPError:
        raise CommandFailed(
            ExitCode.NOT_SERVED,
            f"nothing answers at port {port}: start `autopilot dev`, or use --url for a deployed API",
        ) from None
    if not error_of(answer).code:  # an error of ours asks for the API's key, which the dashboard itself will do
        try:
            HealthReport.model_validate_json(answer.content)
        except ValidationError:
            message = f"the server at port {port} is not `autopilot dev`; name its port with --port"
            raise CommandFailed(ExitCode.NOT_SERVED, message) from None


def _serve(app: AuthenticatingProxy, listener: socket.socket) -> None:
    # h11 passes on a request's target as it was sent; httptools would take the path out of an absolute one.
    config = uvicorn.Config(
        app, http="h11", lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
