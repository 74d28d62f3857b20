"""The command with an address of Google's: what it has ``gcloud`` do, and what it shows the API.

Only Google itself is replaced: ``gcloud`` is a program on the PATH whose replies a test writes, and the address is
reached through a proxy of this machine that leads everywhere to one web server, with a certificate for that name.
"""

import asyncio
import json
import os
import signal
import ssl
import sys
import urllib.request
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme

from autopilot.api.run_detail import run_detail
from autopilot.api.schemas import RunPage, summary_of
from autopilot.development.function_server import unused_port
from autopilot.models import RunStatus
from autopilot.settings import load_settings
from tests.cli.conftest import command_environment
from tests.cli.history import FAILED, a_run
from tests.functions.web_server import Reply, WebServer, running_server

pytestmark = pytest.mark.slow

HOST = "autopilot-prod-api-abc123.a.run.app"
RUN = f"/api/v1/workflows/digest/runs/{FAILED.id}"
DETAIL = run_detail(FAILED, [], load_settings({}))

GCLOUD = """#!{python}
import json, pathlib, sys

folder = pathlib.Path(__file__).parent
with (folder / "asked.jsonl").open("a") as asked:
    asked.write(json.dumps(sys.argv[1:]) + "\\n")
reply = json.loads((folder / "replies.json").read_text())[" ".join(sys.argv[1:3])]
sys.stdout.write(reply.get("stdout", ""))
sys.stderr.write(reply.get("stderr", ""))
sys.exit(reply.get("code", 0))
"""
NOBODY = {
    "code": 1,
    "stderr": "ERROR: (gcloud.auth.print-identity-token) You do not currently have an active account selected.\n"
    "Please run:\n  $ gcloud auth login\n",
}


@dataclass
class Google:
    """What the command finds where Google would be."""

    folder: Path
    api: WebServer
    variables: dict[str, str]
    replies: dict[str, Any] = field(default_factory=lambda: {"auth print-identity-token": {"stdout": "a-token\n"}})

    async def start(self, *arguments: str, **variables: str) -> Process:
        (self.folder / "gcloud").write_text(GCLOUD.format(python=sys.executable))
        (self.folder / "gcloud").chmod(0o755)
        (self.folder / "replies.json").write_text(json.dumps(self.replies))
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "autopilot", *arguments),
            cwd=self.folder,
            env=command_environment() | self.variables | variables,
            stdout=PIPE,
            stderr=PIPE,
        )

    async def command(self, *arguments: str, **variables: str) -> tuple[int | None, str, str]:
        """The exit code, and what was said on standard output and on standard error."""
        process = await self.start(*arguments, "--url", f"https://{HOST}", **variables)
        stdout, stderr = await process.communicate()
        return process.returncode, stdout.decode(), stderr.decode()

    @property
    def asked(self) -> list[list[str]]:
        """The arguments of each call of gcloud."""
        return [json.loads(line) for line in (self.folder / "asked.jsonl").read_text().splitlines()]


@pytest.fixture
async def google(tmp_path: Path) -> AsyncIterator[Google]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(tls)
    async with running_server(tls) as api:
        api.pages[RUN] = Reply(body=DETAIL.model_dump_json().encode())

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await lead_on(reader, writer, api.port)

        proxy = await asyncio.start_server(connected, "127.0.0.1", 0)
        address = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        async with proxy:
            yield Google(
                tmp_path,
                api,
                {
                    **dict.fromkeys(("HTTPS_PROXY", "https_proxy"), address),
                    **dict.fromkeys(("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"), ""),
                    "SSL_CERT_FILE": str(tmp_path / "authority.pem"),
                    "PATH": f"{tmp_path}:{os.environ['PATH']}",
                    "GOOGLE_CLOUD_PROJECT": "",
                },
            )


async def lead_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """A tunnel as a proxy makes it; wherever it should go, it goes to ``port``."""
    asked = await reader.readuntil(b"\r\n\r\n")
    assert asked.startswith(f"CONNECT {HOST}:443 ".encode())
    onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
    with suppress(ConnectionError):
        await asyncio.gather(copied(reader, onward_writer), copied(onward_reader, writer))


async def copied(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    finally:
        target.close()


async def test_the_api_is_shown_the_identity_token_of_the_account(google: Google) -> None:
    code, stdout, stderr = await google.command("show", FAILED.id, "-w", "digest", "--json")

    assert code == 0, stderr
    assert json.loads(stdout)["run"]["id"] == FAILED.id
    assert google.asked == [["auth", "print-identity-token"]]
    assert google.api.asked(RUN)[0].headers["authorization"] == "Bearer a-token"
    assert "x-api-key" not in google.api.asked(RUN)[0].headers


async def test_a_key_goes_with_the_token_and_does_without_one(google: Google) -> None:
    show = ("show", FAILED.id, "-w", "digest")
    key = "correct horse battery"
    both = await google.command(*show, AUTOPILOT_API_KEY=key)
    google.replies["auth print-identity-token"] = NOBODY
    alone = await google.command(*show, AUTOPILOT_API_KEY=key)

    first, second = (request.headers for request in google.api.asked(RUN))
    assert (both[0], alone[0]) == (0, 0), both[2] + alone[2]
    assert (first["x-api-key"], first["authorization"]) == (key, "Bearer a-token")
    assert (second["x-api-key"], second.get("authorization")) == (key, None)


@pytest.mark.parametrize("command", (("show", FAILED.id), ("logs", FAILED.id), ("dashboard", "--no-browser")))
async def test_whoever_is_not_signed_in_is_told_so_and_nothing_is_asked(
    google: Google, command: tuple[str, ...]
) -> None:
    google.replies["auth print-identity-token"] = NOBODY

    code, stdout, stderr = await google.command(*command)

    assert (code, stdout, google.api.requests) == (6, "", [])
    assert stderr == (
        "autopilot: gcloud auth print-identity-token: You do not currently have an active account selected; "
        "run: gcloud auth login\n"
    )


async def test_without_gcloud_it_is_told_where_to_get_it(google: Google) -> None:
    (google.folder / "nothing").mkdir()

    code, _, stderr = await google.command("runs", PATH=str(google.folder / "nothing"))

    assert (code, "gcloud is not installed; see https://" in stderr, stderr.count("\n")) == (6, True, 1)


async def test_an_account_that_may_not_call_the_api_is_told_the_role(google: Google) -> None:
    google.api.pages[RUN] = Reply(403, b"<html>Forbidden</html>")

    code, _, stderr = await google.command("show", FAILED.id, "-w", "digest")

    assert (code, "roles/run.invoker" in stderr) == (6, True)


@pytest.mark.parametrize(("status", "code", "asked"), ((403, 6, 1), (409, 1, 2)))
async def test_many_retries_end_at_the_first_that_is_not_authorized(
    google: Google, *, status: int, code: int, asked: int
) -> None:
    failed = [summary_of(a_run(run_id, status=RunStatus.FAILED)) for run_id in ("one", "two")]
    page = RunPage(runs=failed, next_cursor=None).model_dump_json().encode()
    google.api.pages["/api/v1/runs?status=failed&limit=200"] = Reply(body=page)
    for run in failed:
        google.api.pages[f"/api/v1/workflows/digest/runs/{run.id}/retry"] = Reply(status, b"no")

    ended, _, _ = await google.command("retry", "--failed")

    assert (ended, len(google.api.requests) - 1) == (code, asked)


async def test_a_log_is_read_from_cloud_logging_and_shown_as_one_of_this_machine(google: Google) -> None:
    entries = [
        {
            "timestamp": "2026-01-02T03:04:05.678Z",
            "severity": "INFO",
            "jsonPayload": {"message": "sent", "n": 2, "run_id": FAILED.id, "environment": "prod"},
        },
        {
            "timestamp": "2026-01-02T03:04:06Z",
            "severity": "ERROR",
            "jsonPayload": {"message": "workflow_run_completed", "stack_trace": "Traceback\x1b", "serviceContext": {}},
        },
        {"timestamp": "2026-01-02T03:04:07Z", "severity": "DEFAULT", "textPayload": "printed"},
    ]
    google.replies["logging read"] = {"stdout": json.dumps(entries)}
    logs = ("logs", FAILED.id, "-w", "digest")

    code, stdout, stderr = await google.command(*logs, "--project", "shop")
    _, as_json, _ = await google.command(*logs, "--json")

    assert code == 0, stderr
    assert stdout.splitlines() == [
        "03:04:05 info    sent n=2",
        "03:04:06 error   workflow_run_completed",
        "Traceback\\x1b",
        "03:04:07 default printed",
    ]
    assert json.loads(as_json) == entries
    read = ["logging", "read", DETAIL.log_query, "--order=asc", "--format=json"]
    assert [asked for asked in google.asked if asked[0] == "logging"] == [[*read, "--project=shop"], read]


async def test_a_log_that_cannot_be_read_is_told_with_its_query(google: Google) -> None:
    google.replies["logging read"] = {"code": 1, "stderr": "ERROR: (gcloud.logging.read) PERMISSION_DENIED: no.\n"}
    refused = await google.command("logs", FAILED.id, "-w", "digest")
    google.replies["logging read"] = {"stdout": "[]"}
    empty = await google.command("logs", FAILED.id, "-w", "digest")

    assert (refused[0], refused[1]) == (6, "")
    assert refused[2].startswith(
        "autopilot: gcloud logging read: PERMISSION_DENIED: no\nThe query for Cloud Logging is:\n"
    )
    assert DETAIL.log_query in refused[2]
    assert (empty[0], empty[1]) == (4, "")
    assert "has no lines of this run" in empty[2]


async def test_the_dashboard_is_opened_with_the_token_until_it_is_interrupted(google: Google) -> None:
    google.api.pages["/"] = Reply(body=b"<html>the dashboard")
    port = unused_port()
    url = f"https://{HOST}"
    process = await google.start("dashboard", "--no-browser", "--port", str(port), "--url", url)
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()

    page = await asyncio.to_thread(page_at, f"http://127.0.0.1:{port}/")
    process.send_signal(signal.SIGINT)
    rest, stderr = await process.communicate()

    assert f"The dashboard of {HOST} is at http://127.0.0.1:{port}/" in line
    assert page == "<html>the dashboard"
    assert google.api.asked("/")[0].headers["authorization"] == "Bearer a-token"
    assert google.api.asked("/")[0].headers["host"] == HOST
    assert (process.returncode, rest.decode(), stderr.decode()) == (0, "stopped\n", "")


def page_at(address: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=20) as answer:
        text: str = answer.read().decode()
    return text
