"""A network in a test's hand: it says what names resolve to, and which local server plays which address."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

import httpcore

from functions._ip_addresses import IPAddress
from functions._network import SYSTEM_NETWORK, Network


class LocalNetwork:
    """Everything in it is on this machine.

    Attributes:
        names: the answers for a name, in turn; the last one stays. Other names are resolved as usual.
        homes: the local address that plays an address; by default, each plays itself.
        dead: addresses at which a connection attempt hangs.
        refusing: addresses that refuse connections.
        asked: the names of all look-ups, in order.
        connected: the addresses of all attempts to connect, in order.
        has_connected: set by the first of these.
    """

    def __init__(self) -> None:
        self.names: dict[str, list[list[str]]] = {}
        self.homes: dict[str, str] = {}
        self.dead: set[str] = set()
        self.refusing: set[str] = set()
        self.connected: list[str] = []
        self.has_connected = asyncio.Event()
        self.asked: list[str] = []
        self._stall: tuple[bytes, Callable[[], None]] | None = None

    @property
    def as_network(self) -> Network:
        return Network(resolve=self._resolve, connect=self._connect)

    def stall_after(self, marker: bytes, then: Callable[[], None]) -> None:
        """Let every connection hang when it is read from after ``marker`` was; call ``then`` at that moment."""
        self._stall = marker, then

    async def _resolve(self, host: str, port: int) -> Sequence[IPAddress]:
        self.asked.append(host)
        if host not in self.names:
            return await SYSTEM_NETWORK.resolve(host, port)
        answers = self.names[host]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if not answer:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [ip_address(address) for address in answer]

    async def _connect(self, address: IPAddress, port: int) -> httpcore.AsyncNetworkStream:
        self.connected.append(str(address))
        self.has_connected.set()
        if str(address) in self.dead:
            await asyncio.Event().wait()
        if str(address) in self.refusing:
            raise ConnectionRefusedError
        home = ip_address(self.homes.get(str(address), str(address)))
        stream = await SYSTEM_NETWORK.connect(home, port)
        return stream if self._stall is None else _StallingStream(stream, *self._stall)


class _StallingStream(httpcore.AsyncNetworkStream):
    def __init__(self, stream: httpcore.AsyncNetworkStream, marker: bytes, then: Callable[[], None]) -> None:
        self._stream = stream
        self._marker = marker
        self._then = then
        self._is_stalled = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._is_stalled:
            self._then()
            await asyncio.Event().wait()
        data = await self._stream.read(max_bytes, timeout)
        self._is_stalled = self._marker in data
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
