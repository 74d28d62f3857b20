"""Firestore clients, one per event loop: a gRPC channel belongs to the loop and to the process that opened it."""

import asyncio
import os
import threading
from collections.abc import Callable

from google.cloud.firestore_v1 import AsyncClient


class ForkedAfterConnecting(Exception):
    """This process was forked from one that had a channel open. gRPC would hang here, past its own deadlines."""

    def __init__(self, parent: int) -> None:
        super().__init__(f"process {parent} had connected before it forked this one; connect after the fork only")


class LoopClients:
    """Makes the client of each event loop at its first use. Thread-safe."""

    def __init__(self, connect: Callable[[], AsyncClient]) -> None:
        self._connect = connect
        self._clients: dict[asyncio.AbstractEventLoop, AsyncClient] = {}
        self._opened_in: int | None = None
        self._lock = threading.Lock()

    def current(self) -> AsyncClient:
        """The running loop's client.

        Raises:
            ForkedAfterConnecting: another process opened the clients that are here.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._opened_in is not None and self._opened_in != os.getpid():
                raise ForkedAfterConnecting(self._opened_in)
            if loop not in self._clients:
                # A client holds its loop, so weak references would keep both for good.
                self._clients = {known: client for known, client in self._clients.items() if not known.is_closed()}
                self._clients[loop] = self._connect()
                self._opened_in = os.getpid()
            return self._clients[loop]

    def drop(self) -> None:
        """Forget every client; a channel closes with its last reference."""
        with self._lock:
            self._clients.clear()
            self._opened_in = None
