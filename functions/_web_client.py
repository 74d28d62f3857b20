"""An HTTP client for addresses that a caller chose: its limits, and its failures in words.

It refuses a link-local peer once it is connected and before it sends anything; see :mod:`functions._web_address`.
"""

import asyncio
import logging
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from functions._web_address import is_link_local

MAX_REDIRECTS = 5
CONCURRENCY = 10
"""The requests that one :class:`WebClient` makes at once."""

# httpx logs whole addresses at INFO, query included; a webhook's address is a secret.
logging.getLogger("httpx").setLevel(logging.WARNING)


class FetchFailed(Exception):
    """There is no usable response. ``reason`` is for people; it holds nothing of the address or the response."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class WebClient:
    """Makes several requests at once, each on connections of its own and within its own time.

    It takes nothing from the environment but ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``: no proxy, no .netrc.
    """

    def __init__(self, user_agent: str) -> None:
        self._headers = {"user-agent": user_agent, "accept-encoding": "gzip"}
        self._tls = httpx.create_ssl_context()
        self._slots = asyncio.Semaphore(CONCURRENCY)

    @asynccontextmanager
    async def request(
        self,
        method: str,
        address: str,
        *,
        seconds: float,
        follow_redirects: bool = True,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        exchange: "Exchange | None" = None,
    ) -> AsyncIterator[httpx.Response]:
        """Request ``address``; read the body of the response inside the context, with :func:`read_body`.

        Args:
            seconds: for everything: connecting, redirects, and all that happens inside the context. Waiting for a
                free slot does not count.
            exchange: filled with what is observed on the way, whatever the outcome.

        Raises:
            FetchFailed: there was no usable response in time.
        """
        exchange = exchange if exchange is not None else Exchange()
        async with self._slots:
            try:
                async with (
                    asyncio.timeout(seconds),
                    self._client() as client,
                    _response(
                        client,
                        client.build_request(
                            method, address, headers=headers, json=json, extensions={"trace": exchange.observe}
                        ),
                        follow_redirects=follow_redirects,
                        exchange=exchange,
                    ) as response,
                ):
                    yield response
            except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError, zlib.error) as error:
                # Without its cause: httpx's exceptions carry the request, whose address may be a secret.
                raise FetchFailed(exchange.reason(error, seconds)) from None

    def _client(self) -> httpx.AsyncClient:
        # One client for each request: targets share no cookies and no connections.
        return httpx.AsyncClient(
            headers=self._headers,
            verify=self._tls,
            trust_env=False,
            timeout=None,  # noqa: S113 - one limit on the whole exchange, above
            max_redirects=MAX_REDIRECTS,
            limits=httpx.Limits(max_keepalive_connections=0),
        )


@asynccontextmanager
async def _response(
    client: httpx.AsyncClient, request: httpx.Request, *, follow_redirects: bool, exchange: "Exchange"
) -> AsyncIterator[httpx.Response]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    response = await client.send(request, stream=True, follow_redirects=follow_redirects)
    try:
        exchange.latency_ms = round((loop.time() - began) * 1000)
        exchange.response = response
        yield response
    finally:
        await response.aclose()


async def read_body(response: httpx.Response, limit: int) -> tuple[bytes, bool]:
    """Read at most ``limit`` bytes of the body; the second value is True if that is all of it.

    It is decompressed here and not by httpx, which decompresses each chunk as a whole: a thousandfold, of a gzip bomb.

    Raises:
        FetchFailed: the body is compressed in another way than gzip.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity", "gzip", "x-gzip"}:
        raise FetchFailed("its body is compressed in a way that was not asked for")
    gzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if "gzip" in encoding else None
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += gzip.decompress(chunk, limit + 1 - len(body)) if gzip is not None else chunk
        if len(body) > limit:
            return bytes(body[:limit]), False
    return bytes(body), True


@dataclass(slots=True)
class Exchange:
    """Observations of one request, its redirects included."""

    response: httpx.Response | None = None
    """The last response of the chain, its body not read yet. None until there is one."""
    latency_ms: int | None = None
    """From the first connect to the headers of the response."""
    certificate_expires_at: datetime | None = None
    """The earliest expiry of the TLS certificates on the way."""
    _doing: str = "resolving the host name"

    async def observe(self, event: str, info: dict[str, Any]) -> None:
        """Follow httpcore's trace events (its ``trace`` request extension)."""
        self._doing = _DOING.get(event, self._doing)
        if event == "connection.connect_tcp.complete":
            stream = info["return_value"]
            if is_link_local(str(stream.get_extra_info("server_addr")[0]).partition("%")[0]):
                await stream.aclose()
                raise _AddressRefused("link-local")
        elif event == "connection.start_tls.complete":
            certificate = info["return_value"].get_extra_info("ssl_object").getpeercert() or {}
            expires_at = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
            self.certificate_expires_at = min(expires_at, self.certificate_expires_at or expires_at)

    def reason(self, error: Exception, seconds: float) -> str:
        """Explain to a person why this exchange ended with ``error``."""
        if isinstance(error, TimeoutError | httpx.TimeoutException):
            return f"timed out after {seconds:g} s while {self._doing}"
        for cause in _causes(error):
            for types, words in _REASONS:
                if isinstance(cause, types):
                    return words.format(cause=cause, doing=self._doing)
        return f"the request failed while {self._doing} ({type(error).__name__})"


class _AddressRefused(httpx.ConnectError):
    pass


_DOING = {
    "connection.connect_tcp.started": "connecting",
    "connection.start_tls.started": "negotiating TLS",
    "http11.send_request_headers.started": "sending the request",
    "http11.receive_response_headers.started": "waiting for an answer",
    "http11.receive_response_body.started": "reading the body",
}

_REASONS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    (_AddressRefused, "its address is link-local, where the metadata server is; nothing was sent"),
    ((socket.gaierror, UnicodeError), "the host name cannot be resolved"),
    (ConnectionRefusedError, "the connection was refused"),
    ((ConnectionResetError, BrokenPipeError), "the connection was reset while {doing}"),
    (ssl.SSLCertVerificationError, "its TLS certificate is not valid: {cause.verify_message}"),
    (ssl.SSLError, "the TLS handshake failed: {cause.reason}"),
    (httpx.TooManyRedirects, f"it redirects more than {MAX_REDIRECTS} times"),
    ((httpx.UnsupportedProtocol, httpx.InvalidURL), "it redirects to something that is not an http or https address"),
    (httpx.RemoteProtocolError, "the connection was closed, or the answer was not HTTP, while {doing}"),
    (zlib.error, "its body is not valid gzip"),
    (OSError, "the connection failed: {cause.strerror}"),
)
"""The first entry that matches a cause explains it."""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """``error`` and its causes, innermost first: the operating system's own error is there."""
    if error is None:
        return
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _causes(member)
    yield from _causes(error.__cause__ or error.__context__)
    yield error
