"""The way from a host name to a connection, for addresses that a caller chose.

A name is resolved once, every address of the answer is judged, and the connection is made to a judged address: there
is no second look-up that could answer something else. TLS and the Host header still go by the name.
"""

import asyncio
import socket
import ssl
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_address
from itertools import chain, zip_longest
from typing import Any

import httpcore

from autopilot import Clock
from functions._ip_addresses import IPAddress, Reach, reach_of

_Attempt = asyncio.Task[tuple[IPAddress, httpcore.AsyncNetworkStream]]

NEXT_ADDRESS_AFTER = 0.25
"""Seconds that one address of a name gets to answer before the next one is tried beside it (RFC 8305)."""


class AddressRefused(Exception):
    """A function may not connect there. The reason is for people, and holds nothing of the address."""


async def _resolve(host: str, port: int) -> Sequence[IPAddress]:
    """Ask the operating system.

    Raises:
        OSError, UnicodeError: the name cannot be resolved.
    """
    # In a thread of its own and not of asyncio's few: a name server that hangs keeps no other name waiting, and the
    # event loop does not wait for it when it closes.
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[list[IPAddress]] = loop.create_future()

    def settle(addresses: list[IPAddress] | Exception) -> None:
        if answered.done():
            return
        if isinstance(addresses, Exception):
            answered.set_exception(addresses)
        else:
            answered.set_result(addresses)

    def look_up() -> None:
        try:
            found: list[IPAddress] | Exception = [
                ip_address(sockaddr[0]) for *_, sockaddr in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            ]
        except (OSError, UnicodeError) as error:
            found = error
        with suppress(RuntimeError):  # the loop has closed, and nobody waits for it
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=look_up, name="resolve", daemon=True).start()
    return await answered


async def _connect(address: IPAddress, port: int) -> httpcore.AsyncNetworkStream:
    """Open a TCP connection.

    Raises:
        httpcore.ConnectError: there is none.
    """
    return await httpcore.AnyIOBackend().connect_tcp(str(address), port)


@dataclass(frozen=True, slots=True)
class Network:
    """The means to resolve names and to connect; the operating system's by default."""

    resolve: Callable[[str, int], Awaitable[Sequence[IPAddress]]] = _resolve
    connect: Callable[[IPAddress, int], Awaitable[httpcore.AsyncNetworkStream]] = _connect


SYSTEM_NETWORK = Network()


class HostRules:
    """Decides whether what a name resolved to may be connected to.

    Link-local, reserved and metadata addresses are always refused, and so is any way from a public to a private
    address: a redirect, an answer that mixes both, a name that led to a public address before.

    Args:
        allow_private_hosts: whether private and loopback addresses may be requested at all.
    """

    def __init__(self, *, allow_private_hosts: bool) -> None:
        self._allow_private_hosts = allow_private_hosts
        self._public_hosts: set[str] = set()

    def admit(self, host: str, addresses: Sequence[IPAddress], *, came_from_public: bool) -> Reach:
        """Return the reach that all ``addresses`` have.

        Args:
            came_from_public: this is a redirect, and a host before it was public.

        Raises:
            AddressRefused: nothing may be sent to this host.
        """
        reaches = {reach_of(address) for address in addresses}
        if Reach.FORBIDDEN in reaches:
            raise AddressRefused("its address is link-local or reserved; nothing was sent")
        if Reach.PRIVATE not in reaches:
            self._public_hosts.add(host)
            return Reach.PUBLIC
        if not self._allow_private_hosts:
            raise AddressRefused("its address is private, and allow_private_hosts is off; nothing was sent")
        if Reach.PUBLIC in reaches:
            raise AddressRefused("its host name has public and private addresses; nothing was sent")
        if came_from_public:
            raise AddressRefused("its address is private, and the one before was public; nothing was sent")
        if host in self._public_hosts:
            raise AddressRefused("its host name led to a public address and now to a private one; nothing was sent")
        return Reach.PRIVATE


@dataclass(slots=True)
class Route:
    """What one request meets on the network, its redirects included."""

    doing: str = "resolving the host name"
    was_public: bool = False
    certificate_expires_at: datetime | None = None
    """The earliest expiry of the hosts' own TLS certificates on the way, valid or not."""

    def add_certificate(self, expires_at: datetime | None) -> None:
        if expires_at is not None:
            self.certificate_expires_at = min(expires_at, self.certificate_expires_at or expires_at)


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Connects httpcore over ``network``, by ``rules``, and notes on ``route`` what it meets."""

    def __init__(self, network: Network, rules: HostRules, route: Route, clock: Clock) -> None:
        self._network = network
        self._rules = rules
        self._route = route
        self._clock = clock

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to an admitted address of ``host``. The limits are the caller's: the last three do not count.

        Raises:
            AddressRefused: as :meth:`HostRules.admit`.
            httpcore.ConnectError, OSError, UnicodeError: the name cannot be resolved, or no address answers.
        """
        self._route.doing = "resolving the host name"
        addresses = list(dict.fromkeys(await self._network.resolve(host, port)))
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        reach = self._rules.admit(host, addresses, came_from_public=self._route.was_public)
        self._route.was_public = self._route.was_public or reach is Reach.PUBLIC
        self._route.doing = "connecting"
        address, stream = await self._first_to_answer(addresses, port)
        return _ObservedStream(stream, self._route, lambda: self._network.connect(address, port))

    async def _first_to_answer(
        self, addresses: Sequence[IPAddress], port: int
    ) -> tuple[IPAddress, httpcore.AsyncNetworkStream]:
        async def connect(address: IPAddress) -> tuple[IPAddress, httpcore.AsyncNetworkStream]:
            return address, await self._network.connect(address, port)

        untried = deque(_families_in_turn(addresses))
        under_way: set[_Attempt] = set()
        try:
            while True:
                if untried:
                    under_way.add(asyncio.create_task(connect(untried.popleft())))
                for ended in await self._wait(under_way, NEXT_ADDRESS_AFTER if untried else None):
                    under_way.discard(ended)
                    if ended.exception() is None or not (untried or under_way):
                        return ended.result()
        finally:
            await _close_all(under_way)

    async def _wait(self, tasks: set[_Attempt], seconds: float | None) -> Iterable[_Attempt]:
        try:
            async with self._clock.timeout(seconds):
                ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            return ()
        # One at a time: another that has connected as well stays under way, and is closed with the rest.
        return [next(iter(ended))]


async def _close_all(under_way: set[_Attempt]) -> None:
    for task in under_way:
        task.cancel()
    for connected in await asyncio.gather(*under_way, return_exceptions=True):
        if not isinstance(connected, BaseException):
            await connected[1].aclose()


def _families_in_turn(addresses: Sequence[IPAddress]) -> list[IPAddress]:
    """Alternate IPv6 and IPv4, beginning with the resolver's first: one family may lead nowhere from here."""
    first_is_ipv6 = isinstance(addresses[0], IPv6Address)
    first = [address for address in addresses if isinstance(address, IPv6Address) is first_is_ipv6]
    second = [address for address in addresses if isinstance(address, IPv6Address) is not first_is_ipv6]
    return [address for address in chain.from_iterable(zip_longest(first, second)) if address is not None]


class _ObservedStream(httpcore.AsyncNetworkStream):
    """A connection that notes the certificate of its TLS handshake, also of one that fails because of it."""

    def __init__(
        self,
        stream: httpcore.AsyncNetworkStream,
        route: Route,
        connect_again: Callable[[], Awaitable[httpcore.AsyncNetworkStream]],
    ) -> None:
        self._stream = stream
        self._route = route
        self._connect_again = connect_again

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        self._route.doing = "negotiating TLS"
        try:
            secured = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except (httpcore.ConnectError, OSError) as error:
            if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes(error)):
                await self._note_refused_certificate(server_hostname)
            raise
        self._route.add_certificate(_expiry(secured))
        return secured

    async def _note_refused_certificate(self, server_hostname: str | None) -> None:
        # ssl does not show a certificate that it refused. The same host is asked once more, without a check; nothing is
        # sent on that connection. If it does not answer again, the expiry stays unknown and the first error counts.
        unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        unchecked.check_hostname = False
        unchecked.verify_mode = ssl.CERT_NONE
        try:
            stream = await self._connect_again()
            secured = await stream.start_tls(unchecked, server_hostname)
        except (httpcore.ConnectError, OSError):
            return
        self._route.add_certificate(_expiry(secured))
        await secured.aclose()


def _expiry(secured: httpcore.AsyncNetworkStream) -> datetime | None:
    """When the peer's own certificate expires; None if it cannot be read."""
    ssl_object: ssl.SSLObject = secured.get_extra_info("ssl_object")
    if checked := ssl_object.getpeercert():
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(checked["notAfter"])), UTC)
    # A cold start need not pay for it: ssl itself reads every certificate that it has checked.
    from cryptography import x509

    try:
        return x509.load_der_x509_certificate(ssl_object.getpeercert(binary_form=True) or b"").not_valid_after_utc
    except (ValueError, x509.InvalidVersion):
        return None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """``error`` and its causes, innermost first: the operating system's own error is there."""
    if error is None:
        return
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from causes(member)
    yield from causes(error.__cause__ or error.__context__)
    yield error
