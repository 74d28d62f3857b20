"""A page of another site in a real browser, against every server that Autopilot starts on a developer's machine."""

import http.server
import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from autopilot.development.function_server import FunctionServer, unused_port
from tests.cli.conftest import command_environment, write_greeting
from tests.dashboard.conftest import ARGUMENTS

pytestmark = pytest.mark.slow

EVIL = "evil.example"
API = "\nfrom autopilot import api_entry_point\napi = api_entry_point()\n"

SEND = """
async ([url, kind]) => {
  const bodies = {blob: new Blob(['{}']), text: '{}', form: new URLSearchParams({a: 1}), nothing: undefined};
  try {
    const answer = await fetch(url, {method: 'POST', mode: 'no-cors', credentials: 'include', body: bodies[kind]});
    return answer.type;
  } catch (error) { return 'refused'; }
}
"""
READ = """
async url => {
  try { return await (await fetch(url)).text(); } catch (error) { return 'unreadable'; }
}
"""


@dataclass(frozen=True)
class LocalServer:
    """A server of this machine, and how many runs were started through it."""

    port: int
    trigger: str
    """The path at which a POST starts a run."""
    described: str
    """The address that says how many runs there are."""

    def started(self) -> int:
        answer: dict[str, Any] = httpx.get(self.described, trust_env=False, timeout=30).raise_for_status().json()
        total: int = answer["total_runs"]
        return total


@pytest.fixture(scope="module")
def deceived() -> Iterator[Browser]:
    """A browser to which the other site's name leads to this machine, as after DNS rebinding."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("there is no chromium; on Debian: apt install chromium")
    with sync_playwright() as playwright:
        rules = f"--host-resolver-rules=MAP {EVIL} 127.0.0.1"
        opened = playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS, rules])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def evil_port() -> Iterator[int]:
    """Where the other site is served."""

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>evil</title>")

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def function(folder: Path) -> Iterator[LocalServer]:
    """What ``autopilot run`` and ``serve`` start."""
    env: dict[str, str | None] = {"AUTOPILOT_SQLITE_PATH": str(folder / "runs.db")}
    with FunctionServer("greet", source=folder / "main.py", env=env, folder=folder) as server:
        yield LocalServer(server.port, "/", f"{server.url}/")


@contextmanager
def command(folder: Path, until: str, *arguments: str, **variables: str) -> Iterator[None]:
    """An ``autopilot`` command that serves, from the line with ``until`` in it on."""
    environment = command_environment() | {"PYTHONUNBUFFERED": "1"} | variables
    line = [sys.executable, "-m", "autopilot", *arguments]
    with subprocess.Popen(line, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        next(line for line in serving.stdout if until in line)
        yield
        serving.send_signal(signal.SIGINT)


@contextmanager
def dev(folder: Path) -> Iterator[LocalServer]:
    port = unused_port()
    with command(folder, "Ctrl-C", "dev", "--port", str(port)):
        yield LocalServer(port, "/greet", f"http://127.0.0.1:{port}/greet")


@contextmanager
def dev_api(folder: Path) -> Iterator[LocalServer]:
    with dev(folder) as server:
        yield LocalServer(server.port, "/api/v1/workflows/greet/trigger", server.described)


@contextmanager
def api(folder: Path) -> Iterator[LocalServer]:
    """The API's function, served by hand, beside the workflow's."""
    (folder / "main.py").write_text((folder / "main.py").read_text() + API)
    with function(folder) as greet:
        env: dict[str, str | None] = {
            "AUTOPILOT_SQLITE_PATH": str(folder / "runs.db"),
            "AUTOPILOT_FUNCTION_URLS": json.dumps({"greet": f"http://127.0.0.1:{greet.port}"}),
        }
        with FunctionServer("api", source=folder / "main.py", env=env, folder=folder) as server:
            yield LocalServer(server.port, "/api/v1/workflows/greet/trigger", greet.described)


@contextmanager
def proxy(folder: Path) -> Iterator[LocalServer]:
    """What ``autopilot dashboard --url`` serves: it would add the person's key to every request."""
    with function(folder) as greet:
        port, upstream = unused_port(), f"http://127.0.0.1:{greet.port}"
        arguments = ("dashboard", "--no-browser", "--port", str(port), "--url", upstream)
        with command(folder, "Ctrl-C", *arguments, AUTOPILOT_API_KEY="the key of the person"):
            yield LocalServer(port, "/", greet.described)


@pytest.mark.parametrize("serve", (function, dev, dev_api, api, proxy))
def test_a_page_of_another_site_starts_nothing_and_reads_nothing(
    serve: Any, deceived: Browser, evil_port: int, tmp_path: Path
) -> None:
    write_greeting(tmp_path)
    with serve(tmp_path) as server, deceived.new_context() as context:
        page: Page = context.new_page()
        # From another origin: with another name, and on this machine at another port.
        for origin in (f"http://{EVIL}:{evil_port}", f"http://127.0.0.1:{evil_port}"):
            page.goto(f"{origin}/")
            for kind in ("blob", "text", "form", "nothing"):
                page.evaluate(SEND, [f"http://127.0.0.1:{server.port}{server.trigger}", kind])
            assert page.evaluate(READ, f"http://127.0.0.1:{server.port}/") == "unreadable"

        # From the same origin, after the name has come to mean this machine.
        shown = page.goto(f"http://{EVIL}:{server.port}/")
        assert shown is not None
        assert shown.status == 403
        for kind in ("blob", "text", "form", "nothing"):
            page.evaluate(SEND, [server.trigger, kind])
        assert "success_rate" not in page.evaluate(READ, "/")

        assert server.started() == 0
        started = httpx.post(
            f"http://127.0.0.1:{server.port}{server.trigger}", content=b"{}", trust_env=False, timeout=30
        )
        assert (started.status_code, server.started()) == (200, 1)
