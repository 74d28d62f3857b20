import asyncio
import gzip
import json
import socket
import ssl
import struct
import tracemalloc
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
import trustme
from hypothesis import given, strategies as st
from pydantic import ValidationError

from autopilot import PayloadInvalid, RunStatus, TriggerType, WorkflowRun
from autopilot.core.runs.limits import RESULT_LIMIT, json_text
from autopilot.testing import ManualClock
from functions import _web_client
from functions._web_address import checked_address, host_of
from functions.uptime_check import (
    MAX_OTHER_TARGETS,
    MAX_TARGET_SECONDS,
    MAX_TARGETS,
    KnownTarget,
    TargetReport,
    UptimeCheck,
    UptimeCheckInput,
    UptimeReport,
)
from tests.equipment import equipped
from tests.fakes import InMemoryRunLog
from tests.functions.conftest import server_context
from tests.functions.network import LocalNetwork
from tests.functions.web_server import Reply, Request, WebServer, running_server

Check = Callable[..., Awaitable[UptimeReport]]


@pytest.fixture
def check(run_log: InMemoryRunLog, clock: ManualClock, network: LocalNetwork) -> Check:
    """Runs the workflow as a cold instance would, five minutes after the run before."""

    async def run(*targets: dict[str, Any], **payload: Any) -> UptimeReport:
        workflow = equipped(UptimeCheck(network=network.as_network), run_log=run_log, clock=clock)
        clock.advance(timedelta(minutes=5))
        ended = await workflow.run(TriggerType.MANUAL, {"targets": list(targets), **payload})
        assert ended.status is RunStatus.SUCCESS, ended.error
        return UptimeReport.model_validate(ended.result)

    return run


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
    ),
)
async def test_what_makes_a_target_up_or_down(
    check: Check, web: WebServer, target: dict[str, Any], reason: str | None
) -> None:
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
        "no host": "the host name cannot be resolved",
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

    assert rounds * MAX_TARGET_SECONDS < UptimeCheck.manifest.timeout_seconds


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

    async def _check_one(self, check: Check, tls: ssl.SSLContext) -> UptimeReport:
        async with running_server(tls) as web:
            return await check({"url": web.address(host="localhost")})


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
            ({"targets": [{"url": "https://example.com", "headers": {}}]}, ("targets", 0, "headers")),
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
            "example.com",
            "ftp://example.com",
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
