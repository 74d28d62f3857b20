"""``autopilot serve``, as a process."""

import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from autopilot.development.function_server import unused_port
from tests.cli.conftest import Command, command_environment


@pytest.mark.slow
@pytest.mark.parametrize("sent", (signal.SIGINT, signal.SIGTERM))
def test_serving_ends_cleanly_when_asked_to(bundle: Path, sent: signal.Signals) -> None:
    port = unused_port()
    command = [sys.executable, "-m", "autopilot", "serve", "greet", "--port", str(port)]
    environment = command_environment()
    with subprocess.Popen(command, cwd=bundle, env=environment, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        lines = iter(serving.stdout.readline, "")
        curl = next(line for line in lines if line.strip().startswith("curl"))
        answer = subprocess.run(
            [*shlex.split(curl), "-s", "--noproxy", "*"], capture_output=True, text=True, timeout=20, check=True
        )
        os.kill(serving.pid, sent)
        rest = serving.stdout.read()

    assert '"status":"success"' in answer.stdout.replace(" ", "")
    assert (serving.returncode, rest.endswith("stopped\n")) == (0, True)
    with socket.create_server(("127.0.0.1", port)):
        pass  # nothing listens any more


@pytest.mark.slow
def test_a_taken_port_is_one_line(autopilot: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])

        ended = autopilot("serve", "greet", "--port", port)

    assert ended.returncode == 3
    assert ended.stderr == (
        f"autopilot: function greet cannot be served: port {port} cannot be used: Address already in use\n"
    )
