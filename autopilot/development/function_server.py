"""One function under the real ``functions-framework`` command, on this machine."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from autopilot.errors import FunctionNotServed
from autopilot.loopback import LOOPBACK, PortUnavailable, listen

_POLL_SECONDS = 0.01
_LAST_LINES = 12
# functions-framework answers this path itself, in the process that will run the function, and never calls it.
_PATH_OF_THE_FRAMEWORK = "/robots.txt"


class FunctionServer:
    """A function being served: a context manager, or :meth:`start` and :meth:`stop`.

    The framework's server is two processes, a gunicorn master and its worker. They are a process group of their own:
    a Ctrl-C in the terminal does not reach them, and stopping or killing ends both. A server that was stopped or
    killed can be started again, at the same address.
    """

    def __init__(
        self,
        target: str,
        *,
        source: Path = Path("main.py"),
        port: int | None = None,
        env: Mapping[str, str | None] | None = None,
        asgi: bool = False,
        capture: bool = True,
        boot_seconds: float = 30.0,
        python: str = sys.executable,
        folder: Path | None = None,
    ) -> None:
        """Start nothing yet; :attr:`url` is already valid.

        Args:
            target: the name of the function in ``source``.
            port: the port to serve at; None takes an unused one.
            env: variables to add to those of this process; None as a value removes one.
            asgi: pass ``--asgi``. Without it the framework detects the kind of function itself.
            capture: keep the server's output for :meth:`log_text` instead of passing it through.
            boot_seconds: the longest time until the first answer.
            python: the interpreter of an environment with the framework and the function's requirements.
            folder: the server's working directory, whose modules it can import; default: this process's.
        """
        self.target = target
        self.port = unused_port() if port is None else port
        self._source = source
        self._env = dict(env or {})
        self._asgi = asgi
        self._capture = capture
        self._boot_seconds = boot_seconds
        self._python = python
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._earlier_log = ""

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """The id of the master's process, and of the group that it leads."""
        if self._process is None:
            raise RuntimeError(f"function {self.target} is not being served")
        return self._process.pid

    def start(self) -> Self:
        """Start the server and return once it answers.

        Raises:
            FunctionNotServed: the port is taken, the server ended early, or it did not answer in time; with the
                last lines that the server wrote.
        """
        if self._process is not None:
            raise RuntimeError(f"function {self.target} is being served already")
        try:
            listen(self.port).close()  # gunicorn would try for five seconds and then end with a traceback
        except PortUnavailable as error:
            raise FunctionNotServed(self.target, str(error)) from None
        self._log = tempfile.TemporaryFile("a+b") if self._capture else None  # noqa: SIM115 - lives until stop()
        self._process = subprocess.Popen(  # noqa: S603 - our own command, no shell
            self._command(),
            cwd=self._folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT if self._capture else None,
            process_group=0,
        )
        try:
            self._wait_until_it_answers(self._process)
        except BaseException:
            self.kill()
            raise
        return self

    def wait(self) -> int:
        """Return when the server ends by itself, with its exit code."""
        if self._process is None:
            raise RuntimeError(f"function {self.target} is not being served")
        return self._process.wait()

    def stop(self, *, within: float = 10.0) -> None:
        """Let requests in flight end, for at most ``within`` seconds; then kill. Nothing happens if it is not running."""
        if self._process is None:
            return
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(within)
        self.kill()

    def kill(self) -> None:
        """End every process of the server at once, as a crash does. Nothing happens if it is not running."""
        if self._process is None:
            return
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._wait_until_the_port_is_free()
        self._earlier_log = self.log_text()
        if self._log is not None:
            self._log.close()
        self._process = self._log = None

    def log_text(self) -> str:
        """The output of the server, of both streams and of all its starts."""
        if self._log is None:
            return self._earlier_log
        descriptor = self._log.fileno()
        # Read at a position of its own: the server writes through the same open file.
        return self._earlier_log + os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _command(self) -> list[str]:
        command = [self._python, "-m", "functions_framework", "--target", self.target, "--source", str(self._source)]
        command += ["--host", LOOPBACK, "--port", str(self.port)]
        return [*command, "--asgi"] if self._asgi else command

    def _environment(self) -> dict[str, str]:
        # A workflow that calls its own function must not do so through a proxy.
        no_proxy = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), LOOPBACK]))
        proxies = {"NO_PROXY": no_proxy, "no_proxy": no_proxy}
        variables = {**os.environ, **proxies, "PYTHONUNBUFFERED": "1", **self._env}
        return {name: value for name, value in variables.items() if value is not None}

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self._boot_seconds
        while not self._answers():
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(_POLL_SECONDS)
                raise FunctionNotServed(self.target, f"its server ended with exit code {code}", self._last_lines())
            if time.monotonic() > deadline:
                reason = f"its server did not answer within {self._boot_seconds:g} s"
                raise FunctionNotServed(self.target, reason, self._last_lines())

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=1.0)
        try:
            connection.request("GET", _PATH_OF_THE_FRAMEWORK)
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return True

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # the whole group has ended
            os.killpg(self.pid, number)

    def _wait_until_the_port_is_free(self) -> None:
        # The worker is not our child and cannot be waited for; while it lives, it listens.
        deadline = time.monotonic() + 5.0
        while time.monotonic() < deadline:
            with socket.socket() as client:
                if client.connect_ex((LOOPBACK, self.port)) != 0:
                    return
            time.sleep(_POLL_SECONDS)

    def _last_lines(self) -> str:
        return "\n".join(self.log_text().splitlines()[-_LAST_LINES:])


def unused_port() -> int:
    """A port of this machine that nothing listens on, and that the kernel gives to nobody else for a while.

    The connection that is closed here from the listening side lingers (TIME_WAIT) and keeps the port from being
    handed out again, while a server that asks for it by number gets it.
    """
    with socket.create_server((LOOPBACK, 0)) as listener:
        address: tuple[str, int] = listener.getsockname()
        with socket.create_connection(address):
            accepted, _ = listener.accept()
            accepted.close()
        return address[1]
