"""Bytes that no HTTP client sends, to a real server with a function and one with the API."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from autopilot.development.function_server import FunctionServer
from tests.cli.conftest import write_greeting

pytestmark = pytest.mark.slow

START = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
TARGETS = (
    b"*",
    b"",
    b"//",
    b"http://evil.example/",
    b"@evil.example/",
    b"/" + b"a" * 100_000,
    b"/%00",
    b"/%ff",
    b"/\xff",
    b"/..;/",
)
REQUESTS = (
    b"",
    b"\r\n" * 100,
    b"\x00" * 1000,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /\r\n\r\n",
    b"POST / HTTP/9.9\r\nHost: localhost\r\nOrigin: null\r\n\r\n",
    b"POST / HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    *(
        b"POST / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
        for host in (b"[", b"a b", b"evil.example", b"x/runs/y", b"\xff")
    ),
    *(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n\r\n" for target in TARGETS),
    *(
        method + b" / HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for method in (b"TRACE", b"CONNECT", b"PUT", b"G\x00T", b"x" * 9000)
    ),
    START + b"Content-Length: -1\r\n\r\n{}",
    START + b"Content-Length: 1e3\r\n\r\n{}",
    START + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    START + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    START + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    START + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n{}\r\n",
    START + b"Transfer-Encoding: gzip\r\n\r\n{}",
    START + b"Expect: 200-maybe\r\nContent-Length: 1\r\n\r\n{",
    START + b"Idempotency-Key: a\x00b\r\n\r\n",
    START + b"Bad Header\r\n\r\n",
    START + b" folded: 1\r\n\r\n",
    START + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
    START + b"Origin: null\r\n" + b"X: 1\r\n" * 5000 + b"\r\n",
)
"""None of them is a request for a run: each breaks HTTP, or comes from another site, or has a body that is no payload."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    folder = tmp_path_factory.mktemp("bundle")
    write_greeting(folder)
    source: Path = folder / "main.py"
    source.write_text(source.read_text() + "\nfrom autopilot import api_entry_point\napi = api_entry_point()\n")
    env: dict[str, str | None] = {"AUTOPILOT_SQLITE_PATH": str(folder / "runs.db")}
    with FunctionServer("greet", source=source, env=env, folder=folder) as greet:
        urls = {"AUTOPILOT_FUNCTION_URLS": json.dumps({"greet": greet.url})}
        with FunctionServer("api", source=source, env=env | urls, folder=folder) as api:
            yield {"greet": greet.port, "api": api.port}


def answer_to(port: int, sent: bytes) -> bytes:
    """The first bytes that come back before the server closes the connection; the client sends nothing more."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        try:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            return client.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            return b""


@pytest.mark.parametrize("server", ("greet", "api"))
def test_no_bytes_start_a_run_or_end_the_server(servers: dict[str, int], server: str) -> None:
    for sent in REQUESTS:
        answer = answer_to(servers[server], sent)

        assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/1.1 303")), (
            sent[:80],
            answer[:80],
        )
        assert b"Traceback" not in answer

    described = httpx.get(f"http://localhost:{servers['greet']}/", trust_env=False, timeout=30).json()
    health = httpx.get(f"http://localhost:{servers['api']}/api/v1/health", trust_env=False, timeout=30)
    assert (described["total_runs"], health.status_code) == (0, 200)
