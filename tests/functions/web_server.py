"""A web server on a free local port that answers exactly as a test says, byte for byte if need be."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        headers = {"content-length": str(len(self.body)), "connection": "close"} | self.headers
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {self.status} Status\r\n{head}\r\n".encode("latin-1") + self.body


Answer = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


class WebServer:
    """Answers each path with the reply, or by the coroutine, that stands under it in ``pages``; others with 404."""

    def __init__(self, scheme: str) -> None:
        self.pages: dict[str, Reply | Answer] = {}
        self.requests: list[Request] = []
        self.port = 0
        self._scheme = scheme

    def address(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"{self._scheme}://{host}:{self.port}{path}"

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await self._read(reader)
            self.requests.append(request)
            page = self.pages.get(request.path, Reply(404))
            if isinstance(page, Reply):
                encoded = page.encoded()
                writer.write(encoded if request.method != "HEAD" else encoded.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
            else:
                await page(request, writer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # The client has gone, as it may.
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Request:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head.strip().split("\r\n")
        method, path, _ = line.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in fields)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Request(method, path, headers, body)


@asynccontextmanager
async def running_server(tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[WebServer]:
    """A running server; whatever still hangs in it is ended with the context."""
    server = WebServer("http" if tls is None else "https")
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        task.add_done_callback(connections.discard)
        with suppress(asyncio.CancelledError):  # by the end of the context, below
            await server.serve(reader, writer)

    listening = await asyncio.start_server(connected, host, 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in tuple(connections):
            task.cancel()
        await asyncio.gather(*connections)
