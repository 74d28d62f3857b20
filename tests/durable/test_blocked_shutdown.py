"""Real function processes told to end while a run blocks their event loop."""

import json
import os
import signal
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from autopilot.development.function_server import FunctionServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
BUNDLE = """
from autopilot import entry_point

busy = entry_point("tests.durable.served:Busy", name="busy")
"""


@pytest.fixture
def servers() -> Iterator[list[FunctionServer]]:
    started: list[FunctionServer] = []
    yield started
    for server in started:
        server.kill()


def serve(servers: list[FunctionServer], folder: Path, **env: str) -> FunctionServer:
    (folder / "main.py").write_text(BUNDLE)
    variables = {
        "PYTHONPATH": str(ROOT),
        "AUTOPILOT_SQLITE_PATH": str(folder / "runs.db"),
        "AUTOPILOT_STORE": "sqlite",
        **env,
    }
    servers.append(FunctionServer("busy", source=folder / "main.py", env=variables))
    return servers[-1].start()


def trigger(server: FunctionServer, folder: Path, key: str) -> tuple[int, Any]:
    """The answer; status 0 when the connection ended without one."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    request = urllib.request.Request(server.url, json.dumps({"path": str(folder)}).encode(), headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except (OSError, json.JSONDecodeError):
        return 0, None


def wait_for(folder: Path, pattern: str, number: int) -> None:
    deadline = time.monotonic() + 30
    while len(list(folder.glob(pattern))) < number:
        assert time.monotonic() < deadline
        time.sleep(0.01)  # another process tells by files


def due_times(folder: Path) -> list[tuple[str, int]]:
    with sqlite3.connect(folder / "runs.db") as connection:
        found = connection.execute("SELECT status, due_at FROM runs").fetchall()
    connection.close()
    return found


@pytest.mark.parametrize("block", ("computes in Python", "waits in C", "computes in C"))
@pytest.mark.parametrize(
    ("number", "whole_group", "env"),
    (
        pytest.param(signal.SIGTERM, False, {}, id="as Cloud Run does"),
        pytest.param(signal.SIGTERM, True, {}, id="as the command does"),
        pytest.param(signal.SIGINT, True, {}, id="Ctrl-C"),
        pytest.param(signal.SIGINT, True, {"DEBUG": "1"}, id="Ctrl-C, a server of one process"),
    ),
)
def test_every_run_of_a_process_whose_event_loop_is_blocked_is_released_and_the_process_ends(
    servers: list[FunctionServer],
    tmp_path: Path,
    block: str,
    number: signal.Signals,
    env: dict[str, str],
    *,
    whole_group: bool,
) -> None:
    released_and_ended(servers, tmp_path, number, {"BLOCK": block, **env}, whole_group=whole_group)

    assert all(status == "running" and due_at <= time.time() * 1e6 for status, due_at in due_times(tmp_path))
    succeed(serve(servers, tmp_path, BLOCK=block), tmp_path)


@pytest.mark.emulator
def test_in_firestore_the_runs_are_released_too(
    servers: list[FunctionServer], tmp_path: Path, firestore_emulator: str
) -> None:
    env = {
        "AUTOPILOT_STORE": "firestore",
        "FIRESTORE_EMULATOR_HOST": firestore_emulator,
        "GOOGLE_CLOUD_PROJECT": f"test-{uuid4().hex[:20]}",
        "BLOCK": "computes in Python",
    }

    released_and_ended(servers, tmp_path, signal.SIGTERM, env, whole_group=False)

    succeed(serve(servers, tmp_path, **env), tmp_path)


def released_and_ended(
    servers: list[FunctionServer], folder: Path, number: signal.Signals, env: dict[str, str], *, whole_group: bool
) -> None:
    """Two runs in one process, of which one blocks the event loop; then the process is told to end."""
    server = serve(servers, folder, **env)
    (folder / "wait").touch()
    with ThreadPoolExecutor() as background:
        answers = [background.submit(trigger, server, folder, key) for key in ("1", "2")]
        wait_for(folder, "waiting *", 2)
        (folder / "wait").unlink()
        wait_for(folder, "blocked", 1)
        (os.killpg if whole_group else os.kill)(server.pid, number)
        told = time.monotonic()
        code = server.wait()
        took = time.monotonic() - told

        assert [answer.result() for answer in answers] == [(0, None)] * 2
    log = server.log_text()
    assert took < 20, log  # it would be killed after 30
    assert code == 0, log
    assert log.count("workflow_run_cut_off") == 2
    assert "Traceback" not in log


def succeed(successor: FunctionServer, folder: Path) -> None:
    """Both runs go on at once in the next process."""
    for key in ("1", "2"):
        status, run = trigger(successor, folder, key)
        assert (status, run["status"], run["attempt"], run["result"]) == (200, "success", 2, [1, 2])
