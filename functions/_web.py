"""Asking web addresses that a caller chose: which may be asked, within which limits, and what went wrong in words.

A function's identity is a token that its metadata server gives to whoever asks from inside. Callers choose the
addresses here, so that server (and whatever else is link-local) is refused: by name in a payload, and by the address
that was really connected to before anything is sent, which also covers redirects and names that resolve to it.
"""

import asyncio
import ipaddress
import logging
import re
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import httpx
from pydantic import AfterValidator, Field

MAX_ADDRESS_LENGTH = 2048
MAX_REDIRECTS = 5
CONCURRENCY = 10
"""How many requests of one :class:`WebClient` are under way at once."""

_METADATA_HOSTS = frozenset({"metadata", "metadata.google.internal"})
_METADATA_IPV6 = ipaddress.IPv6Address("fd20:ce::254")
_HOST_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")

# httpx tells every whole address at INFO, query and all; a webhook's address is a secret.
logging.getLogger("httpx").setLevel(logging.WARNING)


def checked_address(value: str) -> str:
    """``value`` if it may be asked.

    Raises:
        ValueError: why it may not.
    """
    # Messages never repeat the value: an address may hold a secret, and a refusal is shown and logged.
    try:
        url = httpx.URL(value)
        port = url.port
    except (httpx.InvalidURL, ValueError):
        raise ValueError("is not a web address") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("must be an address that starts with http:// or https:// and a host")
    if url.userinfo:
        raise ValueError("must not hold a user name or password: addresses are stored and shown")
    if port is not None and not 1 <= port <= 65535:
        raise ValueError("must have a port from 1 to 65535")
    host = url.raw_host.decode("ascii").removesuffix(".")
    if host.lower() in _METADATA_HOSTS or _is_link_local(host):
        raise ValueError("must not be link-local: the metadata server is there")
    if ":" not in host and (len(host) > 253 or not all(map(_HOST_LABEL.fullmatch, host.split(".")))):
        raise ValueError("must have a host name of letters, digits, hyphens and dots")
    return value


def _is_link_local(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_link_local or address == _METADATA_IPV6


WebAddress = Annotated[str, Field(max_length=MAX_ADDRESS_LENGTH), AfterValidator(checked_address)]
"""An http or https address that may be asked: without credentials and not link-local."""


def host_of(address: str) -> str:
    """The host (and port, if it is said) of an address: what may be logged of it."""
    return httpx.URL(address).netloc.decode("ascii")


class FetchFailed(Exception):
    """There is no usable answer. ``reason`` is for people; it holds nothing of the address or the answer."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _AddressRefused(httpx.ConnectError):
    pass


@dataclass(slots=True)
class Exchange:
    """What is seen of one request on its own connections, those of its redirects included."""

    response: httpx.Response | None = None
    """The last answer of the chain; its body is not read yet. None until there is one."""
    latency_ms: int | None = None
    """From the first connect to the headers of the answer."""
    certificate_expires_at: datetime | None = None
    """The earliest end of the TLS certificates that were met."""
    _doing: str = "resolving the host name"

    async def observe(self, event: str, info: dict[str, Any]) -> None:
        """Follow httpcore's trace events (its ``trace`` request extension)."""
        self._doing = _DOING.get(event, self._doing)
        if event == "connection.connect_tcp.complete":
            await _refuse_link_local_peer(info["return_value"])
        elif event == "connection.start_tls.complete":
            self._note_certificate(info["return_value"].get_extra_info("ssl_object"))

    def _note_certificate(self, connection: ssl.SSLObject) -> None:
        certificate = connection.getpeercert() or {}
        ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
        self.certificate_expires_at = min(ends, self.certificate_expires_at or ends)

    def reason(self, error: Exception, seconds: float) -> str:
        """What ``error``, which ended this exchange, means to a person."""
        if isinstance(error, TimeoutError | httpx.TimeoutException):
            return f"timed out after {seconds:g} s while {self._doing}"
        for cause in _causes(error):
            if (words := _in_words(cause, self._doing)) is not None:
                return words
        return f"the request failed while {self._doing} ({type(error).__name__})"


_DOING = {
    "connection.connect_tcp.started": "connecting",
    "connection.start_tls.started": "agreeing on TLS",
    "http11.send_request_headers.started": "sending the request",
    "http11.receive_response_headers.started": "waiting for an answer",
    "http11.receive_response_body.started": "reading the body",
}


async def _refuse_link_local_peer(stream: Any) -> None:
    if _is_link_local(str(stream.get_extra_info("server_addr")[0]).partition("%")[0]):
        await stream.aclose()
        raise _AddressRefused("link-local")


class WebClient:
    """Asks web addresses, several at once, each on connections of its own and within its own time.

    Nothing is taken from the environment but ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``: no proxy, no .netrc.
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
        exchange: Exchange | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """Ask ``address``; the body of the answer is read inside the context, with :func:`read_body`.

        Args:
            seconds: for everything: connecting, redirects, and all that happens inside the context. Waiting for a
                free slot does not count.
            exchange: filled with what is seen on the way, however it ends.

        Raises:
            FetchFailed: there was no usable answer in time.
        """
        exchange = exchange if exchange is not None else Exchange()
        async with self._slots:
            try:
                async with (
                    asyncio.timeout(seconds),
                    self._client() as client,
                    _answer(
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
                # Without its cause: the exceptions of httpx carry the request, whose address may be a secret.
                raise FetchFailed(exchange.reason(error, seconds)) from None

    def _client(self) -> httpx.AsyncClient:
        # One client for each request: no cookies and no connections are shared between targets.
        return httpx.AsyncClient(
            headers=self._headers,
            verify=self._tls,
            trust_env=False,
            timeout=None,  # noqa: S113 - one limit on the whole exchange, above
            max_redirects=MAX_REDIRECTS,
            limits=httpx.Limits(max_keepalive_connections=0),
        )


@asynccontextmanager
async def _answer(
    client: httpx.AsyncClient, request: httpx.Request, *, follow_redirects: bool, exchange: Exchange
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
    """At most ``limit`` bytes of the body, and whether that is all of it.

    It is unpacked here and not by httpx, which unpacks whatever came in one piece: a thousandfold, of a gzip bomb.
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


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """``error`` and what is behind it, the innermost first: there is the operating system's own word."""
    if error is None:
        return
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _causes(member)
    yield from _causes(error.__cause__ or error.__context__)
    yield error


_WORDS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    (_AddressRefused, "its address is link-local, where the metadata server is; it was not asked"),
    ((socket.gaierror, UnicodeError), "the host name cannot be resolved"),
    (ConnectionRefusedError, "the connection was refused"),
    ((ConnectionResetError, BrokenPipeError), "the connection was reset while {doing}"),
    (ssl.SSLCertVerificationError, "its TLS certificate is not valid: {cause.verify_message}"),
    (ssl.SSLError, "the TLS handshake failed: {cause.reason}"),
    (httpx.TooManyRedirects, f"it redirects more than {MAX_REDIRECTS} times"),
    ((httpx.UnsupportedProtocol, httpx.InvalidURL), "it redirects to what is not an http or https address"),
    (httpx.RemoteProtocolError, "the connection was closed, or the answer was not HTTP, while {doing}"),
    (zlib.error, "its body is not valid gzip"),
    (OSError, "the connection failed: {cause.strerror}"),
)
"""What exceptions mean; the first that fits is taken."""


def _in_words(cause: BaseException, doing: str) -> str | None:
    for types, words in _WORDS:
        if isinstance(cause, types):
            return words.format(cause=cause, doing=doing)
    return None
