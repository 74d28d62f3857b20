"""Graceful shutdown: what an attempt does on SIGTERM.

Cloud Run sends SIGTERM and kills 10 seconds later (cloud.google.com/run/docs/container-contract). The server's own
handler lets requests go on until then; a run would be cut off with its lease still running. So the attempts that are
under way are interrupted at their next ``await``, write down where they stand, and give their runs free. What does not
come to an ``await`` is cut off::

    0 s   SIGTERM: every attempt is interrupted, in its own event loop
    5 s   the runs of the attempts that are still there are released from another thread
    8 s   at the latest: a process whose event loop is blocked ends
    10 s  SIGKILL
"""

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

from autopilot.core.clock import Clock, SystemClock

CUT_OFF_AFTER_SECONDS = 5.0
"""How long after SIGTERM attempts may take to end by themselves."""

CUT_OFF_WITHIN_SECONDS = 3.0
"""How long the store is waited for, after that, when the runs of the others are released."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""What ends a server: the platform's signal, and Ctrl-C."""

Interrupt = Callable[[asyncio.Task[Any]], None]
CutOff = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class _Attempt:
    """An attempt under way."""

    loop: asyncio.AbstractEventLoop
    interrupt: Interrupt
    cut_off: CutOff | None
    is_interrupted: bool = False


class Shutdown:
    """The attempts of a process to interrupt on SIGTERM.

    Args:
        clock: measures how long attempts may take to end.
    """

    def __init__(self, *, clock: Clock = SystemClock()) -> None:  # noqa: B008 - it has no state
        self._clock = clock
        self._attempts: dict[asyncio.Task[Any], _Attempt] = {}
        self._is_installed = False
        self._has_begun = False

    @property
    def has_begun(self) -> bool:
        """True once the process has received SIGTERM: streams end now."""
        return self._has_begun

    def install(self) -> None:
        """Handle SIGTERM and SIGINT, and hand them on to the handlers that were there. Only in the main thread; once.

        Called when the server is up: it sets its own handlers as it starts.
        """
        if self._is_installed or threading.current_thread() is not threading.main_thread():
            return
        self._is_installed = True
        if handled := [number for number in SIGNALS if self._handle(number, signal.getsignal(number))]:
            self._watch(handled)

    def _handle(self, number: signal.Signals, before: Any) -> bool:
        if not callable(before) or before is signal.default_int_handler:
            return False  # nobody would end the process in good order: leave it to the default, which ends it at once

        def handle(number: int, frame: FrameType | None) -> None:
            before(number, frame)
            self.begin()

        signal.signal(number, handle)
        return True

    def _watch(self, numbers: Collection[int]) -> None:
        """Have a thread notice these signals, which waits for them from now on.

        Handlers are run by the main thread between two instructions of Python: not while it is in a call into C, and
        that need not even be interrupted, since the kernel may hand a signal to any thread. What Python writes to its
        wake-up descriptor is written at once, whatever the main thread does.
        """
        received, wakeup = socket.socketpair()
        wakeup.setblocking(False)
        before = signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)

        def watch() -> None:
            has_begun = False
            with received, wakeup:
                while found := received.recv(64):
                    if before != -1:
                        with suppress(OSError):  # the event loop that waits for signals there has ended
                            os.write(before, found)
                    if not has_begun and set(found) & set(numbers):
                        has_begun = True
                        threading.Thread(
                            target=self._end_process_if_blocked, name="autopilot-cut-off", daemon=True
                        ).start()

        threading.Thread(target=watch, name="autopilot-signals", daemon=True).start()

    def begin(self) -> None:
        """Interrupt every attempt that is under way, each in its own event loop, and every later one as it begins."""
        self._has_begun = True
        for task, attempt in list(self._attempts.items()):
            attempt.loop.call_soon_threadsafe(self._interrupt, task)

    @contextmanager
    def interrupting(self, interrupt: Interrupt, cut_off: CutOff | None = None) -> Iterator[None]:
        """Within this, the current task is an attempt; ``interrupt`` is called in its event loop.

        Args:
            cut_off: called in another thread and event loop if the attempt has not ended
                :data:`CUT_OFF_AFTER_SECONDS` later: ``interrupt`` may not have been called then, since something
                blocks the attempt's event loop.
        """
        task = asyncio.current_task()
        if task is None:  # no task, no await to stop at
            yield
            return
        loop = asyncio.get_running_loop()
        self._attempts[task] = _Attempt(loop, interrupt, cut_off)
        if self._has_begun:
            loop.call_soon(self._interrupt, task)
        try:
            yield
        finally:
            self._attempts.pop(task, None)

    def _interrupt(self, task: asyncio.Task[Any]) -> None:
        # It may have ended since this was asked for; then its task is doing something else.
        if task in self._attempts:
            attempt = self._attempts[task]
            attempt.is_interrupted = True
            attempt.interrupt(task)

    async def cut_off(self) -> bool:
        """Wait for the attempts to end by themselves, and cut off those that have not.

        Returns:
            Whether an attempt could not even be interrupted: something blocks its event loop.
        """
        await self._clock.sleep(CUT_OFF_AFTER_SECONDS)
        left = list(self._attempts.values())
        with suppress(TimeoutError):  # what the store has not taken by then has its lease to its end, as after a crash
            async with self._clock.timeout(CUT_OFF_WITHIN_SECONDS):
                await asyncio.gather(*(attempt.cut_off() for attempt in left if attempt.cut_off is not None))
        return any(not attempt.is_interrupted for attempt in left)

    def _end_process_if_blocked(self) -> None:
        if asyncio.run(self.cut_off()):
            sys.stdout.flush()
            sys.stderr.flush()
            # Nothing else ends it: an exception would reach this thread only, and the server waits for its event loop.
            os._exit(0)


PROCESS_SHUTDOWN = Shutdown()
"""The one of this process."""
