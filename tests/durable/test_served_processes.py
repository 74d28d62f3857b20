"""Durable runs in real function processes: told to end, killed, and put to sleep past their lease."""

import json
import os
import signal
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from autopilot.development.function_server import FunctionServer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BUNDLE = """
from autopilot import entry_point

journey = entry_point("tests.durable.served:Journey", name="journey")
"""

Answer = tuple[int, Any]
Serve = Callable[..., FunctionServer]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    (tmp_path / "main.py").write_text(BUNDLE)
    servers: list[FunctionServer] = []

    def serve(*, asgi: bool = False) -> FunctionServer:
        variables = {
            "PYTHONPATH": str(ROOT),
            "AUTOPILOT_SQLITE_PATH": str(tmp_path / "runs.db"),
            "AUTOPILOT_STORE": "sqlite",
        }
        servers.append(FunctionServer("journey", source=tmp_path / "main.py", env=variables, asgi=asgi))
        return servers[-1].start()

    yield serve
    for server in servers:
        server.kill()


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def trigger(server: FunctionServer, folder: Path) -> Answer:
    """The answer; status 0 when the connection ended without one."""
    body = json.dumps({"path": str(folder)}).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": "journey"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(server.url, body, headers), timeout=50) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except (OSError, json.JSONDecodeError):
        return 0, None


def begin(server: FunctionServer, folder: Path, background: ThreadPoolExecutor) -> "Future[Answer]":
    """Trigger the run; returns when its second body has begun."""
    answer = background.submit(trigger, server, folder)
    deadline = time.monotonic() + 30
    while begun(folder) != "ab":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return answer


def begun(folder: Path) -> str:
    file = folder / "begun"
    return file.read_text() if file.exists() else ""


def end_leases(folder: Path) -> None:
    with sqlite3.connect(folder / "runs.db") as connection:
        connection.execute("UPDATE runs SET due_at = 0 WHERE status = 'running'")
    connection.close()


def counts(folder: Path) -> dict[str, int]:
    with sqlite3.connect(folder / "runs.db") as connection:
        found = dict(connection.execute("SELECT status, runs FROM run_counts WHERE runs > 0").fetchall())
    connection.close()
    return found


@pytest.mark.parametrize("asgi", (False, True))
def test_a_server_told_to_end_gives_the_run_free_and_the_next_delivery_goes_on_at_once(
    serve: Serve, tmp_path: Path, background: ThreadPoolExecutor, *, asgi: bool
) -> None:
    server = serve(asgi=asgi)
    answer = begin(server, tmp_path, background)
    told = time.monotonic()
    server.stop()
    took = time.monotonic() - told
    (tmp_path / "gate").touch()
    server.start()
    status, run = trigger(server, tmp_path)

    assert answer.result()[0] in {503, 0}
    assert took < 8, server.log_text()
    assert (status, run["status"], run["attempt"]) == (200, "success", 2), server.log_text()
    assert (run["result"], begun(tmp_path)) == ([1, 2, 2], "abbc")
    assert counts(tmp_path) == {"success": 1}
    assert "workflow_run_released" in server.log_text()


def test_after_a_kill_the_run_waits_for_its_lease_and_goes_on_then(
    serve: Serve, tmp_path: Path, background: ThreadPoolExecutor
) -> None:
    server = serve()
    answer = begin(server, tmp_path, background)
    server.kill()
    (tmp_path / "gate").touch()
    server.start()
    held, _ = trigger(server, tmp_path)
    end_leases(tmp_path)
    status, run = trigger(server, tmp_path)

    assert (answer.result()[0], held) == (0, 202)
    assert (status, run["result"], begun(tmp_path)) == (200, [1, 2, 2], "abbc")
    assert counts(tmp_path) == {"success": 1}


def test_a_server_that_slept_past_its_lease_changes_nothing_when_it_wakes(
    serve: Serve, tmp_path: Path, background: ThreadPoolExecutor
) -> None:
    zombie, successor = serve(), serve()
    late = begin(zombie, tmp_path, background)
    os.killpg(zombie.pid, signal.SIGSTOP)
    end_leases(tmp_path)
    (tmp_path / "gate").touch()
    status, run = trigger(successor, tmp_path)
    os.killpg(zombie.pid, signal.SIGCONT)
    late_status, late_answer = late.result()

    assert (status, run["result"]) == (200, [1, 2, 2])
    assert (late_status, late_answer["error"]["code"]) == (503, "attempt_superseded")
    assert trigger(zombie, tmp_path) == (200, run)
    assert (begun(tmp_path), counts(tmp_path)) == ("abbc", {"success": 1})
