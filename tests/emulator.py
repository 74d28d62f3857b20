"""The real Firestore emulator: one for all processes of a test session, on a free port, ended with the last of them.

``python -m tests.emulator COMMAND`` runs a command with an emulator of its own.
"""

import fcntl
import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests import emulator_supervisor

_START_SECONDS = 60
_USERS = "firestore-emulator.users"
# Only the JVM's first compiler: the second takes longer than it gains in a few minutes.
_JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
_COMPONENT = Path("platform/cloud-firestore-emulator/cloud_firestore_emulator")


class EmulatorMissing(Exception):
    """This machine cannot run the emulator; the message is the one-line reason."""


@pytest.fixture(scope="session")
def firestore_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``host:port`` of an emulator, for ``FIRESTORE_EMULATOR_HOST``.

    It is the one that this variable names, if it is set. It is shared: keep apart by project or database id. Where
    it cannot be started, tests that need it are skipped.
    """
    base = tmp_path_factory.getbasetemp()
    with ExitStack() as stack:
        try:
            host = stack.enter_context(emulator(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base))
        except EmulatorMissing as missing:
            pytest.skip(str(missing))
        yield host


@contextmanager
def emulator(shared: Path) -> Iterator[str]:
    """``host:port`` of the emulator that every process with this ``shared`` folder uses, or of the one that is given.

    Raises:
        EmulatorMissing: there is none and it cannot be started.
    """
    if given := os.environ.get("FIRESTORE_EMULATOR_HOST"):
        yield given
        return
    with (shared / _USERS).open("a") as users:
        yield _join(shared, users.fileno())


def _join(shared: Path, users: int) -> str:
    """Become one of the emulator's users; the first one starts it."""
    state = shared / "firestore-emulator.port"
    with (shared / "firestore-emulator.start").open("a") as start:
        fcntl.flock(start, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_SH)  # before the supervisor exists: it ends when nobody has this
        if not state.exists():
            state.write_text(str(_start(shared, state)))
        return f"127.0.0.1:{state.read_text()}"


def _start(shared: Path, state: Path) -> int:
    port = _free_port()
    log = shared / "firestore-emulator.log"
    script = [sys.executable, "-I", "-S", emulator_supervisor.__file__, str(shared / _USERS), str(state)]
    command = [*_emulator_command(), "start", "--host=127.0.0.1", f"--port={port}"]
    # Not a Popen: that one complains when it is dropped while its process lives on, as this one is meant to.
    supervisor = os.posix_spawn(
        sys.executable,
        [*script, *command],
        {"JAVA_TOOL_OPTIONS": _JAVA_OPTIONS, **os.environ},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(port):
        if os.waitpid(supervisor, os.WNOHANG) != (0, 0) or time.monotonic() > deadline:
            said = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise EmulatorMissing(f"the Firestore emulator did not start: {said[-1]}")
        time.sleep(0.05)
    return port


def _emulator_command() -> list[str]:
    """The emulator's own start script: ``gcloud emulators firestore start`` only takes longer to come to it."""
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        raise EmulatorMissing("the Firestore emulator needs the gcloud command, and there is none")
    if shutil.which("java") is None:
        raise EmulatorMissing("the Firestore emulator needs java, and there is none")
    script = Path(gcloud).resolve().parent.parent / _COMPONENT
    if not script.exists():  # gcloud is a wrapper and not a link into the SDK
        asked = [gcloud, "info", "--format=value(installation.sdk_root)"]
        info = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
        script = Path(info.stdout.strip()) / _COMPONENT
    if not script.exists():
        raise EmulatorMissing("gcloud has no Firestore emulator: gcloud components install cloud-firestore-emulator")
    return [str(script)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def _run_with_emulator(command: list[str]) -> int:
    environment = dict(os.environ)
    with ExitStack() as stack:
        shared = Path(stack.enter_context(TemporaryDirectory()))
        try:
            environment["FIRESTORE_EMULATOR_HOST"] = stack.enter_context(emulator(shared))
        except EmulatorMissing as missing:  # the tests among what is run say what they do without
            sys.stderr.write(f"{missing}\n")
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(_run_with_emulator(sys.argv[1:]))
