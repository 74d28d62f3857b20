"""The shipped workflows in simulations: whatever happens to their instances, they end the same, and post once."""

import re
from typing import Any

import httpx
import pytest

from autopilot import WorkflowRun
from autopilot.testing import simulate
from functions._web_client import WebClient
from functions.feed_digest import FeedDigest
from functions.uptime_check import UptimeCheck
from tests.functions.test_feed_digest import rss

HOOK = "http://hooks.example/s3cret"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+Z")


class Web:
    """The addresses that the workflows request, without a network."""

    def __init__(self) -> None:
        self.posts: list[str] = []
        self.digests: set[str] = set()

    def answer(self, request: httpx.Request) -> httpx.Response:
        if str(request.url) == HOOK:
            self.posts.append(request.headers["idempotency-key"])
            self.digests.add(request.headers["idempotency-key"])  # a receiver that knows such keys
            return httpx.Response(200)
        if request.url.path == "/rss":
            return httpx.Response(200, content=rss([2, 1]))
        return httpx.Response(500 if request.url.path == "/down" else 200)

    def clear(self) -> None:
        self.posts.clear()
        self.digests.clear()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Web:
    web = Web()
    transport = httpx.MockTransport(web.answer)
    monkeypatch.setattr(WebClient, "_client", lambda _: httpx.AsyncClient(transport=transport))
    monkeypatch.setenv("FEED_DIGEST_WEBHOOK_URL", HOOK)
    return web


def without_times(run: WorkflowRun) -> Any:
    """The outcome of a run; clocks differ, and latencies are real time."""
    result = dict(run.result or {})
    result["targets"] = [{**target, "latency_ms": None} for target in result.get("targets", [])]
    return run.status, _TIME.sub("a time", str(result)), run.error


async def test_an_uptime_check(offline: Web) -> None:
    targets = [{"url": "http://shop.example/up", "name": "shop"}, {"url": "http://shop.example/down"}]

    report = await simulate(UptimeCheck, {"targets": targets}, seeds=40, outcome=without_times, neighbours=False)

    assert report.runs == 40
    assert report.deliveries > 60


async def test_a_feed_digest_is_posted_once(offline: Web) -> None:
    feeds = {"feeds": ["http://news.example/rss", "http://news.example/down"]}

    report = await simulate(
        FeedDigest,
        feeds,
        seeds=40,
        outcome=without_times,
        effects=lambda: offline.digests,
        prepare=offline.clear,
        neighbours=False,
    )

    assert report.runs == 40
