"""Hostile feeds beside a good one, under the real framework's command, while others ask the same process."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from autopilot.development.function_server import FunctionServer
from tests.functions.test_feed_digest import rss
from tests.functions.test_feed_parser import HOSTILE, SIZE
from tests.functions.web_server import Reply, Request, WebServer

ROOT = Path(__file__).parent.parent.parent
SERVED = (
    "an e-mail address without an end",
    "arrays in arrays",
    "attributes",
    "bytes of no encoding",
    "comments",
    "depth of one name",
    "entities",
    "escaped tags",
    "items",
    "members",
    "quotes in quotes",
    "references",
)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    env = {"AUTOPILOT_SQLITE_PATH": str(tmp_path / "runs.db"), "AUTOPILOT_STORE": "sqlite"}
    server = FunctionServer("feed_digest", source=ROOT / "main.py", env=env)
    await asyncio.to_thread(server.start)
    try:
        async with httpx.AsyncClient(base_url=server.url, timeout=120, trust_env=False) as client:
            yield client
    finally:
        server.kill()


async def never_ending(_request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\n \r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_hostile_feeds_cost_their_own_lines_and_nothing_else(served: httpx.AsyncClient, web: WebServer) -> None:
    for number, name in enumerate(SERVED):
        document = HOSTILE[name]()
        web.pages[f"/{number}"] = Reply(200, (document if isinstance(document, bytes) else document.encode())[:SIZE])
    web.pages |= {
        "/bomb": Reply(200, gzip.compress(b" " * 100_000_000), {"content-encoding": "gzip"}),
        "/never": never_ending,
        "/good": Reply(200, rss([2, 1])),
    }
    feeds = [web.address(path) for path in web.pages]
    waited: list[float] = []

    async def describe() -> None:
        began = time.perf_counter()
        answer = await served.get("/")
        waited.append(time.perf_counter() - began)
        assert answer.status_code == 200

    async def keep_asking() -> None:
        while True:
            await describe()
            await asyncio.sleep(0.05)

    for _ in range(10):
        await describe()
    undisturbed = max(waited)
    waited.clear()
    asking = asyncio.create_task(keep_asking())
    answer = await served.post("/", json={"feeds": feeds, "timeout_seconds": 15})
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)

    run: dict[str, Any] = answer.json()
    assert answer.status_code == 200, answer.text
    report = json.loads(run["result"]) if isinstance(run["result"], str) else run["result"]
    by_path = {feed["url"].rpartition("/")[2]: feed for feed in report["feeds"]}
    assert (by_path["good"]["listed"], by_path["good"]["error"]) == (2, None)
    assert by_path["bomb"]["error"] == "it is over 4,194,304 bytes"
    assert by_path["never"]["error"] == "timed out after 15 s while reading the body"
    assert len(waited) > 20
    # A second, and what a busy machine adds to any answer.
    assert max(waited) < 1 + 4 * undisturbed, (max(waited), undisturbed, sorted(waited)[-10:])
