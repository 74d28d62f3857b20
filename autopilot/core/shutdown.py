"""Graceful shutdown: what an attempt does on SIGTERM.

Cloud Run sends SIGTERM and kills 10 seconds later (cloud.google.com/run/docs/container-contract). The server's own
handler lets requests go on until then; a run would be cut off with its lease still running. So the attempts that are
under way are interrupted at their next ``await``, write down where they stand, and give their runs free.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Interrupt = Callable[[asyncio.Task[Any]], None]


class Shutdown:
    """The attempts of a process to interrupt on SIGTERM."""

    def __init__(self) -> None:
        self._attempts: dict[asyncio.Task[Any], tuple[asyncio.AbstractEventLoop, Interrupt]] = {}
        self._is_installed = False
        self._has_begun = False

    @property
    def has_begun(self) -> bool:
        """True once the process has received SIGTERM: streams end now."""
        return self._has_begun

    def install(self) -> None:
        """Handle SIGTERM, and hand it on to the handler that was there. Only in the main thread; once.

        Called when the server is up: it sets its own handler as it starts.
        """
        if self._is_installed or threading.current_thread() is not threading.main_thread():
            return
        self._is_installed = True
        before = signal.getsignal(signal.SIGTERM)
        if not callable(before):
            return  # nobody would end the process in good order: leave it to the default, which ends it at once

        def handle(number: int, frame: FrameType | None) -> None:
            before(number, frame)
            self.begin()

        signal.signal(signal.SIGTERM, handle)

    def begin(self) -> None:
        """Interrupt every attempt that is under way, each in its own event loop, and every later one as it begins."""
        self._has_begun = True
        for task, (loop, _) in list(self._attempts.items()):
            loop.call_soon_threadsafe(self._interrupt, task)

    @contextmanager
    def interrupting(self, interrupt: Interrupt) -> Iterator[None]:
        """Within this, the current task is an attempt; ``interrupt`` is called in its event loop."""
        task = asyncio.current_task()
        if task is None:  # no task, no await to stop at
            yield
            return
        loop = asyncio.get_running_loop()
        self._attempts[task] = (loop, interrupt)
        if self._has_begun:
            loop.call_soon(self._interrupt, task)
        try:
            yield
        finally:
            self._attempts.pop(task, None)

    def _interrupt(self, task: asyncio.Task[Any]) -> None:
        # It may have ended since this was asked for; then its task is doing something else.
        if task in self._attempts:
            _, interrupt = self._attempts[task]
            interrupt(task)


PROCESS_SHUTDOWN = Shutdown()
"""The one of this process."""
