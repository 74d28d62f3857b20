"""A private API on an address of this machine, opened with the credentials of the person at the keyboard."""

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import httpx
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from autopilot.cli.exits import CommandFailed
from autopilot.loopback import foreign

_CONNECT_SECONDS = 10.0
# Of one connection, and not of what is said over it (RFC 9110, 7.6.1); what httpx and uvicorn set themselves.
_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "host"}
)


class CredentialedProxy:
    """An ASGI application that hands each request on to ``url`` with the headers that the caller is known by.

    Whoever may ask it acts as that person. So it answers to pages of its own and to programs of this machine, and not
    to pages of other sites that a browser of this machine shows.

    Args:
        url: of the API.
        headers: gives what the caller is known by, at each request.
        port: of this machine, at which this is served.
        transport: httpx's own, or a test's.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Callable[[], dict[str, str]],
        port: int,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = url
        self._origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        self._headers = headers
        self._port = port
        # Server-sent events are silent for a while.
        timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)
        self._http = httpx.AsyncClient(transport=transport, timeout=timeout, follow_redirects=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        response = await self._answer(request)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if (reason := foreign(request.headers, self._port)) is not None:
            return PlainTextResponse(reason, 403)
        try:
            answer = await self._http.send(await self._onward(request), stream=True)
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

    async def _onward(self, request: Request) -> httpx.Request:
        kept = [(name, value) for name, value in request.headers.items() if name not in _HOP_BY_HOP]
        headers = httpx.Headers(kept)
        if "origin" in headers:
            headers["origin"] = self._origin  # a page of ours is a page of the API's
        headers.update(self._headers())
        path = request.scope["raw_path"].decode("ascii") if request.scope.get("raw_path") else request.url.path
        query = f"?{request.url.query}" if request.url.query else ""
        body = await request.body()
        return self._http.build_request(request.method, f"{self._url}{path}{query}", headers=headers, content=body)
