"""Functions under the real framework's command: processes that end, are killed, and begin cold."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from autopilot.development.function_server import FunctionServer
from autopilot.errors import FunctionNotServed

ROOT = Path(__file__).parent.parent
BUNDLE = """
from autopilot import entry_point

shop = entry_point("tests.http_workflows:Shop", name="shop")
modules = entry_point("tests.http_workflows:Modules", name="modules")
other = entry_point("unserved_workflow:Other", name="other")
"""

Serve = Callable[..., FunctionServer]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a function of the bundle; what still runs at the end of the test is killed."""
    (tmp_path / "main.py").write_text(BUNDLE)
    (tmp_path / "unserved_workflow.py").write_text("raise RuntimeError('a workflow that is not served was imported')")
    servers: list[FunctionServer] = []

    def serve(target: str = "shop", *, asgi: bool = False, **env: str) -> FunctionServer:
        variables = {
            "PYTHONPATH": str(ROOT),
            "AUTOPILOT_SQLITE_PATH": str(tmp_path / "runs.db"),
            "AUTOPILOT_STORE": "sqlite",
            **env,
        }
        servers.append(FunctionServer(target, source=tmp_path / "main.py", env=variables, asgi=asgi))
        return servers[-1].start()

    yield serve
    for server in servers:
        server.kill()


@pytest.fixture
def emulated(firestore_emulator: str) -> dict[str, str]:
    """The variables of a function that keeps its runs in a Firestore of this test's own."""
    return {
        "AUTOPILOT_STORE": "firestore",
        "FIRESTORE_EMULATOR_HOST": firestore_emulator,
        "GOOGLE_CLOUD_PROJECT": f"test-{uuid4().hex[:20]}",
    }


def call(server: FunctionServer, payload: dict[str, Any] | None = None, **headers: str) -> tuple[int, Any]:
    """GET, or POST a payload."""
    body = None if payload is None else json.dumps(payload).encode()
    named = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(server.url, body, named)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def view(server: FunctionServer) -> tuple[int, float, str | None, bool]:
    _, told = call(server)
    return told["total_runs"], told["success_rate"], (told["last_run"] or {}).get("id"), told["stale"]


@pytest.mark.slow
def test_a_cold_start_remembers(serve: Serve) -> None:
    first = serve()
    call(first, {"item": "tea"})
    status, failed = call(first, {"item": "nothing"})
    assert status == 500
    first.stop()

    cold = serve()

    assert view(cold) == (2, 50.0, failed["id"], False)
    _, run = call(cold, {"item": "milk"})
    assert view(cold) == (3, 66.7, run["id"], False)
    assert "run_log_hydrated" in cold.log_text()
    assert "total_runs=2" in cold.log_text()


def test_a_served_function_imports_its_own_workflow_and_its_own_store(serve: Serve) -> None:
    names = ["tests.http_workflows", "sqlite3", "unserved_workflow", "google.cloud.firestore", "grpc", "httpx", "typer"]

    _, run = call(serve("modules"), {"names": names})

    assert run["result"] == ["tests.http_workflows", "sqlite3"]


@pytest.mark.slow
def test_it_is_the_same_with_asgi_asked_for(serve: Serve) -> None:
    server = serve(asgi=True)

    status, run = call(server, {"item": "tea"}, Idempotency_Key="1")

    assert (status, call(server, {"item": "tea"}, Idempotency_Key="1")) == (200, (200, run))
    assert call(server, {"item": "milk"}, Idempotency_Key="1")[0] == 422
    assert view(server) == (1, 100.0, run["id"], False)


def runs_on_two_processes(serve: Serve, **env: str) -> None:
    one, two = serve(**env), serve(**env)
    run: dict[str, Any] = {}
    for turn in range(6):
        _, run = call((one, two)[turn % 2], {"item": "nothing" if turn == 3 else "tea"})
        assert view(one) == view(two)
    assert view(one) == (6, 83.3, run["id"], False)

    one.kill()
    one.start()

    assert view(one) == view(two) == (6, 83.3, run["id"], False)
    _, run = call(one, {"item": "tea"}, Idempotency_Key="1")
    assert call(two, {"item": "tea"}, Idempotency_Key="1") == (200, run)
    assert view(one) == view(two) == (7, 85.7, run["id"], False)
    assert one.log_text().count("run_log_hydrated") == 2


@pytest.mark.slow
def test_two_processes_share_one_file_and_one_that_was_killed_knows_it_all(serve: Serve) -> None:
    runs_on_two_processes(serve)


@pytest.mark.slow
@pytest.mark.emulator
def test_two_processes_share_one_firestore_and_one_that_was_killed_knows_it_all(
    serve: Serve, emulated: dict[str, str]
) -> None:
    runs_on_two_processes(serve, **emulated)


@pytest.mark.slow
def test_sqlite_is_refused_at_start_where_the_disk_is_forgotten(serve: Serve) -> None:
    with pytest.raises(FunctionNotServed) as caught:
        serve(K_SERVICE="shop")

    assert "AUTOPILOT_STORE" in caught.value.log
