"""An HTTP client for addresses that a caller chose: its limits, and its failures in words.

Where it may connect is decided in :mod:`functions._network`, for every redirect again.
"""

import asyncio
import logging
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import cached_property
from typing import Any

import httpcore
import httpx
from pydantic import BaseModel, Field

from autopilot import Clock, RunContext
from functions._decompression import BodyCompressedOtherwise, decompressor_for
from functions._network import SYSTEM_NETWORK, AddressRefused, GuardedNetwork, HostRules, Network, Route, causes

MAX_REDIRECTS = 5
CONCURRENCY = 10
"""The requests that one :class:`WebClient` makes at once."""

_SENT_EVERYWHERE = frozenset({"accept", "accept-language", "if-modified-since", "if-none-match", "user-agent"})
"""Headers of a request that a redirect to another host carries on. Any other may be a secret of the first host's."""

_CERTIFICATE_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED

# httpx and httpcore log whole addresses, query included; a webhook's address is a secret.
for _logger in ("httpx", "httpcore"):
    logging.getLogger(_logger).setLevel(logging.WARNING)


class WebConfig(BaseModel):
    """The configuration of a workflow that requests addresses that its callers choose."""

    allow_private_hosts: bool | None = Field(
        default=None,
        description="Whether private and loopback hosts may be requested. None: on your own machine, not in the cloud.",
    )


class FetchFailed(Exception):
    """There is no usable response. ``reason`` is for people; it holds nothing of the address or the response."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FetchRefused(FetchFailed):
    """The address may not be requested from here, however often it is tried."""


class WebClient:
    """Makes several requests at once, each on connections of its own and within its own time.

    It takes nothing from the environment but ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``: no .netrc, and no proxy, which
    would connect to addresses that nobody here has judged.

    Args:
        clock: measures latencies and limits.
        allow_private_hosts: whether private and loopback hosts may be requested.
        network: resolves names and connects.
    """

    def __init__(
        self, user_agent: str, *, clock: Clock, allow_private_hosts: bool, network: Network = SYSTEM_NETWORK
    ) -> None:
        self._headers = httpx.Headers({"user-agent": user_agent, "accept": "*/*", "accept-encoding": "gzip, deflate"})
        self._clock = clock
        self._network = network
        self._rules = HostRules(allow_private_hosts=allow_private_hosts)
        self._slots = asyncio.Semaphore(CONCURRENCY)

    @classmethod
    def of_run(cls, user_agent: str, ctx: RunContext[Any], network: Network = SYSTEM_NETWORK) -> "WebClient":
        """The client of a run whose configuration is a :class:`WebConfig`."""
        config: WebConfig = ctx.config
        allowed = config.allow_private_hosts if config.allow_private_hosts is not None else not ctx.in_cloud
        return cls(user_agent, clock=ctx.clock, allow_private_hosts=allowed, network=network)

    @asynccontextmanager
    async def request(
        self,
        method: str,
        address: str,
        *,
        seconds: float,
        follow_redirects: bool = True,
        verify_tls: bool = True,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        exchange: "Exchange | None" = None,
    ) -> AsyncIterator[httpx.Response]:
        """Request ``address``; read the body of the response inside the context, with :func:`read_body`.

        Args:
            seconds: for everything: connecting, redirects, and all that happens inside the context. Waiting for a
                free slot does not count.
            follow_redirects: up to 5, for GET and HEAD only. ``headers`` that may be secrets stay with the first host.
            verify_tls: False accepts every certificate.
            exchange: filled with what is observed on the way, whatever the outcome.

        Raises:
            FetchRefused: nothing may be sent to the address, or to one that it redirects to.
            FetchFailed: there was no usable response in time.
        """
        exchange = exchange if exchange is not None else Exchange()
        request = httpx.Request(method, address, headers=self._with(headers), json=json)
        async with self._slots:
            try:
                async with (
                    self._clock.timeout(seconds),
                    self._connections(exchange.route, verify_tls=verify_tls) as connections,
                    self._last_response(connections, request, exchange, follow_redirects=follow_redirects) as response,
                ):
                    yield response
            except AddressRefused as refused:
                raise FetchRefused(exchange.placed(str(refused))) from None
            except _FAILURES as error:
                # Without its cause, which may hold the address, and that may be a secret.
                raise FetchFailed(exchange.reason(error, seconds, now=self._clock.now())) from None

    def _with(self, headers: Mapping[str, str] | None) -> httpx.Headers:
        together = self._headers.copy()
        together.update(headers)
        return together

    def _connections(self, route: Route, *, verify_tls: bool) -> httpcore.AsyncConnectionPool:
        # One pool for each request: targets share no connections.
        return httpcore.AsyncConnectionPool(
            ssl_context=self._tls if verify_tls else self._unverified_tls,
            max_keepalive_connections=0,
            network_backend=GuardedNetwork(self._network, self._rules, route, self._clock),
        )

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return httpx.create_ssl_context()

    @cached_property
    def _unverified_tls(self) -> ssl.SSLContext:
        return httpx.create_ssl_context(verify=False)

    @asynccontextmanager
    async def _last_response(
        self,
        connections: httpcore.AsyncConnectionPool,
        request: httpx.Request,
        exchange: "Exchange",
        *,
        follow_redirects: bool,
    ) -> AsyncIterator[httpx.Response]:
        began = self._clock.monotonic()
        first, cookies = request, httpx.Cookies()
        for _ in range(MAX_REDIRECTS + 1):
            response = await _send(connections, request, exchange.route)
            try:
                exchange.latency_ms = round((self._clock.monotonic() - began) * 1000)
                exchange.response = response
                if not (follow_redirects and response.has_redirect_location):
                    yield response
                    return
                # Of a redirect nothing but its headers is read: its body may be of any size.
                cookies.extract_cookies(response)
                request = self._redirected(first, request.url, response.headers["location"], cookies)
                exchange.redirects += 1
            finally:
                await response.aclose()
        raise FetchFailed(f"it redirects more than {MAX_REDIRECTS} times")

    def _redirected(
        self, first: httpx.Request, current: httpx.URL, location: str, cookies: httpx.Cookies
    ) -> httpx.Request:
        try:
            url = current.join(location).copy_with(userinfo=b"")
            port, has_host = url.port, bool(url.host)
        except (httpx.InvalidURL, ValueError):
            raise FetchFailed(_NOT_A_WEB_ADDRESS) from None
        if url.scheme not in {"http", "https"} or not has_host or not 1 <= (80 if port is None else port) <= 65535:
            raise FetchFailed(_NOT_A_WEB_ADDRESS)
        own = _is_same_site(first.url, url)
        headers = {
            name: value
            for name, value in first.headers.items()
            if own or name in _SENT_EVERYWHERE or name in self._headers
        }
        return httpx.Request(first.method, url, headers=headers, cookies=cookies)


def _is_same_site(first: httpx.URL, url: httpx.URL) -> bool:
    """Whether both have one origin, or the second is the first over https, each with its own default port."""
    if url.host != first.host:
        return False
    return (url.scheme, url.port) == (first.scheme, first.port) or (
        (first.scheme, first.port, url.scheme, url.port) == ("http", None, "https", None)
    )


async def _send(connections: httpcore.AsyncConnectionPool, request: httpx.Request, route: Route) -> httpx.Response:
    host = request.url.raw_host.decode("ascii")

    async def observe(event: str, info: dict[str, Any]) -> None:
        route.doing = _DOING.get(event, route.doing)

    answer = await connections.handle_async_request(
        httpcore.Request(
            method=request.method,
            url=httpcore.URL(
                scheme=request.url.raw_scheme, host=host, port=request.url.port, target=request.url.raw_path
            ),
            headers=request.headers.raw,
            content=request.stream,
            # The dot at the end of a name is for the resolver; no certificate has it.
            extensions={"trace": observe, "sni_hostname": host.removesuffix(".")},
        )
    )
    return httpx.Response(
        answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions, request=request
    )


class _Body(httpx.AsyncByteStream):
    """The body of httpcore's response, as httpx takes it."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._answer.aiter_stream()

    async def aclose(self) -> None:
        await self._answer.aclose()


async def read_body(response: httpx.Response, limit: int) -> tuple[bytes, bool]:
    """Read at most ``limit`` bytes of the body, decompressed; the second value is True if that is all of it.

    It is decompressed here and not by httpx, which decompresses each chunk as a whole: a thousandfold, of a gzip bomb.

    Raises:
        FetchFailed: the body breaks off, is not validly compressed, or is compressed in another way than gzip and
            deflate. A compressed body of which more than ``limit`` bytes came is not decompressed to the end.
    """
    try:
        decompressor = decompressor_for(response.headers.get("content-encoding", ""))
    except BodyCompressedOtherwise:
        raise FetchFailed("its body is compressed in a way that was not asked for") from None
    body = bytearray()
    received = 0
    try:
        async for chunk in response.aiter_raw():
            received += len(chunk)
            body += decompressor.decompress(chunk, limit + 1 - len(body))
            if len(body) > limit or received > _most_compressed(limit):
                return bytes(body[:limit]), False
    except zlib.error:
        raise FetchFailed(f"its body is not valid {decompressor.name}") from None
    if not decompressor.is_complete:
        raise FetchFailed(f"its body is truncated: its {decompressor.name} data breaks off")
    return bytes(body), True


def _most_compressed(limit: int) -> int:
    """The bytes that ``limit`` bytes can take when they are compressed; more are nothing but headers."""
    return limit + limit // 100 + 1024


class Exchange:
    """Observations of one request, its redirects included.

    Attributes:
        response: the last response of the chain, its body not read yet. None until there is one.
        latency_ms: from the first connect to the headers of the last response.
        redirects: the number that was followed.
    """

    def __init__(self) -> None:
        self.redirects = 0
        self.response: httpx.Response | None = None
        self.latency_ms: int | None = None
        self.route = Route()

    @property
    def certificate_expires_at(self) -> datetime | None:
        """The earliest expiry of the TLS certificates on the way."""
        return self.route.certificate_expires_at

    def reason(self, error: Exception, seconds: float, *, now: datetime) -> str:
        """Explain to a person why this exchange ended with ``error``."""
        return self.placed(self._explained(error, seconds, now))

    def placed(self, reason: str) -> str:
        """``reason``, and whether it is about a host that a redirect led to."""
        return f"after a redirect, {reason}" if self.redirects else reason

    def _explained(self, error: Exception, seconds: float, now: datetime) -> str:
        doing = self.route.doing
        if isinstance(error, TimeoutError | httpcore.TimeoutException):
            return f"timed out after {seconds:g} s while {doing}"
        for cause in causes(error):
            if isinstance(cause, ssl.SSLCertVerificationError):
                return f"its TLS certificate is not valid: {self._refusal(cause, now)}"
            if isinstance(cause, httpcore.RemoteProtocolError):
                return _not_http(str(cause), doing)
            for types, words in _REASONS:
                if isinstance(cause, types):
                    return words.format(cause=cause, doing=doing)
        return f"the request failed while {doing} ({type(error).__name__})"

    def _refusal(self, error: ssl.SSLCertVerificationError, now: datetime) -> str:
        expires_at = self.certificate_expires_at
        if error.verify_code == _CERTIFICATE_EXPIRED and expires_at is not None and expires_at > now:
            return "the certificate of an authority that issued it has expired"
        return error.verify_message


_NOT_A_WEB_ADDRESS = "it redirects to something that is not an http or https address"

_FAILURES = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    OSError,
    UnicodeError,
)

_DOING = {
    "http11.send_request_headers.started": "sending the request",
    "http11.receive_response_headers.started": "waiting for an answer",
    "http11.receive_response_body.started": "reading the body",
}

_REASONS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    ((socket.gaierror, UnicodeError), "the host name cannot be resolved"),
    (ConnectionRefusedError, "the connection was refused"),
    ((ConnectionResetError, BrokenPipeError), "the connection was reset while {doing}"),
    (ssl.SSLError, "the TLS handshake failed: {cause.reason}"),
    (OSError, "the connection failed: {cause.strerror}"),
)
"""The first entry that matches a cause explains it."""


def _not_http(message: str, doing: str) -> str:
    # h11 and httpcore tell these apart in their messages only, which may hold parts of the answer.
    if message.startswith("peer closed connection without sending complete message body"):
        return "its body is truncated: the connection was closed before its end"
    if message.startswith("Receive buffer too long"):
        return "the headers of its answer are too long"
    if message.startswith("Server disconnected"):
        return f"the connection was closed while {doing}"
    return f"the answer was not HTTP, while {doing}"
