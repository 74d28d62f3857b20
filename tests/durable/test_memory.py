"""An instance's memory: it does not grow with what its runs were given and returned, nor with how they ended."""

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from autopilot.development.function_server import FunctionServer
from autopilot.loopback import LOOPBACK

STATUS = Path("/proc/self/status")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not STATUS.exists(), reason="the memory of a process is read from /proc"),
]

ROOT = Path(__file__).parents[2]
BUNDLE = """
from autopilot import entry_point

mirror = entry_point("tests.durable.served:Mirror", name="mirror")
"""

LIMIT_MIB = 150
GROWTH_MIB = 30
"""More than the allocator varies by; keeping the payloads of the requests below takes 40 MiB or more."""

PAYLOAD_SIZE = 232 * 1024

SHAPES: dict[str, tuple[Any, int]] = {
    "one long string": ("x" * PAYLOAD_SIZE, 120),
    "many short strings": ([f"{number:07}" for number in range(PAYLOAD_SIZE // 10)], 60),
    "deep, of small objects": ([{"a": [{"b": 1}]} for _ in range(PAYLOAD_SIZE // 17)], 30),
}
"""Values, and how many requests with each are enough to tell."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(BUNDLE)
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[FunctionServer]:
    variables = {
        "PYTHONPATH": str(ROOT),
        "AUTOPILOT_SQLITE_PATH": str(folder / "store" / "runs.db"),
        "AUTOPILOT_STORE": "sqlite",
    }
    with FunctionServer("mirror", source=folder / "main.py", env=variables) as server:
        yield server


def resident_mib(server: FunctionServer) -> int:
    """The memory of the process that executes the function."""
    (worker,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    status = Path(f"/proc/{worker}/status").read_text()
    (kibibytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(kibibytes) // 1024


def body_of(ending: str, value: Any) -> bytes:
    return json.dumps({"ending": ending, "value": value}, separators=(",", ":")).encode()


def post(server: FunctionServer, body: bytes, times: int) -> list[int]:
    """The status of each answer."""
    statuses = []
    with closing(http.client.HTTPConnection(LOOPBACK, server.port, timeout=60)) as connection:
        for _ in range(times):
            connection.request("POST", "/", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
    return statuses


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("ending", "status"), (("return", 200), ("raise", 500)))
def test_an_instance_does_not_grow_with_the_runs_it_has_had(
    server: FunctionServer, shape: str, ending: str, status: int
) -> None:
    value, requests = SHAPES[shape]
    body = body_of(ending, value)
    post(server, body, 10)
    before = resident_mib(server)

    assert set(post(server, body, requests)) == {status}

    assert resident_mib(server) < min(LIMIT_MIB, before + GROWTH_MIB)


def test_an_instance_whose_store_is_away_keeps_a_bounded_number_of_bytes(server: FunctionServer, folder: Path) -> None:
    (folder / "store").write_text("a file where the folder of the database has to be")
    value, _ = SHAPES["many short strings"]

    assert set(post(server, body_of("return", value), 100)) == {200}

    assert "run_log_unsaved_run_dropped" in server.log_text()
    assert resident_mib(server) < LIMIT_MIB
