"""Which hosts a function may be made to reach: judged by the address that is connected to."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from ipaddress import ip_address
from typing import Any

import pytest
import trustme

from autopilot import RunStatus, TriggerType
from autopilot.testing import ManualClock
from functions._ip_addresses import Reach, reach_of
from functions._network import NEXT_ADDRESS_AFTER, SYSTEM_NETWORK
from functions._web_client import Exchange, FetchFailed, FetchRefused, WebClient, read_body
from functions.feed_digest import FeedDigest
from functions.uptime_check import UptimeCheck
from tests.equipment import equipped
from tests.fakes import InMemoryRunLog
from tests.functions.conftest import server_context
from tests.functions.network import LocalNetwork
from tests.functions.web_server import Reply, WebServer, running_server

PUBLIC = "93.184.216.34"
OTHER_PUBLIC = "2606:2800:220:1::1"
PRIVATE = "10.1.2.3"
METADATA = "169.254.169.254"


@pytest.fixture
async def web(network: LocalNetwork) -> AsyncIterator[WebServer]:
    """A server that plays every address of these tests."""
    async with running_server() as server:
        network.homes = dict.fromkeys((PUBLIC, OTHER_PUBLIC, PRIVATE, METADATA), "127.0.0.1")
        server.pages["/"] = Reply(200, b"hello")
        yield server


def client(network: LocalNetwork, clock: ManualClock, *, allow_private_hosts: bool = True) -> WebClient:
    return WebClient("test", clock=clock, allow_private_hosts=allow_private_hosts, network=network.as_network)


async def fetch(web_client: WebClient, address: str, **options: Any) -> bytes:
    async with web_client.request("GET", address, seconds=10, **options) as response:
        return (await read_body(response, 1000))[0]


@pytest.mark.parametrize(
    ("address", "reach"),
    (
        ("8.8.8.8", Reach.PUBLIC),
        ("2606:4700::1111", Reach.PUBLIC),
        # what is not routed in public: RFC 1918, loopback, shared (RFC 6598), benchmarks, documentation, unique local
        *(
            (address, Reach.PRIVATE)
            for address in (
                "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "127.0.0.1", "127.255.255.254",
                "100.64.0.1", "100.127.255.255", "198.18.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1",
                "::1", "fc00::1", "fd12:3456::1", "fec0::1", "2001:db8::1", "3fff::1",
            )
        ),
        # link-local, this network, multicast, reserved, broadcast
        *(
            (address, Reach.FORBIDDEN)
            for address in (
                "169.254.169.254", "169.254.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.250", "240.0.0.1",
                "255.255.255.255", "::", "fe80::1", "febf::1", "fe80::1%eth0", "ff02::1", "ff0e::1", "4000::1", "5f00::1",
            )
        ),
        # metadata servers that are not link-local
        *(
            (address, Reach.FORBIDDEN)
            for address in ("fd20:ce::254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
        ),
        # 169.254.169.254, 127.0.0.1, 10.0.0.1 and 8.8.8.8 inside IPv6: mapped, translated, compatible, NAT64, 6to4
        *(
            (f"{prefix}{carried}{suffix}", reach)
            for prefix, suffix in (("::ffff:", ""), ("::ffff:0:", ""), ("::", ""), ("64:ff9b::", ""), ("2002:", "::1"))
            for carried, reach in (
                ("a9fe:a9fe", Reach.FORBIDDEN),
                ("7f00:1", Reach.PRIVATE),
                ("a00:1", Reach.PRIVATE),
                ("808:808", Reach.PUBLIC),
            )
        ),
        # the prefix for a network's own NAT64 (RFC 8215): what it carries depends on that network
        ("64:ff9b:1::a9fe:a9fe", Reach.FORBIDDEN),
        # Teredo: the client's address is inverted; the server's is not
        ("2001:0:808:808::5601:5601", Reach.FORBIDDEN),
        ("2001:0:a9fe:a9fe::f7f7:f7f7", Reach.FORBIDDEN),
        ("2001:0:808:808::f7f7:f7f7", Reach.PUBLIC),
        # ISATAP
        ("2606:4700::5efe:a9fe:a9fe", Reach.FORBIDDEN),
        ("2606:4700::200:5efe:a00:1", Reach.PRIVATE),
    ),
)  # fmt: skip
def test_the_reach_of_an_address(address: str, reach: Reach) -> None:
    assert reach_of(ip_address(address)) is reach


@pytest.mark.parametrize("allow_private_hosts", (True, False))
@pytest.mark.parametrize("address", (METADATA, "fe80::1", "0.0.0.0", "64:ff9b::a9fe:a9fe", "::ffff:169.254.169.254"))
async def test_a_name_that_leads_to_a_forbidden_address_is_never_connected_to(
    network: LocalNetwork, clock: ManualClock, web: WebServer, address: str, *, allow_private_hosts: bool
) -> None:
    network.names["metadata.example"] = [[address]]

    with pytest.raises(FetchRefused, match="link-local or reserved; nothing was sent"):
        await fetch(
            client(network, clock, allow_private_hosts=allow_private_hosts), web.address(host="metadata.example")
        )

    assert network.connected == []
    assert web.requests == []


@pytest.mark.parametrize("host", ("2852039166", "0xa9fea9fe", "169.254.43518"))
async def test_an_address_in_another_notation_is_still_that_address(
    network: LocalNetwork, clock: ManualClock, host: str
) -> None:
    with pytest.raises(FetchRefused, match="link-local"):
        await fetch(client(network, clock), f"http://{host}/")

    assert network.connected == []


async def test_private_hosts_are_requested_if_they_are_allowed_and_else_not_connected_to(
    network: LocalNetwork, clock: ManualClock, web: WebServer
) -> None:
    network.names["inside.example"] = [[PRIVATE]]

    for host in ("inside.example", "localhost", "127.0.0.1"):
        assert await fetch(client(network, clock), web.address(host=host)) == b"hello"

    connected = len(network.connected)
    for host in ("inside.example", "localhost", "127.0.0.1"):
        with pytest.raises(FetchRefused, match="its address is private, and allow_private_hosts is off"):
            await fetch(client(network, clock, allow_private_hosts=False), web.address(host=host))
    assert len(network.connected) == connected


async def test_the_connection_is_made_to_the_address_that_was_judged_and_the_host_header_is_the_name(
    network: LocalNetwork, clock: ManualClock, web: WebServer
) -> None:
    network.names["shop.example"] = [[PUBLIC], [METADATA]]

    assert await fetch(client(network, clock, allow_private_hosts=False), web.address(host="shop.example")) == b"hello"

    assert network.asked == ["shop.example"], "once: a second answer could be another"
    assert network.connected == [PUBLIC]
    assert web.requests[0].headers["host"] == f"shop.example:{web.port}"


@pytest.mark.parametrize(
    ("answer", "reason"),
    (
        ([PUBLIC, PRIVATE], "its host name has public and private addresses; nothing was sent"),
        ([PRIVATE, OTHER_PUBLIC], "its host name has public and private addresses; nothing was sent"),
        ([PUBLIC, METADATA], "its address is link-local or reserved; nothing was sent"),
        ([PRIVATE, METADATA], "its address is link-local or reserved; nothing was sent"),
    ),
)
async def test_an_answer_that_mixes_public_and_other_addresses_is_refused_as_a_whole(
    network: LocalNetwork, clock: ManualClock, web: WebServer, answer: list[str], reason: str
) -> None:
    network.names["mixed.example"] = [answer]

    with pytest.raises(FetchRefused, match=reason):
        await fetch(client(network, clock), web.address(host="mixed.example"))

    assert network.connected == []


async def test_a_name_that_was_public_may_not_become_private(
    network: LocalNetwork, clock: ManualClock, web: WebServer
) -> None:
    network.names["rebound.example"] = [[PUBLIC], [PRIVATE]]
    web_client = client(network, clock)

    await fetch(web_client, web.address(host="rebound.example"))
    with pytest.raises(FetchRefused, match="led to a public address and now to a private one"):
        await fetch(web_client, web.address(host="rebound.example"))

    assert network.connected == [PUBLIC]


@pytest.mark.parametrize(
    ("hosts", "reached", "reason"),
    (
        (
            ("a.public", "b.private"),
            1,
            "after a redirect, its address is private, and the one before was public; nothing was sent",
        ),
        (
            ("a.public", "127.0.0.1"),
            1,
            "after a redirect, its address is private, and the one before was public; nothing was sent",
        ),
        (
            ("a.private", "b.public", "a.private"),
            2,
            "after a redirect, its address is private, and the one before was public",
        ),
        (("a.private", "c.metadata"), 1, "after a redirect, its address is link-local or reserved; nothing was sent"),
        (("a.public", "c.metadata"), 1, "after a redirect, its address is link-local or reserved; nothing was sent"),
        (("a.private", "b.private"), 2, None),
        (("a.private", "b.public"), 2, None),
        (("a.public", "b.public"), 2, None),
    ),
)
async def test_a_redirect_never_leads_from_a_public_to_a_private_host(
    network: LocalNetwork,
    clock: ManualClock,
    web: WebServer,
    *,
    hosts: tuple[str, ...],
    reached: int,
    reason: str | None,
) -> None:
    addresses = {"public": PUBLIC, "private": PRIVATE, "metadata": METADATA}
    for host in hosts:
        if host != "127.0.0.1":
            network.names[host] = [[addresses[host.partition(".")[2]]]]
    stages = [f"/{number}" for number in range(len(hosts))]
    for stage, following, host in zip(stages, stages[1:], hosts[1:], strict=False):
        web.pages[stage] = Reply(302, headers={"location": web.address(following, host=host)})
    web.pages[stages[-1]] = Reply(200, b"the end")
    request = fetch(client(network, clock), web.address("/0", host=hosts[0]))

    if reason is None:
        assert await request == b"the end"
    else:
        with pytest.raises(FetchRefused, match=reason):
            await request

    assert len(web.requests) == reached


@pytest.mark.parametrize(
    ("in_cloud", "setting", "is_up"),
    ((False, None, True), (True, None, False), (True, "true", True), (False, "false", False)),
)
async def test_in_the_cloud_private_hosts_need_the_workflows_setting(
    network: LocalNetwork,
    clock: ManualClock,
    run_log: InMemoryRunLog,
    monkeypatch: pytest.MonkeyPatch,
    *,
    in_cloud: bool,
    setting: str | None,
    is_up: bool,
) -> None:
    if in_cloud:
        monkeypatch.setenv("K_SERVICE", "uptime-check")
    for workflow in ("UPTIME_CHECK", "FEED_DIGEST"):
        if setting is not None:
            monkeypatch.setenv(f"{workflow}_ALLOW_PRIVATE_HOSTS", setting)
    network.refusing = {"127.0.0.1"}
    allowed = "the connection was refused"
    refused = "its address is private, and allow_private_hosts is off; nothing was sent"

    check = await equipped(UptimeCheck(network=network.as_network), run_log=run_log, clock=clock).run(
        TriggerType.MANUAL, {"targets": [{"url": "http://127.0.0.1/"}]}
    )
    digest = await equipped(FeedDigest(network=network.as_network), run_log=run_log, clock=clock).run(
        TriggerType.MANUAL, {"feeds": ["http://127.0.0.1/"]}
    )

    assert check.status is digest.status is RunStatus.SUCCESS
    assert check.result["targets"][0]["reason"] == (allowed if is_up else refused)
    assert digest.result["feeds"][0]["error"] == (allowed if is_up else refused)


async def test_proxies_of_the_environment_are_not_used(
    network: LocalNetwork, clock: ManualClock, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")

    assert await fetch(client(network, clock), web.address()) == b"hello"


async def test_a_name_server_that_hangs_keeps_no_other_name_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    look_up = socket.getaddrinfo

    def hang(host: str, *args: Any, **kwargs: Any) -> Any:
        if host == "hangs.example":
            answers.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    hanging = [asyncio.ensure_future(SYSTEM_NETWORK.resolve("hangs.example", 80)) for _ in range(64)]

    assert ip_address("127.0.0.1") in await SYSTEM_NETWORK.resolve("127.0.0.1", 80)

    hanging.pop().cancel()
    answers.set()
    assert {type(failure) for failure in await asyncio.gather(*hanging, return_exceptions=True)} == {socket.gaierror}


class TestSeveralAddresses:
    """A name with several addresses, of which some do not answer."""

    async def test_the_next_address_is_tried_if_one_refuses(
        self, network: LocalNetwork, clock: ManualClock, web: WebServer
    ) -> None:
        network.names["two.example"] = [[OTHER_PUBLIC, PUBLIC]]
        network.refusing = {OTHER_PUBLIC}

        assert await fetch(client(network, clock), web.address(host="two.example")) == b"hello"

        assert network.connected == [OTHER_PUBLIC, PUBLIC]

    async def test_the_next_address_of_the_other_family_is_tried_beside_one_that_hangs(
        self, network: LocalNetwork, clock: ManualClock, web: WebServer
    ) -> None:
        network.names["three.example"] = [[OTHER_PUBLIC, "2606:2800:220:1::2", PUBLIC]]
        network.dead = {OTHER_PUBLIC, "2606:2800:220:1::2"}
        request = asyncio.create_task(fetch(client(network, clock), web.address(host="three.example")))
        await network.has_connected.wait()

        clock.advance(timedelta(seconds=NEXT_ADDRESS_AFTER))

        assert await request == b"hello"
        assert network.connected == [OTHER_PUBLIC, PUBLIC]

    async def test_if_none_answers_the_last_failure_is_the_reason(
        self, network: LocalNetwork, clock: ManualClock, web: WebServer
    ) -> None:
        network.names["gone.example"] = [[PUBLIC, OTHER_PUBLIC]]
        network.refusing = {PUBLIC, OTHER_PUBLIC}

        with pytest.raises(FetchFailed, match=r"^the connection was refused$"):
            await fetch(client(network, clock), web.address(host="gone.example"))

    async def test_a_name_without_addresses_cannot_be_resolved(
        self, network: LocalNetwork, clock: ManualClock, web: WebServer
    ) -> None:
        network.names["none.example"] = [[]]

        with pytest.raises(FetchFailed, match=r"^the host name cannot be resolved$"):
            await fetch(client(network, clock), web.address(host="none.example"))


class TestRedirects:
    """What a redirect carries on."""

    async def test_a_header_that_may_be_a_secret_stays_with_the_first_host(
        self, network: LocalNetwork, clock: ManualClock, web: WebServer
    ) -> None:
        network.names |= {"first.example": [[PUBLIC]], "second.example": [[PUBLIC]]}
        web.pages |= {
            "/a": Reply(302, headers={"location": "/b"}),
            "/b": Reply(302, headers={"location": web.address("/c", host="second.example")}),
            "/c": Reply(200),
        }
        headers = {"X-Api-Key": "s3cret", "Authorization": "Basic s3cret", "User-Agent": "mine", "If-None-Match": '"1"'}

        await fetch(client(network, clock), web.address("/a", host="first.example"), headers=headers)

        (a,), (b,), (c,) = web.asked("/a"), web.asked("/b"), web.asked("/c")
        assert a.headers["x-api-key"] == b.headers["x-api-key"] == "s3cret"
        assert "s3cret" not in repr(c)
        assert (c.headers["user-agent"], c.headers["if-none-match"]) == ("mine", '"1"')
        assert c.headers["host"] == f"second.example:{web.port}"

    async def test_cookies_last_for_one_request_with_its_redirects_and_go_to_no_other_host(
        self, network: LocalNetwork, clock: ManualClock, web: WebServer
    ) -> None:
        network.names |= {"first.example": [[PUBLIC]], "second.example": [[PUBLIC]]}
        cookie = {"set-cookie": "session=1; path=/"}
        web.pages |= {
            "/a": Reply(302, headers={"location": "/b"} | cookie),
            "/b": Reply(302, headers={"location": web.address("/c", host="second.example")}),
        }
        web_client = client(network, clock)

        for _ in range(2):
            await fetch(web_client, web.address("/a", host="first.example"))

        assert [request.headers.get("cookie") for request in web.requests] == [None, "session=1", None] * 2

    async def test_the_body_of_a_redirect_is_not_read(
        self, network: LocalNetwork, clock: ManualClock, web: WebServer
    ) -> None:
        async def endless(_request: Any, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-encoding: gzip\r\n\r\n")
            while not writer.is_closing():
                writer.write(bytes(100_000))
                await writer.drain()

        web.pages["/endless"] = endless

        assert await fetch(client(network, clock), web.address("/endless")) == b"hello"

    async def test_a_user_name_in_a_redirect_is_neither_sent_nor_kept(
        self, network: LocalNetwork, clock: ManualClock, web: WebServer
    ) -> None:
        web.pages["/a"] = Reply(302, headers={"location": f"http://user:s3cret@127.0.0.1:{web.port}/"})

        exchange = Exchange()

        assert await fetch(client(network, clock), web.address("/a"), exchange=exchange) == b"hello"
        assert "authorization" not in web.requests[1].headers
        assert exchange.response is not None
        assert str(exchange.response.url) == web.address("/")


async def test_tls_is_negotiated_for_the_name_and_its_final_dot_is_left_out(
    network: LocalNetwork, clock: ManualClock, trusted_authority: trustme.CA
) -> None:
    names: list[str | None] = []
    context = server_context(trusted_authority.issue_cert("shop.example"))
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    network.names |= {"shop.example": [[PUBLIC]], "shop.example.": [[PUBLIC]]}
    network.homes[PUBLIC] = "127.0.0.1"
    async with running_server(context) as web:
        web.pages["/"] = Reply(200, b"hello")

        for host in ("shop.example", "shop.example."):
            assert await fetch(client(network, clock), web.address(host=host)) == b"hello"

    assert names == ["shop.example", "shop.example"]


async def test_an_unreadable_redirect_is_a_failure_in_words(
    network: LocalNetwork, clock: ManualClock, web: WebServer
) -> None:
    locations = "ftp://files.example/", "http://[::1", "http://x:99999999/", "http://x:0/", "http://xn--/"
    for number, location in enumerate(locations):
        web.pages[f"/{number}"] = Reply(302, headers={"location": location})

        with pytest.raises(FetchFailed, match=r"^it redirects to something that is not an http or https address$"):
            await fetch(client(network, clock), web.address(f"/{number}"))


async def test_what_is_met_on_the_way_is_observed_even_if_the_request_fails(
    network: LocalNetwork, clock: ManualClock, web: WebServer
) -> None:
    web.pages["/loop"] = Reply(302, headers={"location": "/loop"})
    exchange = Exchange()

    with pytest.raises(FetchFailed, match="it redirects more than 5 times"):
        await fetch(client(network, clock), web.address("/loop"), exchange=exchange)

    assert exchange.response is not None
    assert exchange.response.status_code == 302
    assert len(web.requests) == 6
