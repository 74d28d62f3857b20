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

from autopilot.development.files import changed, file_times
from autopilot.errors import FunctionNotServed

HOST = "127.0.0.1"

_LOOK_EVERY_SECONDS = 0.3
_END_WITHIN_SECONDS = 10.0


class Reloader:
    """Serves a bundle until it is interrupted, and serves it anew when one of its files changes.

    The port is held throughout: a request that comes while the child is replaced waits for the next one.
    """

    def __init__(self, source: Path, port: int, console: Console) -> None:
        self._source = source
        self._port = port
        self._console = console

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
                    self._wait_for_a_change(child, root, times)
                    self._stop(child)
                    child = self._start(listener, is_first=False)
            finally:
                self._stop(child)

    def _listen(self) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, self._port))
            listener.listen()
        except OSError as error:
            listener.close()
            raise FunctionNotServed("dev", f"port {self._port} cannot be used: {error.strerror}") from None
        return listener

    def _start(self, listener: socket.socket, *, is_first: bool) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "autopilot.development", str(self._source), str(listener.fileno())]
        # A group of its own: a Ctrl-C in the terminal reaches this process, which ends the child in good order. The
        # pipe tells the child when this process is gone.
        return subprocess.Popen(  # noqa: S603 - our own command, no shell
            [*command, "first"] if is_first else command,
            stdin=subprocess.PIPE,
            pass_fds=(listener.fileno(),),
            process_group=0,
        )

    def _wait_for_a_change(self, child: subprocess.Popen[bytes], root: Path, before: dict[str, int]) -> None:
        has_told = False
        while True:
            time.sleep(_LOOK_EVERY_SECONDS)
            now = file_times(root)
            if paths := changed(before, now):
                names = [str(Path(path).relative_to(root)) for path in paths]
                told = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
                self._console.print(Text(f"changed: {told}", style="dim"), soft_wrap=True)
                return
            if child.poll() is not None and not has_told:
                has_told = True
                self._console.print(Text("nothing is served; a changed file starts it again", style="yellow"))

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
