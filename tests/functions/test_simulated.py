"""The shipped workflows in simulations: whatever happens to their instances, they end the same, and post once."""

import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import httpcore
import pytest

from autopilot import WorkflowRun
from autopilot.testing import simulate
from functions._ip_addresses import IPAddress
from functions._network import Network
from functions.feed_digest import FeedDigest
from functions.uptime_check import UptimeCheck
from tests.functions.test_feed_digest import rss

HOOK = "http://hooks.example/s3cret"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+Z")
_ASKED = re.compile(rb"[A-Z]+ (\S+) HTTP.*?\r\n\r\n", re.DOTALL)
_KEY = re.compile(rb"(?i)\r\nidempotency-key: (\S+)")


class Web:
    """The addresses that the workflows request, without a network: every connection is answered in memory.

    Attributes:
        digests: the idempotency keys of what was posted: what a receiver has that knows such keys.
    """

    def __init__(self) -> None:
        self.digests: set[str] = set()

    @property
    def as_network(self) -> Network:
        return Network(resolve=self._resolve, connect=self._connect)

    def answer(self, request: bytes) -> tuple[int, bytes]:
        """The status and the content that answer a request."""
        asked, key = _ASKED.match(request), _KEY.search(request)
        assert asked is not None
        match asked[1]:
            case b"/s3cret":
                assert key is not None
                self.digests.add(key[1].decode())
                return 200, b""
            case b"/rss":
                return 200, rss([2, 1])
            case b"/down":
                return 500, b""
            case _:
                return 200, b""

    async def _resolve(self, host: str, port: int) -> Sequence[IPAddress]:
        return [ip_address("192.0.2.1" if host == "hooks.example" else "198.51.100.1")]

    async def _connect(self, address: IPAddress, port: int) -> httpcore.AsyncNetworkStream:
        return _Connection(self)


class _Connection(httpcore.AsyncNetworkStream):
    def __init__(self, web: Web) -> None:
        self._web = web
        self._request = b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._request += buffer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if not self._request:
            return b""
        status, content = self._web.answer(self._request)
        self._request = b""
        return b"HTTP/1.1 %d \r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (status, len(content), content)

    async def aclose(self) -> None: ...

    def get_extra_info(self, info: str) -> Any:
        return None


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Web:
    monkeypatch.setenv("FEED_DIGEST_WEBHOOK_URL", HOOK)
    return Web()


def without_times(run: WorkflowRun) -> Any:
    """The outcome of a run; clocks differ, and latencies are real time."""
    result = dict(run.result or {})
    result["targets"] = [{**target, "latency_ms": None} for target in result.get("targets", [])]
    return run.status, _TIME.sub("a time", str(result)), run.error


def as_posted(run: WorkflowRun) -> Any:
    """The outcome of a digest, without what it says: a feed's time is up if the instance gets no CPU for so long."""
    return run.status, run.result["posted"], run.error


@pytest.mark.slow
async def test_an_uptime_check(web: Web) -> None:
    targets = [{"url": "http://shop.example/up", "name": "shop"}, {"url": "http://shop.example/down"}]

    report = await simulate(
        lambda: UptimeCheck(network=web.as_network),
        {"targets": targets},
        seeds=40,
        outcome=without_times,
        neighbours=False,
    )

    assert report.runs == 40
    assert report.deliveries > 60


async def test_a_feed_digest_is_posted_once(web: Web) -> None:
    feeds = {"feeds": ["http://news.example/rss", "http://news.example/down"]}

    report = await simulate(
        lambda: FeedDigest(network=web.as_network),
        feeds,
        seeds=40,
        outcome=as_posted,
        effects=lambda: web.digests,
        prepare=web.digests.clear,
        neighbours=False,
    )

    assert report.runs == 40
