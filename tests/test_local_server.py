"""Functions under the real ``functions-framework`` command."""

import os
import select
import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autopilot.development.function_server import FunctionServer, unused_port
from autopilot.errors import FunctionNotServed

FUNCTIONS = """
import os
import threading
import time

import functions_framework


@functions_framework.http
def hanging(request):
    threading.Thread(target=time.sleep, args=(600,)).start()  # its process cannot end by itself
    return f"{os.getppid()} {os.getpid()}"


@functions_framework.http
def pids(request):
    print("asked for", request.path)
    return f"{os.getppid()} {os.getpid()}"


@functions_framework.http
def greeting(request):
    return os.environ.get("GREETING", "none")
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "main.py"
    path.write_text(FUNCTIONS)
    return path


@pytest.fixture
def server(source: Path) -> Iterator[FunctionServer]:
    server = FunctionServer("pids", source=source)
    yield server
    server.kill()


def fetch(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def master_and_worker(server: FunctionServer) -> tuple[int, int]:
    master, worker = fetch(server.url).split()
    return int(master), int(worker)


def has_ended(pid: int) -> bool:
    """Whether a process that may be nobody's child here ends; one that was killed takes a moment. Only Linux tells."""
    if not hasattr(os, "pidfd_open"):
        return True
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 5.0)[0])
    finally:
        os.close(descriptor)


def test_a_function_answers_as_soon_as_the_server_has_started(server: FunctionServer) -> None:
    with server:
        master, worker = master_and_worker(server)

        assert master == server.pid
        assert worker != master


def test_stopping_ends_master_and_worker(server: FunctionServer) -> None:
    with server:
        processes = master_and_worker(server)

    assert all(has_ended(pid) for pid in processes)


@pytest.mark.parametrize("end", (lambda server: server.stop(within=0.1), FunctionServer.kill), ids=("stop", "kill"))
@pytest.mark.slow
def test_a_worker_that_hangs_ends_too(source: Path, end: Callable[[FunctionServer], None]) -> None:
    server = FunctionServer("hanging", source=source).start()
    processes = master_and_worker(server)

    end(server)

    assert all(has_ended(pid) for pid in processes)


@pytest.mark.slow
def test_a_killed_server_starts_again_at_the_same_address_and_keeps_its_log(server: FunctionServer) -> None:
    server.start()
    first = master_and_worker(server)

    server.kill()
    server.start()
    second = master_and_worker(server)

    assert all(has_ended(pid) for pid in first)
    assert set(first).isdisjoint(second)
    assert server.log_text().count("asked for /") == 2


@pytest.mark.slow
def test_the_environment_is_this_one_with_changes(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREETING", "from outside")

    with FunctionServer("greeting", source=source) as inherited:
        assert fetch(inherited.url) == "from outside"
    with FunctionServer("greeting", source=source, env={"GREETING": "changed"}) as changed:
        assert fetch(changed.url) == "changed"
    with FunctionServer("greeting", source=source, env={"GREETING": None}) as removed:
        assert fetch(removed.url) == "none"


def test_an_unknown_function_is_told_with_what_the_server_wrote(source: Path) -> None:
    server = FunctionServer("absent", source=source)

    with pytest.raises(FunctionNotServed, match="function absent cannot be served") as caught:
        server.start()

    assert "'absent'" in caught.value.log
    assert "exit code 1" in caught.value.reason


def test_a_taken_port_is_told_before_anything_is_started(source: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        with pytest.raises(FunctionNotServed, match=f"port {port} cannot be used: Address already in use"):
            FunctionServer("pids", source=source, port=port).start()


@pytest.mark.slow
def test_a_server_that_does_not_answer_in_time_is_ended(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(f"""
import os, time
open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
time.sleep(600)
""")
    server = FunctionServer("any", source=tmp_path / "main.py", boot_seconds=2.0)

    with pytest.raises(FunctionNotServed, match="did not answer within 2 s"):
        server.start()

    assert has_ended(int((tmp_path / "pid").read_text()))


def test_unused_ports_differ_and_can_be_bound() -> None:
    ports = {unused_port() for _ in range(20)}

    assert len(ports) == 20
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_the_server_is_a_process_group_of_its_own(server: FunctionServer) -> None:
    with server:
        assert os.getpgid(server.pid) == server.pid != os.getpgid(0)
