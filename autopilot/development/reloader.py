"""The parent of ``autopilot dev``: holds the port, watches the files, and replaces the child that serves.

watchfiles does the watching. uvicorn's reloader is built on it too, but starts its child with multiprocessing, which
imports the command again, restarts no child that was killed, and leaves Ctrl-C to parent and child at once.
"""

import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.text import Text

from autopilot.core.clock import Clock, SystemClock
from autopilot.development.files import changes
from autopilot.loopback import listen
from autopilot.settings import environment_without_file

_LOOK_EVERY_SECONDS = 0.3
_STOP_WITHIN_SECONDS = 10.0

_COULD_NOT_SERVE = 1
"""The exit code of a child whose bundle cannot be imported: starting it again would change nothing."""

_YOUNG_SECONDS, _YOUNG_DEATHS = 60.0, 3
"""A child that ends by itself so soon, so often, is not started again."""


class Reloader:
    """Serves a bundle until it is interrupted; restarts the child when a file changes or the child is killed.

    The port is held throughout: a request that comes while the child is replaced waits for the next one.
    """

    def __init__(self, source: Path, port: int, console: Console, *, clock: Clock | None = None) -> None:
        self._source = source
        self._port = port
        self._console = console
        self._restarts = Restarts(clock or SystemClock())

    def run(self) -> None:
        """Never return by itself.

        Raises:
            PortUnavailable: the port cannot be used.
            FunctionNotServed: the files cannot be watched.
        """
        with listen(self._port) as listener:
            child = self._start(listener, is_first=True)
            try:
                while True:
                    self._wait_for_a_reason(child)
                    self._stop(child)
                    child = self._start(listener, is_first=False)
            finally:
                self._stop(child)

    def _start(self, listener: socket.socket, *, is_first: bool) -> subprocess.Popen[bytes]:
        self._restarts.started()
        command = [sys.executable, "-m", "autopilot.development", str(self._source), str(listener.fileno())]
        # A group of its own: a Ctrl-C in the terminal reaches this process only, which ends the child in good order.
        # The pipe tells the child when this process is gone.
        return subprocess.Popen(  # noqa: S603 - our own command, no shell
            [*command, "first"] if is_first else command,
            env=environment_without_file(),
            stdin=subprocess.PIPE,
            pass_fds=(listener.fileno(),),
            process_group=0,
        )

    def _wait_for_a_reason(self, child: subprocess.Popen[bytes]) -> None:
        """Return when the child is to be replaced: a file changed, or the child was killed."""
        is_given_up = False
        for paths in changes(self._source.resolve().parent, or_every_seconds=_LOOK_EVERY_SECONDS):
            if paths:
                names = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
                self._console.print(Text(f"changed: {names}", style="dim"), soft_wrap=True)
                self._restarts.forget()
                return
            if (code := child.poll()) is None or is_given_up:
                continue
            if self._restarts.allow(code):
                ending = f"signal {-code}" if code < 0 else f"exit code {code}"
                self._console.print(Text(f"the server was ended by {ending}; starting it again", style="yellow"))
                return
            is_given_up = True
            self._console.print(Text("nothing is served; change a file to start it again", style="yellow"))

    def _stop(self, child: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)
        try:
            child.wait(_STOP_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdin is not None:
            child.stdin.close()


class Restarts:
    """Decides whether a child that ended by itself is started again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_at = clock.monotonic()
        self._young_deaths = 0

    def started(self) -> None:
        """Note that a child was started."""
        self._started_at = self._clock.monotonic()

    def forget(self) -> None:
        """Start counting from zero, since the code has changed."""
        self._young_deaths = 0

    def allow(self, exit_code: int) -> bool:
        """Count the end of the child; False if the next one would probably end the same way."""
        is_young = self._clock.monotonic() - self._started_at < _YOUNG_SECONDS
        self._young_deaths = self._young_deaths + 1 if is_young else 0
        return exit_code != _COULD_NOT_SERVE and self._young_deaths < _YOUNG_DEATHS
