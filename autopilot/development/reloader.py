"""The parent of ``autopilot dev``: holds the port, watches the files, and replaces the child that serves."""

import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.text import Text

from autopilot.development.files import FileTimes, changed, file_times
from autopilot.development.loopback import listen
from autopilot.errors import FunctionNotServed
from autopilot.settings import environment_without_file

_LOOK_EVERY_SECONDS = 0.3
_END_WITHIN_SECONDS = 10.0

_COULD_NOT_SERVE = 1
"""The exit code of a child whose bundle cannot be imported: starting it again would change nothing."""

_YOUNG_SECONDS, _YOUNG_DEATHS = 60.0, 3
"""A child that ends by itself so soon, so often, is not started again."""


class Reloader:
    """Serves a bundle until it is interrupted, and serves it anew when one of its files changes or the child is killed.

    The port is held throughout: a request that comes while the child is replaced waits for the next one.
    """

    def __init__(self, source: Path, port: int, console: Console) -> None:
        self._source = source
        self._port = port
        self._console = console
        self._started_at = 0.0
        self._young_deaths = 0

    def run(self) -> None:
        """Never returns by itself.

        Raises:
            FunctionNotServed: the port cannot be used.
        """
        with self._listen() as listener:
            root = self._source.resolve().parent
            child = self._start(listener, is_first=True)
            try:
                while True:
                    times = file_times(root)
                    self._wait_for_a_reason(child, root, times)
                    self._stop(child)
                    child = self._start(listener, is_first=False)
            finally:
                self._stop(child)

    def _listen(self) -> socket.socket:
        try:
            return listen(self._port)
        except OSError as error:
            raise FunctionNotServed("dev", str(error)) from None

    def _start(self, listener: socket.socket, *, is_first: bool) -> subprocess.Popen[bytes]:
        self._started_at = time.monotonic()
        command = [sys.executable, "-m", "autopilot.development", str(self._source), str(listener.fileno())]
        # A group of its own: a Ctrl-C in the terminal reaches this process, which ends the child in good order. The
        # pipe tells the child when this process is gone.
        return subprocess.Popen(  # noqa: S603 - our own command, no shell
            [*command, "first"] if is_first else command,
            env=environment_without_file(),
            stdin=subprocess.PIPE,
            pass_fds=(listener.fileno(),),
            process_group=0,
        )

    def _wait_for_a_reason(self, child: subprocess.Popen[bytes], root: Path, before: FileTimes) -> None:
        """Return when the child is to be replaced: a file changed, or the child was killed."""
        has_told = False
        while True:
            time.sleep(_LOOK_EVERY_SECONDS)
            now = file_times(root)
            if paths := changed(before, now):
                names = [str(Path(path).relative_to(root)) for path in paths]
                told = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
                self._console.print(Text(f"changed: {told}", style="dim"), soft_wrap=True)
                self._young_deaths = 0
                return
            if (code := child.poll()) is not None and not has_told:
                if self._may_start_again(code):
                    ending = f"signal {-code}" if code < 0 else f"exit code {code}"
                    self._console.print(Text(f"what served was ended by {ending}; it is started again", style="yellow"))
                    return
                has_told = True
                self._console.print(Text("nothing is served; a changed file starts it again", style="yellow"))

    def _may_start_again(self, code: int) -> bool:
        is_young = time.monotonic() - self._started_at < _YOUNG_SECONDS
        self._young_deaths = self._young_deaths + 1 if is_young else 0
        return code != _COULD_NOT_SERVE and self._young_deaths < _YOUNG_DEATHS

    def _stop(self, child: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)
        try:
            child.wait(_END_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdin is not None:
            child.stdin.close()
