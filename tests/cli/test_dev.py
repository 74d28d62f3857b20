"""``autopilot dev``, as a process: served, reloaded, gone on with, ended."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from autopilot.development.function_server import unused_port
from tests.cli.conftest import command_environment

MAIN = """
from autopilot import api_entry_point, entry_point

greet = entry_point("greeting:Greet", name="greet")
wait = entry_point("waiting:Wait", name="wait")
api = api_entry_point()
"""

GREETING = """
from autopilot import BaseWorkflow, Schedule, WorkflowManifest


class Greet(BaseWorkflow):
    manifest = WorkflowManifest(name="greet", version="1", schedules=(Schedule(cron="0 6 1 1 *"),))

    async def execute(self, ctx, payload):
        return "hello"
"""

WAITING = """
import asyncio
import os
from pathlib import Path

from autopilot import BaseWorkflow, WorkflowManifest


class Wait(BaseWorkflow):
    manifest = WorkflowManifest(name="wait", timeout_seconds=8)  # a lease that ends while a test can wait for it

    async def execute(self, ctx, payload):
        await ctx.step("note", self.note)
        print("waits in", os.getpid(), flush=True)
        await ctx.step("wait", self.wait)
        return "done"

    async def note(self):
        with Path("notes.txt").open("a") as notes:
            notes.write("noted ")

    async def wait(self):
        while not Path("go").exists():
            await asyncio.sleep(0.05)
"""


class Dev:
    """``autopilot dev`` in the folder of a bundle."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.port = unused_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "autopilot", "dev", "--port", str(self.port)],
            cwd=folder,
            env=command_environment() | {"PYTHONUNBUFFERED": "1"} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []

    def read_until(self, text: str) -> str:
        """Read what it prints to the line with ``text`` in it, and return that."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} was not printed:\n{''.join(self.lines)}")

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, str]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            request = urllib.request.Request(f"{self.url}{path}", method=method, headers=headers)
            with opener.open(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def ask_json(self, path: str) -> Any:
        return json.loads(self.ask("GET", path)[1])

    def end(self, number: signal.Signals) -> int:
        """Send a signal, and return the exit code when both processes have ended."""
        self._process.send_signal(number)
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            self.lines += stdout
        return self._process.wait(20)

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None


@contextmanager
def served(folder: Path, **variables: str) -> Iterator[Dev]:
    for name, text in (("main.py", MAIN), ("greeting.py", GREETING), ("waiting.py", WAITING)):
        (folder / name).write_text(text)
    dev = Dev(folder, **variables)
    try:
        dev.read_until("Ctrl-C stops it")
        yield dev
    finally:
        if not dev.has_ended:
            dev.end(signal.SIGTERM)


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    with served(tmp_path) as dev:
        yield dev


@pytest.fixture
def dev_on_the_emulator(tmp_path: Path, firestore_emulator: str) -> Iterator[Dev]:
    with served(
        tmp_path,
        AUTOPILOT_STORE="firestore",
        FIRESTORE_EMULATOR_HOST=firestore_emulator,
        GOOGLE_CLOUD_PROJECT=f"test-{uuid4().hex[:20]}",
    ) as dev:
        yield dev


@pytest.mark.slow
def test_functions_dashboard_and_api_are_served_together(dev: Dev) -> None:
    ran = dev.ask("POST", "/greet")
    page = dev.ask("GET", "/")
    runs = dev.ask_json("/api/v1/runs")["runs"]
    triggered = dev.ask("POST", "/api/v1/workflows/greet/trigger")
    run_page = dev.ask("GET", f"/workflows/greet/runs/{json.loads(ran[1])['id']}")[1]

    screen = "".join(dev.lines)
    for text in (f"{dev.url}/greet", f"{dev.url}/api/v1", ".autopilot/autopilot.db (SQLite)", "01-01 06:00 Etc/UTC"):
        assert text in screen
    assert max(map(len, screen.splitlines())) <= 80
    assert (ran[0], json.loads(ran[1])["result"]) == (200, "hello")
    assert (page[0], "<html" in page[1]) == (200, True)
    assert [run["workflow_id"] for run in runs] == ["greet"]
    assert "<b>workflow_run_completed</b>" in run_page.partition('id="log-title"')[2]
    assert (triggered[0], json.loads(triggered[1])["status"]) == (200, "success")


@pytest.mark.slow
def test_a_changed_file_is_served_and_the_run_that_it_cut_off_goes_on(dev: Dev, tmp_path: Path) -> None:
    caller = threading.Thread(target=dev.ask, args=("POST", "/wait"))
    caller.start()
    dev.read_until("waits")
    (tmp_path / "greeting.py").write_text(GREETING.replace('version="1"', 'version="2"'))
    dev.read_until("served again: greet, wait")
    dev.read_until("waits")
    (tmp_path / "go").touch()
    dev.read_until("workflow_run_completed")
    caller.join()

    run = dev.ask_json("/api/v1/runs")["runs"][0]
    assert (run["status"], run["attempt"]) == ("success", 2)
    assert (tmp_path / "notes.txt").read_text() == "noted "
    assert dev.ask_json("/greet")["manifest"]["version"] == "2"


@pytest.mark.slow
def test_a_page_that_is_open_ends_in_good_order_when_a_file_changes(dev: Dev, tmp_path: Path) -> None:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{dev.url}/api/v1/events") as stream:
        assert stream.readline().startswith(b"retry: ")
        (tmp_path / "greeting.py").write_text(GREETING.replace('version="1"', 'version="2"'))
        stream.read()  # raises if it is cut off

    dev.read_until("served again: greet, wait")
    assert not any("Traceback" in line or "[error" in line for line in dev.lines)


def goes_on_after_a_kill(dev: Dev, folder: Path) -> None:
    """A run through the API, the end of the process that has it, and its end in the next one."""
    dev.ask("POST", "/greet")  # the first call of a store takes longer than this workflow gives it
    triggered = dev.ask("POST", "/api/v1/workflows/wait/trigger", Prefer="wait=0")
    os.kill(int(dev.read_until("waits in").split()[-1]), signal.SIGKILL)
    dev.read_until("the server was ended by signal 9; starting it again")
    (folder / "go").touch()
    dev.read_until("run_continued")
    dev.read_until("workflow_run_completed")

    (run,) = dev.ask_json("/api/v1/workflows/wait/runs")["runs"]
    assert triggered[0] == 202, triggered[1]
    assert (run["id"], run["status"], run["attempt"]) == (json.loads(triggered[1])["run_id"], "success", 2)
    assert (folder / "notes.txt").read_text() == "noted "


@pytest.mark.slow
def test_a_run_whose_process_was_killed_goes_on_once_its_lease_has_ended(dev: Dev, tmp_path: Path) -> None:
    goes_on_after_a_kill(dev, tmp_path)


@pytest.mark.slow
@pytest.mark.emulator
@pytest.mark.timeout(120)
def test_a_run_on_the_emulator_goes_on_after_a_kill_too(dev_on_the_emulator: Dev, tmp_path: Path) -> None:
    goes_on_after_a_kill(dev_on_the_emulator, tmp_path)

    assert "emulator at " in "".join(dev_on_the_emulator.lines)
    assert dev_on_the_emulator.ask_json("/api/v1/health")["store"] == "firestore"
    assert not (tmp_path / ".autopilot" / "autopilot.db").exists()


@pytest.mark.slow
def test_a_workflow_that_breaks_leaves_the_others_and_comes_back(dev: Dev, tmp_path: Path) -> None:
    (tmp_path / "greeting.py").write_text("def broken(")
    dev.read_until("✘ greet: SyntaxError")
    others = dev.ask("GET", "/wait")
    (tmp_path / "main.py").write_text("broken(")
    dev.read_until("nothing is served")
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "greeting.py").write_text(GREETING)
    dev.read_until("served again: greet, wait")

    assert others[0] == 200
    assert dev.ask("POST", "/greet")[0] == 200


@pytest.mark.slow
def test_a_changed_env_file_is_read_anew(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("AUTOPILOT_ENVIRONMENT=before\n")
    with served(tmp_path) as dev:
        before = dev.ask_json("/api/v1/health")["environment"]
        (tmp_path / ".env").write_text("AUTOPILOT_ENVIRONMENT=after\n")
        dev.read_until("served again: greet, wait")

        assert (before, dev.ask_json("/api/v1/health")["environment"]) == ("before", "after")


@pytest.mark.slow
def test_what_ends_again_and_again_is_left_alone_until_a_file_changes(dev: Dev, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("import os\nos._exit(7)\n")
    dev.read_until("nothing is served")
    again = [line for line in dev.lines if "was ended by exit code 7; starting it again" in line]
    (tmp_path / "main.py").write_text(MAIN)
    dev.read_until("served again: greet, wait")

    assert len(again) == 2


@pytest.mark.slow
@pytest.mark.parametrize("sent", (signal.SIGINT, signal.SIGTERM))
def test_it_ends_cleanly_and_leaves_nothing_behind(dev: Dev, sent: signal.Signals) -> None:
    assert dev.end(sent) == 0
    assert dev.lines[-1] == "stopped\n"
    assert "Traceback" not in "".join(dev.lines)
    with socket.create_server(("127.0.0.1", dev.port)):
        pass  # nothing listens any more


@pytest.mark.slow
def test_a_parent_that_is_killed_takes_its_child_along(dev: Dev) -> None:
    dev.end(signal.SIGKILL)  # its output ends when the child has ended too

    with socket.create_server(("127.0.0.1", dev.port)):
        pass


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as other:
        ended = subprocess.run(
            [sys.executable, "-m", "autopilot", "dev", "--port", str(other.getsockname()[1])],
            cwd=tmp_path,
            env=command_environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    assert (ended.returncode, ended.stderr.count("\n")) == (3, 1)
    assert "choose another with --port" in ended.stderr


def test_a_database_in_the_cloud_is_refused(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("")
    ended = subprocess.run(
        [sys.executable, "-m", "autopilot", "dev", "--port", str(unused_port())],
        cwd=tmp_path,
        env=command_environment() | {"AUTOPILOT_STORE": "firestore", "GOOGLE_CLOUD_PROJECT": "shop"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert "SQLite or in Firestore's emulator" in ended.stderr
