"""``autopilot dashboard``, of what is served on this machine."""

import http.server
import threading
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from autopilot.cli.app import app
from autopilot.development.function_server import unused_port

SAID: dict[str, bytes] = {
    "dev": b'{"status": "ok", "version": "0.1.0", "environment": "local", "store": "sqlite", "error": null}',
    "dev with a key": b'{"error": {"code": "unauthorized", "message": "send the key", "details": null}}',
    "another": b"<html>hello",
    "a workflow's function": b'{"error": {"code": "not_found", "message": "there is nothing", "details": null}}',
}


@pytest.fixture
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """Of a server that says the same to everybody."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(SAID[request.param])

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("port", "code"),
    (("dev", 0), ("dev with a key", 0), ("another", 3), ("a workflow's function", 3)),
    indirect=["port"],
)
def test_the_dashboard_is_that_of_dev_and_of_nothing_else(port: int, code: int) -> None:
    opened = CliRunner().invoke(app, ["dashboard", "--no-browser", "--port", str(port)])

    assert (opened.exit_code, f"is at http://127.0.0.1:{port}/" in opened.stdout) == (code, code == 0)


def test_where_nothing_answers_it_says_what_to_start() -> None:
    opened = CliRunner().invoke(app, ["dashboard", "--no-browser", "--port", str(unused_port())])

    assert (opened.exit_code, "start `autopilot dev`" in opened.stderr) == (3, True)
