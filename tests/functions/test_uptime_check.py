import asyncio
import base64
import codecs
import gzip
import json
import socket
import ssl
import struct
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
import trustme
from hypothesis import example, given, strategies as st
from pydantic import ValidationError

from autopilot import ConfigInvalid, PayloadInvalid, RunStatus, TriggerType, WorkflowRun
from autopilot.core.runs.limits import RESULT_LIMIT, json_text
from autopilot.testing import ManualClock
from functions import _web_client, _webhook
from functions._charsets import page_text
from functions._uptime_payload import MAX_TARGET_SECONDS, MAX_TARGETS, MAX_TRIES, Target, UptimeCheckInput
from functions._uptime_report import (
    MAX_OTHER_TARGETS,
    KnownTarget,
    Observation,
    TargetReport,
    UptimeReport,
    announcement,
    compare,
)
from functions._web_address import checked_address, host_of
from functions.uptime_check import SECONDS_BETWEEN_TRIES, UptimeCheck
from tests.equipment import equipped
from tests.fakes import InMemoryRunLog
from tests.functions.conftest import server_context
from tests.functions.network import LocalNetwork
from tests.functions.web_server import Answer, Reply, Request, WebServer, running_server

Check = Callable[..., Awaitable[UptimeReport]]

NO_STATUSES: tuple[Any, ...] = (True, 1000, "299-200", "2xx", "199-200", "", [], [200, "x"], [200] * 21, {}, 200.5)


@pytest.fixture
def check(run_log: InMemoryRunLog, clock: ManualClock, network: LocalNetwork) -> Check:
    """Runs the workflow as a cold instance would, five minutes after the run before; one try is enough."""

    async def run(*targets: dict[str, Any] | str, **payload: Any) -> UptimeReport:
        targets = tuple({"confirm": 1} | target if isinstance(target, dict) else target for target in targets)
        workflow = equipped(UptimeCheck(network=network.as_network), run_log=run_log, clock=clock)
        clock.advance(timedelta(minutes=5))
        ended = await workflow.run(TriggerType.MANUAL, {"targets": list(targets), **payload})
        assert ended.status is RunStatus.SUCCESS, ended.error
        return UptimeReport.model_validate(ended.result)

    return run


def raw(answer: bytes) -> Answer:
    """A page that sends these bytes, and closes the connection."""

    async def send(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return send


async def test_a_target_that_answers_is_up_with_its_status_and_latency(check: Check, web: WebServer) -> None:
    web.pages["/"] = Reply(204)

    report = await check({"url": web.address()})

    target = report.targets[0]
    assert (target.up, target.status_code, target.reason, target.change) == (True, 204, None, None)
    assert target.latency_ms is not None
    assert target.certificate_days_left is None
    assert report.summary == "1 of 1 up"


@pytest.mark.parametrize(
    ("target", "reason"),
    (
        ({}, None),
        ({"status": 200}, None),
        ({"status": 404}, "answered 200, not 404"),
        ({"text": "all systems go"}, None),
        ({"text": "grün"}, None),
        ({"text": "out of order"}, "the expected text is not in the body"),
        ({"method": "HEAD"}, None),
        ({"path": "/missing"}, "answered 404, not 2xx"),
        ({"path": "/missing", "status": 404}, None),
        ({"path": "/latin", "text": "grün"}, None),
        ({"path": "/odd-charset", "text": "grün"}, None),
        ({"path": "/moved"}, None),
        ({"path": "/moved", "status": 301}, None),
        ({"path": "/loop"}, "it redirects more than 5 times"),
        ({"path": "/loop", "status": 302}, None),
        ({"path": "/elsewhere"}, "it redirects to something that is not an http or https address"),
        ({"path": "/long", "text": "the end"}, "the expected text is not in the first 1,048,576 bytes of the body"),
        ({"path": "/long"}, None),
        ({"path": "/packed", "text": "all systems go"}, None),
        ({"path": "/packed-badly", "text": "x"}, "its body is not valid gzip"),
        ({"path": "/packed-oddly", "text": "x"}, "its body is compressed in a way that was not asked for"),
        ({"path": "/packed-in-two", "text": "systems go"}, None),
        ({"path": "/packed-and-cut", "text": "systems"}, "its body is truncated: its gzip data breaks off"),
        ({"path": "/second-cut", "text": "x"}, "its body is truncated: its gzip data breaks off"),
        ({"path": "/deflated", "text": "all systems go"}, None),
        ({"path": "/deflated-raw", "text": "all systems go"}, None),
        ({"path": "/deflated-and-cut", "text": "x"}, "its body is truncated: its deflate data breaks off"),
        ({"path": "/cut", "text": "all"}, "its body is truncated: the connection was closed before its end"),
        ({"path": "/cut-chunk", "text": "all"}, "its body is truncated: the connection was closed before its end"),
        ({"path": "/until-closed", "text": "all systems go"}, None),
        ({"path": "/long-headers"}, "the headers of its answer are too long"),
        ({"path": "/silent"}, "the connection was closed while waiting for an answer"),
        ({"path": "/http-0.9"}, "the connection was closed while waiting for an answer"),
        ({"path": "/not-modified"}, "answered 304, not 2xx"),
        ({"path": "/not-modified", "status": [200, 304]}, None),
        ({"path": "/missing", "status": "404"}, None),
        ({"path": "/missing", "status": "200-299"}, "answered 404, not 200-299"),
        ({"path": "/missing", "status": "200-404"}, None),
        ({"path": "/missing", "status": [401, "200-299"]}, "answered 404, not 401 or 200-299"),
        ({"path": "/missing", "status": [401, "404-410"]}, None),
        ({"path": "/odd", "status": 999}, None),
        ({"path": "/http-0.9-lines"}, "the answer was not HTTP, while waiting for an answer"),
        ({"path": "/moved", "follow_redirects": False}, "answered 301, not 2xx"),
        ({"path": "/moved", "status": "200-399"}, None),
        ({"path": "/moved", "status": [200, 301], "follow_redirects": True}, None),
        ({"path": "/loop", "status": "200-399"}, None),
        ({"path": "/moved", "method": "HEAD"}, None),
    ),
)
async def test_what_makes_a_target_up_or_down(
    check: Check, web: WebServer, target: dict[str, Any], reason: str | None
) -> None:
    page = b"all systems go"
    packed = gzip.compress(page)
    web.pages |= {
        "/": Reply(200, "all systems go, alles grün".encode()),
        "/latin": Reply(200, "alles grün".encode("latin-1"), {"content-type": "text/html; charset=iso-8859-1"}),
        "/odd-charset": Reply(200, "alles grün".encode(), {"content-type": "text/html; charset=rot13"}),
        "/moved": Reply(301, headers={"location": "/"}),
        "/loop": Reply(302, headers={"location": "/loop"}),
        "/elsewhere": Reply(302, headers={"location": "ftp://files.invalid/"}),
        "/long": Reply(200, b" " * 2_000_000 + b"the end"),
        "/packed": Reply(200, gzip.compress(b"all systems go"), {"content-encoding": "gzip"}),
        "/packed-badly": Reply(200, b"not gzip", {"content-encoding": "gzip"}),
        "/packed-oddly": Reply(200, b"...", {"content-encoding": "br"}),
        "/packed-in-two": Reply(200, packed + gzip.compress(b"systems go") + bytes(9), {"content-encoding": "gzip"}),
        "/packed-and-cut": Reply(200, packed[:-8], {"content-encoding": "gzip"}),
        "/second-cut": Reply(200, packed + packed[:5], {"content-encoding": "gzip"}),
        "/deflated": Reply(200, zlib.compress(page), {"content-encoding": "deflate"}),
        "/deflated-raw": Reply(200, zlib.compress(page, wbits=-15), {"content-encoding": "deflate"}),
        "/deflated-and-cut": Reply(200, zlib.compress(page)[:-5], {"content-encoding": "deflate"}),
        "/cut": Reply(200, page, {"content-length": "1000"}),
        "/cut-chunk": raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n100\r\nall systems go"),
        "/until-closed": raw(b"HTTP/1.0 200 OK\r\n\r\nall systems go"),
        "/long-headers": raw(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000),
        "/silent": raw(b""),
        "/http-0.9": raw(b"<html>all systems go</html>"),
        "/http-0.9-lines": raw(b"<html>\r\n\r\nall systems go"),
        "/not-modified": Reply(304),
        "/odd": Reply(999),
    }
    asked = {"url": web.address(target.pop("path", "/"))} | target

    report = await check(asked)

    assert report.targets[0].reason == reason
    assert report.targets[0].up is (reason is None)


async def test_a_dead_target_never_fails_the_others(
    check: Check, web: WebServer, network: LocalNetwork, clock: ManualClock
) -> None:
    async def hang(_request: Request, writer: asyncio.StreamWriter) -> None:
        clock.advance(timedelta(seconds=0.3))
        await asyncio.Event().wait()

    network.names |= {"no-such-host.invalid": [[]], f"{'a' * 64}.invalid": [[]]}

    async def garbage(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n\r\n")

    async def reset(_request: Request, writer: asyncio.StreamWriter) -> None:
        # Closing with nothing to linger for sends a reset instead of an ending.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    web.pages |= {
        "/": Reply(200),
        "/garbage": garbage,
        "/reset": reset,
        "/hang": hang,
        "/badly-moved": Reply(302, headers={"location": f"http://{'a' * 64}.invalid/"}),
    }
    async with running_server() as gone:
        refused = gone.address()

    report = await check(
        {"url": refused, "name": "refused"},
        {"url": "https://no-such-host.invalid/", "name": "unknown host"},
        {"url": web.address("/badly-moved"), "name": "no host"},
        {"url": web.address("/garbage"), "name": "garbage"},
        {"url": web.address("/reset"), "name": "reset"},
        {"url": web.address("/hang"), "name": "hang", "timeout_seconds": 0.3},
        {"url": web.address(), "name": "fine"},
    )

    reasons = {target.name: target.reason for target in report.targets}
    assert reasons == {
        "refused": "the connection was refused",
        "unknown host": "the host name cannot be resolved",
        "no host": "after a redirect, the host name cannot be resolved",
        "garbage": "the answer was not HTTP, while waiting for an answer",
        "reset": "the connection was reset while waiting for an answer",
        "hang": "timed out after 0.3 s while waiting for an answer",
        "fine": None,
    }
    assert (report.up, report.down) == (1, 6)
    assert report.summary.startswith("1 of 7 up; down: refused (the connection was refused), unknown host")
    assert report.summary.endswith(" and 1 more")


async def test_a_body_that_never_ends_is_given_up_at_the_timeout(
    check: Check, web: WebServer, network: LocalNetwork, clock: ManualClock
) -> None:
    web.pages["/"] = Reply(200, b"half", headers={"content-length": "1000"})
    network.stall_after(b"half", lambda: clock.advance(timedelta(seconds=0.3)))

    report = await check({"url": web.address(), "text": "whole", "timeout_seconds": 0.3})

    target = report.targets[0]
    assert target.reason == "timed out after 0.3 s while reading the body"
    assert target.status_code == 200


class TestTries:
    """A target counts as down once it has failed as often as it is to be confirmed."""

    async def test_a_failure_that_passes_is_no_outage(self, check: Check, web: WebServer, clock: ManualClock) -> None:
        async def fail_once(_request: Request, writer: asyncio.StreamWriter) -> None:
            web.pages["/"] = Reply(200)
            writer.write(Reply(503).encoded())

        web.pages["/"] = fail_once

        report = await check(web.address())

        assert (report.up, report.went_down) == (1, [])
        assert report.targets[0].tries == 2
        assert clock.slept == [SECONDS_BETWEEN_TRIES]

    @pytest.mark.parametrize(("target", "tries"), (({}, 2), ({"confirm": 1}, 1), ({"confirm": 3}, 3)))
    async def test_it_is_tried_as_often_as_it_asks_for(
        self, run_log: InMemoryRunLog, clock: ManualClock, web: WebServer, target: dict[str, Any], tries: int
    ) -> None:
        workflow = equipped(UptimeCheck(), run_log=run_log, clock=clock)

        run = await workflow.run(TriggerType.MANUAL, {"targets": [{"url": web.address()} | target]})

        assert (run.result["down"], run.result["targets"][0]["tries"]) == (1, tries)
        assert len(web.requests) == tries

    async def test_what_may_not_be_requested_is_not_tried_again(self, check: Check, network: LocalNetwork) -> None:
        network.names["metadata.example"] = [["169.254.169.254"]]

        report = await check({"url": "http://metadata.example/", "confirm": 5})

        assert report.targets[0].tries == 1
        assert network.asked == ["metadata.example"]


class TestAddresses:
    """How addresses may be written."""

    @pytest.mark.parametrize(
        ("written", "url"),
        (
            ("https://example.org", "https://example.org"),
            ("http://example.org/", "http://example.org/"),
            ("example.org", "https://example.org"),
            ("example.org/health?via=http://x", "https://example.org/health?via=http://x"),
            ("example.org:8443", "https://example.org:8443"),
            ("bücher.example/ä", "https://bücher.example/ä"),
            ("[2606:4700::1111]:8443/", "https://[2606:4700::1111]:8443/"),
            ("EXAMPLE.org.", "https://EXAMPLE.org."),
        ),
    )
    def test_a_target_may_be_a_plain_address(self, written: str, url: str) -> None:
        plain, full = UptimeCheckInput.model_validate({"targets": [written, {"url": url}]}).targets

        assert plain == full
        assert (plain.url, plain.key) == (url, full.key)

    def test_targets_keep_their_identity_from_before_there_was_more_to_say_about_them(self) -> None:
        old = {"url": "https://example.org", "status": 404, "text": "x"}

        assert Target.model_validate({"url": "https://example.org"}).key == "6b6b87e5f1a73dea"
        assert Target.model_validate(old | {"confirm": 3, "timeout_seconds": 9}).key == "4089e56d3d9a1e1f"

    async def test_hosts_may_be_ipv6_addresses_and_international_names(
        self, check: Check, web: WebServer, network: LocalNetwork
    ) -> None:
        network.names["xn--bcher-kva.example"] = [["2606:4700::1"]]
        network.homes = dict.fromkeys(("2606:4700::1", "2606:4700::2"), "127.0.0.1")
        web.pages["/"] = Reply(200)

        report = await check(f"http://bücher.example:{web.port}", f"http://[2606:4700::2]:{web.port}")

        assert report.summary == "2 of 2 up"
        assert {request.headers["host"] for request in web.requests} == {
            f"xn--bcher-kva.example:{web.port}",
            f"[2606:4700::2]:{web.port}",
        }


class TestHeaders:
    """What is sent with a request."""

    async def test_it_accepts_what_a_browser_does_and_sends_the_headers_of_the_target(
        self, check: Check, web: WebServer
    ) -> None:
        web.pages["/"] = Reply(200)

        await check(
            {"url": web.address(), "headers": {"X-Api-Version": "2", "user-agent": "mine", "Host": "shop.example"}},
            {"url": web.address()},
        )

        first, second = sorted(web.requests, key=lambda request: "x-api-version" not in request.headers)
        assert second.headers["accept"].startswith("text/html,application/xhtml+xml")
        assert second.headers["user-agent"] == "autopilot-uptime-check"
        assert first.headers["accept"] == second.headers["accept"]
        assert (first.headers["user-agent"], first.headers["host"]) == ("mine", "shop.example")

    async def test_targets_share_no_cookies(self, check: Check, web: WebServer) -> None:
        web.pages["/"] = Reply(200, headers={"set-cookie": "session=1; path=/"})

        await check(*[{"url": web.address(), "name": f"{number}"} for number in range(12)])

        assert {request.headers.get("cookie") for request in web.requests} == {None}


class TestBasicAuth:
    """A user name and a password, from the secret."""

    @pytest.fixture
    def with_secret(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
        return lambda secret: monkeypatch.setenv("UPTIME_CHECK_BASIC_AUTH", json.dumps(secret))

    async def test_it_is_sent_to_the_host_of_the_secret(
        self, check: Check, web: WebServer, with_secret: Callable[[dict[str, str]], None]
    ) -> None:
        with_secret({web.address(): "jörg:s3:cret"})
        web.pages["/"] = Reply(200)

        with structlog.testing.capture_logs() as lines:
            report = await check({"url": web.address(), "basic_auth": True})

        sent = web.requests[0].headers["authorization"]
        assert base64.b64decode(sent.removeprefix("Basic ")).decode() == "jörg:s3:cret"
        assert not any(word in f"{report!r}{lines!r}" for word in ("s3:cret", sent))

    async def test_only_targets_that_ask_for_it_get_it_and_no_other_origin_does(
        self, check: Check, web: WebServer, with_secret: Callable[[dict[str, str]], None]
    ) -> None:
        with_secret({f"127.0.0.1:{web.port}": "u:p", "http://127.0.0.1": "u:p", "http://localhost": "u:p"})
        web.pages["/"] = Reply(200)

        report = await check({"url": web.address(), "basic_auth": True, "confirm": 3}, {"url": web.address()})

        assert report.targets[0].reason == (
            "the secret UPTIME_CHECK_BASIC_AUTH has nothing for this host; nothing was sent"
        )
        assert (report.targets[0].tries, report.up) == (0, 1)
        assert ["authorization" in request.headers for request in web.requests] == [False]

    async def test_a_redirect_to_another_host_does_not_get_it(
        self, check: Check, web: WebServer, with_secret: Callable[[dict[str, str]], None]
    ) -> None:
        with_secret({web.address(): "u:s3cret"})
        async with running_server() as other:
            other.pages["/"] = Reply(200)
            web.pages["/"] = Reply(302, headers={"location": other.address()})

            report = await check({"url": web.address(), "basic_auth": True})

        assert report.up == 1
        assert "authorization" in web.requests[0].headers
        assert "authorization" not in other.requests[0].headers

    @pytest.mark.parametrize("secret", ("s3cret", '"s3cret"', '{"x": "s3cret"}', '{"http://u@x": "s3:cret"}', "[1]"))
    async def test_a_secret_that_cannot_be_used_is_refused_without_showing_it(
        self, check: Check, monkeypatch: pytest.MonkeyPatch, secret: str
    ) -> None:
        monkeypatch.setenv("UPTIME_CHECK_BASIC_AUTH", secret)

        with pytest.raises(ConfigInvalid, match="UPTIME_CHECK_BASIC_AUTH") as refused:
            await check("example.org")

        assert "s3" not in str(refused.value)


UMLAUTS = "alles grün für 5 €"
JAPANESE = "すべて正常です"


class TestText:
    """Text is found in whatever charset the page declares."""

    @pytest.mark.parametrize(
        ("text", "body", "content_type"),
        (
            (UMLAUTS, UMLAUTS.encode(), "text/html"),
            (UMLAUTS, UMLAUTS.encode(), "text/html; charset=utf-8"),
            (UMLAUTS, UMLAUTS.encode("cp1252"), "text/html; charset=windows-1252"),
            # browsers read these as Windows-1252, and so do the pages that declare them
            (UMLAUTS, UMLAUTS.encode("cp1252"), "text/html; charset=ISO-8859-1"),
            (UMLAUTS, UMLAUTS.encode("cp1252"), 'text/html; charset="us-ascii"'),
            (UMLAUTS, UMLAUTS.encode("cp1252"), "text/html"),
            (UMLAUTS, UMLAUTS.encode("iso8859-15", "replace"), "text/html; charset=latin-9"),
            (UMLAUTS, UMLAUTS.encode("utf-16"), "text/html; charset=utf-16"),
            (UMLAUTS, codecs.BOM_UTF16_BE + UMLAUTS.encode("utf-16-be"), "text/html; charset=utf-8"),
            (UMLAUTS, UMLAUTS.encode("utf-16-le"), "text/html; charset=utf-16le"),
            (UMLAUTS, codecs.BOM_UTF8 + UMLAUTS.encode(), "text/html; charset=iso-8859-1"),
            (UMLAUTS, b'<html><meta charset="windows-1252">' + UMLAUTS.encode("cp1252"), "text/html"),
            (UMLAUTS, b"<meta charset=utf-8>" + UMLAUTS.encode("cp1252"), "text/html; charset=cp1252"),
            (
                UMLAUTS,
                b'<META http-equiv=Content-Type content="text/html; charset=koi8-r">'.replace(b"koi8-r", b"cp1252")
                + UMLAUTS.encode("cp1252"),
                "text/html",
            ),
            ("привет", b'<?xml version="1.0" encoding="koi8-r"?>' + "привет".encode("koi8-r"), "application/xml"),
            ("привет", "привет".encode("cp1251"), "text/html; charset=windows-1251"),
            (JAPANESE, JAPANESE.encode("shift_jis"), "text/html; charset=x-sjis"),
            (JAPANESE, JAPANESE.encode("euc_jp"), "text/html; charset=EUC-JP"),
            ("正常", JAPANESE.encode("iso2022_jp"), "text/html; charset=iso-2022-jp"),
            ("一切正常", "一切正常".encode("gbk"), "text/html; charset=gb2312"),
            ("모두 정상", "모두 정상".encode("euc_kr"), "text/html; charset=ks_c_5601-1987"),
            # no charsets of the web, two of them codecs of Python's: the page is what it looks like
            *(
                (UMLAUTS, UMLAUTS.encode(), f"text/html; charset={name}")
                for name in ("rot13", "punycode", "x-none", "")
            ),
            (UMLAUTS, UMLAUTS.encode() + "…".encode()[:1], "text/html"),
        ),
    )
    async def test_in_any_charset(
        self, check: Check, web: WebServer, text: str, body: bytes, content_type: str
    ) -> None:
        packed = {"content-encoding": "gzip", "content-type": content_type}
        web.pages |= {
            "/": Reply(200, body, {"content-type": content_type}),
            "/packed": Reply(200, gzip.compress(body), packed),
        }
        expected = text if "latin-9" not in content_type else "grün"

        report = await check(
            {"url": web.address(), "text": expected}, {"url": web.address("/packed"), "text": expected}
        )

        assert [target.reason for target in report.targets] == [None, None]

    @given(st.binary(max_size=300), st.none() | st.text(max_size=20))
    def test_any_bytes_are_some_text(self, body: bytes, declared: str | None) -> None:
        assert isinstance(page_text(body, declared), str)


async def test_a_gzip_bomb_is_unpacked_only_as_far_as_it_is_read(check: Check, web: WebServer) -> None:
    bomb = gzip.compress(bytes(60_000_000))
    web.pages["/"] = Reply(200, bomb, {"content-encoding": "gzip"})

    tracemalloc.start()
    report = await check({"url": web.address(), "text": "boom"})
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most_bytes < 20_000_000
    assert report.targets[0].reason == "the expected text is not in the first 1,048,576 bytes of the body"


async def test_targets_are_asked_at_once_but_no_more_than_ten(check: Check, web: WebServer) -> None:
    waiting = 0
    most = 0
    ten_are_waiting = asyncio.Event()

    async def meet(_request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        if waiting == 10:
            ten_are_waiting.set()
        await ten_are_waiting.wait()
        waiting -= 1
        writer.write(Reply(200).encoded())

    targets = [{"url": web.address(f"/{number}")} for number in range(25)]
    web.pages |= {f"/{number}": meet for number in range(25)}

    report = await check(*targets)

    assert report.up == 25
    assert most == 10
    assert [target.url for target in report.targets] == [target["url"] for target in targets]


def test_the_most_patient_payload_ends_before_the_function_does() -> None:
    rounds = -(-MAX_TARGETS // _web_client.CONCURRENCY)
    one_target = MAX_TRIES * MAX_TARGET_SECONDS + (MAX_TRIES - 1) * SECONDS_BETWEEN_TRIES
    webhook = _webhook.POST_RETRY.attempts * _webhook.POST_SECONDS + 2 + 4

    assert rounds * one_target + webhook < UptimeCheck.manifest.timeout_seconds


class TestChanges:
    """The changes since the last successful run."""

    async def test_what_went_down_what_stays_down_and_what_came_back(
        self, check: Check, web: WebServer, clock: ManualClock
    ) -> None:
        target = {"url": web.address()}
        seen = []

        for status in (200, 503, 503, 200, 200):
            web.pages["/"] = Reply(status)
            report = await check(target)
            seen.append((report.targets[0].change, report.went_down, report.came_back, report.targets[0].since))

        start = datetime(2025, 3, 1, 12, tzinfo=UTC)
        at = [start + timedelta(minutes=5 * number) for number in range(1, 6)]
        assert seen == [
            (None, [], [], at[0]),
            ("went_down", [target["url"]], [], at[1]),
            (None, [], [], at[1]),
            ("came_back", [], [target["url"]], at[3]),
            (None, [], [], at[3]),
        ]

    async def test_a_target_that_is_down_when_it_is_first_checked_went_down(self, check: Check, web: WebServer) -> None:
        report = await check({"url": web.address("/missing"), "name": "shop"})

        assert report.went_down == ["shop"]

    async def test_a_failed_run_in_between_is_not_compared_with(
        self, check: Check, web: WebServer, run_log: InMemoryRunLog, clock: ManualClock
    ) -> None:
        web.pages["/"] = Reply(200)
        await check({"url": web.address()})
        (before,) = run_log.runs.values()
        failed = before.model_copy(
            update={"id": "later", "status": RunStatus.FAILED, "result": None, "started_at": clock.now()}
        )
        await run_log.save_run(failed)
        web.pages["/"] = Reply(500)

        report = await check({"url": web.address()})

        assert report.went_down == [web.address()]

    async def test_runs_with_other_targets_do_not_make_it_forget(self, check: Check, web: WebServer) -> None:
        await check({"url": web.address("/down")})
        between = await check({"url": web.address("/other")})
        web.pages["/down"] = Reply(200)

        report = await check({"url": web.address("/down")})

        assert len(between.other_targets) == 1
        assert report.came_back == [web.address("/down")]

    async def test_targets_that_were_not_checked_for_a_month_are_forgotten(
        self, check: Check, web: WebServer, clock: ManualClock
    ) -> None:
        await check({"url": web.address("/old")})
        clock.advance(timedelta(days=31))

        report = await check({"url": web.address("/new")})

        assert report.other_targets == []

    async def test_another_expectation_of_the_same_address_is_another_target(
        self, check: Check, web: WebServer
    ) -> None:
        web.pages["/"] = Reply(200, b"hello")
        await check({"url": web.address()}, {"url": web.address(), "text": "hello"})
        web.pages["/"] = Reply(200, b"bye")

        report = await check({"url": web.address()}, {"url": web.address(), "text": "hello"})

        assert [target.change for target in report.targets] == [None, "went_down"]

    async def test_a_named_target_is_the_same_at_another_address(self, check: Check, web: WebServer) -> None:
        web.pages["/"] = Reply(200)
        web.pages["/moved"] = Reply(200)
        await check({"name": "shop", "url": web.address()})

        report = await check({"name": "shop", "url": web.address("/moved")})

        assert report.other_targets == []

    async def test_two_targets_of_one_name_are_refused(self, check: Check, web: WebServer) -> None:
        with pytest.raises(PayloadInvalid, match="names of targets must differ: shop is used twice"):
            await check({"name": "shop", "url": web.address()}, {"name": "shop", "url": web.address("/2")})

    async def test_with_more_patience_it_is_still_the_same_target(self, check: Check, web: WebServer) -> None:
        await check({"url": web.address()})

        report = await check({"url": web.address(), "timeout_seconds": 5})

        assert not report.targets[0].up
        assert report.went_down == []

    @pytest.mark.parametrize("result", (None, [], {"targets": "none"}, {"targets": [{"url": "x"}]}, "text"))
    async def test_a_result_of_another_shape_is_as_good_as_none(
        self, check: Check, web: WebServer, run_log: InMemoryRunLog, result: Any
    ) -> None:
        old = WorkflowRun(
            id="old",
            workflow_id="uptime_check",
            status=RunStatus.SUCCESS,
            trigger_type=TriggerType.SCHEDULE,
            started_at=datetime(2025, 1, 1, tzinfo=UTC),
            result=result,
        )
        await run_log.save_run(old)
        web.pages["/"] = Reply(200)

        with structlog.testing.capture_logs() as lines:
            report = await check({"url": web.address()})

        assert report.up == 1
        assert [line["last_run_id"] for line in lines if line["event"] == "last_result_unreadable"] == ["old"]

    async def test_without_a_run_log_the_check_goes_on_and_says_that_it_cannot_compare(
        self, check: Check, web: WebServer, run_log: InMemoryRunLog
    ) -> None:
        web.pages["/"] = Reply(200)
        run_log.is_away = True

        with structlog.testing.capture_logs() as lines:
            report = await check({"url": web.address()})

        assert report.up == 1
        assert "last_check_unknown" in {line["event"] for line in lines}


class TestCertificates:
    """TLS, with certificates of an authority made for the test."""

    async def test_the_days_left_are_counted_and_too_few_are_reported(
        self, check: Check, trusted_authority: trustme.CA, clock: ManualClock
    ) -> None:
        ends = (datetime.now(UTC) + timedelta(days=20)).replace(microsecond=0)
        certificate = trusted_authority.issue_cert("localhost", not_after=ends)
        clock.advance(ends - timedelta(days=9, hours=5) - clock.now())
        async with running_server(server_context(certificate)) as web:
            web.pages["/"] = Reply(200)
            target = {"url": web.address(host="localhost"), "name": "shop"}

            report = await check(target)
            relaxed = await check(target, certificate_warning_days=9)

        assert report.targets[0].reason is None
        assert report.targets[0].certificate_days_left == 9
        assert report.expiring == ["shop"]
        assert relaxed.expiring == []

    async def test_behind_a_redirect_the_certificate_that_ends_first_counts(
        self, check: Check, trusted_authority: trustme.CA, clock: ManualClock
    ) -> None:
        now = datetime.now(UTC)
        clock.advance(now - clock.now())
        soon = trusted_authority.issue_cert("localhost", not_after=now + timedelta(days=3, hours=1))
        late = trusted_authority.issue_cert("localhost", not_after=now + timedelta(days=300))
        async with running_server(server_context(soon)) as first, running_server(server_context(late)) as second:
            first.pages["/"] = Reply(302, headers={"location": second.address(host="localhost")})
            second.pages["/"] = Reply(200)

            report = await check({"url": first.address(host="localhost")})

        assert report.targets[0].certificate_days_left == 3

    async def test_an_expired_certificate_is_down(
        self, check: Check, trusted_authority: trustme.CA, clock: ManualClock
    ) -> None:
        clock.jump(datetime.now(UTC))
        past = datetime.now(UTC) - timedelta(days=1)
        certificate = trusted_authority.issue_cert("localhost", not_before=past - timedelta(days=9), not_after=past)

        report = await self._check_one(check, server_context(certificate))

        assert report.targets[0].reason == "its TLS certificate is not valid: certificate has expired"
        assert report.targets[0].certificate_days_left == -2, "whole days, rounded down: it was a day and a moment ago"
        assert report.expiring == report.began_expiring == report.went_down

    async def test_an_untrusted_certificate_is_down(self, check: Check, authority: trustme.CA) -> None:
        report = await self._check_one(check, server_context(authority.issue_cert("localhost")))

        reason = report.targets[0].reason
        assert reason is not None
        assert reason.startswith("its TLS certificate is not valid: ")
        assert "certificate" in reason.removeprefix("its TLS certificate is not valid: ")

    async def test_a_certificate_of_another_host_is_down(self, check: Check, trusted_authority: trustme.CA) -> None:
        report = await self._check_one(check, server_context(trusted_authority.issue_cert("other.example")))

        assert report.targets[0].reason == (
            "its TLS certificate is not valid: Hostname mismatch, certificate is not valid for 'localhost'."
        )

    async def test_a_server_that_does_not_speak_tls_is_down(self, check: Check) -> None:
        async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.example ESMTP\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            report = await check({"url": f"https://127.0.0.1:{port}/"})

        assert report.targets[0].reason is not None
        assert report.targets[0].reason.startswith("the TLS handshake failed: ")

    async def _check_one(self, check: Check, tls: ssl.SSLContext, **target: Any) -> UptimeReport:
        async with running_server(tls) as web:
            web.pages["/"] = Reply(200)
            return await check({"url": web.address(host="localhost")} | target)

    async def test_with_verify_tls_off_any_certificate_is_up_and_its_days_count_all_the_same(
        self, check: Check, authority: trustme.CA, clock: ManualClock
    ) -> None:
        now = datetime.now(UTC)
        clock.jump(now)
        past = now - timedelta(days=3)
        certificates = {
            "untrusted": authority.issue_cert("localhost", not_after=now + timedelta(days=40, hours=1)),
            "of another host": authority.issue_cert("other.example", not_after=now + timedelta(days=50, hours=1)),
            "expired": authority.issue_cert("localhost", not_before=past - timedelta(days=9), not_after=past),
        }

        found = {}
        for name, certificate in certificates.items():
            report = await self._check_one(check, server_context(certificate), verify_tls=False)
            found[name] = (report.targets[0].reason, report.targets[0].certificate_days_left, len(report.expiring))

        assert found == {"untrusted": (None, 40, 0), "of another host": (None, 50, 0), "expired": (None, -4, 1)}

    async def test_a_certificate_that_is_refused_for_another_reason_shows_its_days_too(
        self, check: Check, authority: trustme.CA, trusted_authority: trustme.CA, clock: ManualClock
    ) -> None:
        now = datetime.now(UTC)
        clock.jump(now)
        other = trustme.CA().issue_cert("localhost", not_after=now + timedelta(days=5, hours=1))

        report = await self._check_one(check, server_context(other))

        target = report.targets[0]
        assert (target.up, target.certificate_days_left, len(report.expiring)) == (False, 5, 1)

    async def test_an_authority_that_has_expired_is_told_from_a_certificate_that_has(
        self, check: Check, trusted_authority: trustme.CA, clock: ManualClock
    ) -> None:
        # To OpenSSL both are "certificate has expired"; this clock tells them apart.
        now = datetime.now(UTC)
        past = now - timedelta(days=1)
        certificate = trusted_authority.issue_cert("localhost", not_before=past - timedelta(days=9), not_after=past)
        clock.jump(past - timedelta(days=3))

        report = await self._check_one(check, server_context(certificate))

        assert report.targets[0].reason == (
            "its TLS certificate is not valid: the certificate of an authority that issued it has expired"
        )

    async def test_a_host_that_is_down_keeps_its_expiring_certificate(
        self, check: Check, trusted_authority: trustme.CA, clock: ManualClock
    ) -> None:
        now = datetime.now(UTC)
        clock.jump(now)
        certificate = trusted_authority.issue_cert("localhost", not_after=now + timedelta(days=5))
        async with running_server(server_context(certificate)) as web:
            web.pages["/"] = Reply(200)
            target = {"url": web.address(host="localhost"), "name": "shop"}
            first = await check(target)
            again = await check(target)
        gone = await check(target)
        async with running_server(server_context(certificate)) as web:
            web.pages["/"] = Reply(200)
            back = await check(target | {"url": web.address(host="localhost")})

        assert [report.expiring for report in (first, again, gone, back)] == [["shop"]] * 4
        assert [report.began_expiring for report in (first, again, gone, back)] == [["shop"], [], [], []]
        assert gone.targets[0].certificate_days_left is None


class TestWebhook:
    """What changed is posted, and what could not be is posted by the next run."""

    @pytest.fixture
    def posted(self, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
        """A webhook, and the texts that it was sent."""
        web.pages["/hook/s3cret"] = Reply(200)
        monkeypatch.setenv("UPTIME_CHECK_WEBHOOK_URL", web.address("/hook/s3cret"))
        return lambda: [json.loads(request.body)["text"] for request in web.asked("/hook/s3cret")]

    async def test_only_what_changed_is_posted(
        self, check: Check, web: WebServer, posted: Callable[[], list[str]]
    ) -> None:
        targets = {"url": web.address("/a"), "name": "shop"}, {"url": web.address("/b?token=s3cret")}
        reports = []
        for a, b in ((200, 200), (503, 200), (503, 200), (200, 404), (200, 404), (200, 200)):
            web.pages |= {"/a": Reply(a), "/b?token=s3cret": Reply(b)}
            reports.append(await check(*targets))

        host = f"127.0.0.1:{web.port}"
        assert posted() == [
            "Uptime check: 1 of 2 up\nshop: down: answered 503, not 2xx",
            f"Uptime check: 1 of 2 up\nshop: up again\n{host}/b: down: answered 404, not 2xx",
            f"Uptime check: 2 of 2 up\n{host}/b: up again",
        ]
        assert [report.posted for report in reports] == [False, True, False, True, False, True]
        assert not any(report.not_posted for report in reports)

    async def test_a_webhook_that_fails_does_not_fail_the_check_and_gets_the_news_from_the_next_run(
        self, check: Check, web: WebServer, posted: Callable[[], list[str]]
    ) -> None:
        web.pages |= {"/a": Reply(503), "/hook/s3cret": Reply(500)}
        target = {"url": web.address("/a"), "name": "shop"}
        with structlog.testing.capture_logs() as lines:
            failed = await check(target)
            failed_again = await check(target)
        web.pages["/hook/s3cret"] = Reply(200)
        told = await check(target)
        quiet = await check(target)

        assert [report.not_posted for report in (failed, failed_again)] == ["answered 500, not 2xx"] * 2
        assert (told.posted, told.went_down, quiet.posted) == (True, [], False)
        assert posted()[-1] == "Uptime check: 0 of 1 up\nshop: down: answered 503, not 2xx"
        assert len({*posted()}) == 1
        assert "changes_not_posted" in {line["event"] for line in lines}
        assert "s3cret" not in f"{lines!r}{failed!r}"

    async def test_an_outage_that_nobody_heard_of_and_that_is_over_is_not_posted(
        self, check: Check, web: WebServer, posted: Callable[[], list[str]]
    ) -> None:
        web.pages |= {"/a": Reply(503), "/hook/s3cret": Reply(500)}
        await check({"url": web.address("/a")})
        web.pages |= {"/a": Reply(200), "/hook/s3cret": Reply(200)}

        report = await check({"url": web.address("/a")})

        assert report.came_back == [web.address("/a")]
        assert not report.posted
        assert len(posted()) == 1, "the one that failed"

    async def test_a_webhook_that_is_set_later_hears_of_changes_from_then_on(
        self, check: Check, web: WebServer, posted: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("UPTIME_CHECK_WEBHOOK_URL")
        await check({"url": web.address("/a")})
        monkeypatch.setenv("UPTIME_CHECK_WEBHOOK_URL", web.address("/hook/s3cret"))

        await check({"url": web.address("/a")})

        assert posted() == []

    async def test_a_certificate_that_begins_to_expire_is_posted_once(
        self, check: Check, posted: Callable[[], list[str]], trusted_authority: trustme.CA, clock: ManualClock
    ) -> None:
        now = datetime.now(UTC)
        certificate = trusted_authority.issue_cert("localhost", not_after=now + timedelta(days=5))
        clock.jump(now)
        async with running_server(server_context(certificate)) as shop:
            shop.pages["/"] = Reply(200)
            for _ in range(2):
                await check({"url": shop.address(host="localhost"), "name": "shop"})

        assert posted() == ["Uptime check: 1 of 1 up\nshop: its TLS certificate expires in 4 days"]

    async def test_names_cannot_mention_anybody(
        self, check: Check, web: WebServer, posted: Callable[[], list[str]]
    ) -> None:
        await check({"url": web.address("/a"), "name": "@here <!channel> <users/all> <https://evil.example|shop>"})

        (text,) = posted()
        assert not any(mention in text for mention in ("@here", "<!channel>", "<users/all>", "<https:"))

    async def test_a_post_has_as_many_lines_as_discord_takes_and_says_how_many_there_are_more(
        self, check: Check, web: WebServer, posted: Callable[[], list[str]]
    ) -> None:
        long = f"/{'a' * 1900}"
        await check(*(web.address(f"{long}{number}") for number in range(50)))
        await check({"url": web.address(f"{long}?token=s3cret"), "confirm": 1})

        many, one = posted()
        heading, *lines, last = many.split("\n")
        assert heading == "Uptime check: 0 of 50 up"
        assert last == f"{50 - len(lines)} more: see the run"
        assert 1800 < len(many) <= 2000
        assert one.count("\n") == 1
        assert one.endswith("aaa…: down: answered 404, not 2xx")

    def test_a_certificate_that_expires_today_has_no_zero_days(self) -> None:
        target = Target.model_validate({"url": "https://shop.example", "name": "shop"})
        seen = Observation(reason=None, status_code=200, latency_ms=1, certificate_days_left=0)
        compared = compare(target, seen, None, started_at=datetime.now(UTC), warning_days=14)

        assert announcement([compared]) == "Uptime check: 1 of 1 up\nshop: its TLS certificate expires within a day"


class TestLog:
    """The log events for the people on call."""

    async def test_every_check_of_a_target_that_is_down_is_a_warning_and_its_recovery_is_logged(
        self, check: Check, web: WebServer
    ) -> None:
        target = {"url": web.address("/path?token=s3cret"), "name": "very private"}
        with structlog.testing.capture_logs() as lines:
            await check(target)
            await check(target)
            web.pages["/path?token=s3cret"] = Reply(200)
            await check(target)

        findings = [line for line in lines if line["event"] in {"target_down", "target_recovered"}]
        assert [(line["event"], line["log_level"], line.get("change")) for line in findings] == [
            ("target_down", "warning", "went_down"),
            ("target_down", "warning", None),
            ("target_recovered", "info", None),
        ]
        assert {line["host"] for line in findings} == {f"127.0.0.1:{web.port}"}
        assert findings[0]["reason"] == "answered 404, not 2xx"
        assert not any(word in repr(lines) for word in ("s3cret", "/path", "very private"))


class TestPayload:
    """Payloads that are refused before a run exists."""

    @pytest.mark.parametrize(
        ("payload", "field"),
        (
            ({}, ("targets",)),
            ({"targets": []}, ("targets",)),
            ({"targets": [{"url": "https://example.com"}] * 51}, ("targets",)),
            ({"targets": [{"url": "https://example.com", "colour": "red"}]}, ("targets", 0, "colour")),
            ({"targets": ["https://user:s3cret@example.com"]}, ("targets", 0, "url")),
            ({"targets": [7]}, ("targets", 0)),
            ({"targets": [{"url": "https://example.com", "confirm": 0}]}, ("targets", 0, "confirm")),
            ({"targets": [{"url": "https://example.com", "confirm": 6}]}, ("targets", 0, "confirm")),
            *(
                ({"targets": [{"url": "https://example.com", "status": status}]}, ("targets", 0, "status"))
                for status in NO_STATUSES
            ),
            *(
                ({"targets": [{"url": "https://example.com", "headers": headers}]}, ("targets", 0, "headers"))
                for headers in (
                    {"Authorization": "Bearer s3cret"},
                    {"Content-Length": "1"},
                    {"X-A": "1\r\nX-B: 2"},
                    {"X A": "1"},
                    {"": "1"},
                    {"X-A": "ü"},
                    {"X-A": " 1"},
                    {"X-A": "1" * 1001},
                    {"X-A": "1", "x-a": "2"},
                    {f"X-{number}": "" for number in range(21)},
                )
            ),
            ({"targets": [{"url": "https://example.com", "timeout_seconds": 31}]}, ("targets", 0, "timeout_seconds")),
            ({"targets": [{"url": "https://example.com", "timeout_seconds": 0}]}, ("targets", 0, "timeout_seconds")),
            ({"targets": [{"url": "https://example.com", "status": 99}]}, ("targets", 0, "status")),
            ({"targets": [{"url": "https://example.com", "method": "DELETE"}]}, ("targets", 0, "method")),
            ({"targets": [{"url": "https://example.com", "text": ""}]}, ("targets", 0, "text")),
            ({"targets": [{"url": "https://example.com", "text": "x", "method": "HEAD"}]}, ("targets", 0)),
            ({"targets": [{"url": "https://example.com"}], "certificate_warning_days": -1}, None),
        ),
    )
    async def test_a_payload_out_of_bounds_names_its_field(
        self, run_log: InMemoryRunLog, payload: dict[str, Any], field: tuple[Any, ...] | None
    ) -> None:
        with pytest.raises(PayloadInvalid) as refused:
            await UptimeCheck(run_log=run_log).run(TriggerType.HTTP, payload)

        assert tuple(refused.value.details[0]["loc"]) == (field or ("certificate_warning_days",))
        assert run_log.runs == {}

    @pytest.mark.parametrize(
        "url",
        (
            "",
            "ftp://example.com",
            "//example.com",
            "mailto:s3cret@example.com",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "https://",
            "https:///path",
            "https://user:s3cret@example.com",
            "https://s3cret@example.com",
            "http://169.254.169.254/s3cret",
            "http://169.254.169.254./",
            "http://[::ffff:169.254.169.254]/",
            "http://[fd20:ce::254]/",
            "http://[fe80::1]/",
            "http://metadata.google.internal/computeMetadata/v1/",
            "http://METADATA.google.internal./",
            "http://metadata/",
            "https://exa mple.com",
            "https://a..b",
            "https://xn--/",
            f"https://{'a' * 64}.example",
            "https://example.com:0",
            "https://example.com:65536",
            "https://example.com/\x00",
            "https://example.com/" + "a" * 2048,
        ),
    )
    def test_an_address_that_may_not_be_asked_is_refused_without_repeating_it(self, url: str) -> None:
        with pytest.raises(ValidationError) as refused:
            UptimeCheckInput.model_validate({"targets": [{"url": url}]})

        assert "s3cret" not in json.dumps(refused.value.errors(include_input=False, include_context=False))

    @given(st.text() | st.builds("http://{}/".format, st.text()))
    @example("http://xn--/")
    @example("http://xn--zzzzzzzz99999999/")
    def test_any_text_is_an_address_or_refused_as_one(self, url: str) -> None:
        reason = None
        try:
            checked_address(url)
        except ValueError as refused:
            reason = str(refused)

        if reason is None:
            assert host_of(url)
        else:
            assert reason.startswith(("is ", "must "))

    def test_the_schedule_has_a_payload_that_fits(self) -> None:
        for schedule in UptimeCheck.manifest.schedules:
            UptimeCheckInput.model_validate(schedule.payload)


def test_the_largest_report_fits_into_a_run() -> None:
    now = datetime(2025, 3, 1, tzinfo=UTC)
    name = "\N{GRINNING FACE}" * 200
    target = TargetReport(
        key="0" * 16,
        up=False,
        since=now,
        checked_at=now,
        name=name,
        url="https://example.com/" + "a" * 2028,
        change="went_down",
        reason="x" * 300,
        status_code=503,
        latency_ms=30_000,
        certificate_days_left=365,
    )
    other = KnownTarget(key="0" * 16, up=False, since=now, checked_at=now)
    report = UptimeReport(
        summary=5 * (name + target.url),
        up=0,
        down=MAX_TARGETS,
        went_down=[name] * MAX_TARGETS,
        came_back=[],
        expiring=[name] * MAX_TARGETS,
        targets=[target] * MAX_TARGETS,
        other_targets=[other] * MAX_OTHER_TARGETS,
    )

    assert len(json_text(report.model_dump(mode="json")).encode()) < RESULT_LIMIT
