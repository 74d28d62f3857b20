"""Servers of this machine: their ports, and the requests that they refuse."""

import socket

import pytest

from autopilot.loopback import PortUnavailable, foreign, listen, parse_host


@pytest.mark.parametrize("host", ("127.0.0.1:8080", "localhost:8080", "[::1]:8080"))
@pytest.mark.parametrize("origin", (None, "http://127.0.0.1:8080", "http://localhost:8080"))
def test_programs_and_our_own_pages_may_ask(host: str, origin: str | None) -> None:
    assert foreign({"host": host} | ({} if origin is None else {"origin": origin}), 8080) is None


@pytest.mark.parametrize(
    "host", ("evil.example:8080", "127.0.0.1", "localhost:80", "::1:8080", "localhost.evil.example:8080", None)
)
def test_a_host_that_is_not_this_server_is_refused(host: str | None) -> None:
    assert foreign({} if host is None else {"host": host}, 8080) == "this server answers to localhost only"


@pytest.mark.parametrize(
    "origin",
    ("http://evil.example", "null", "http://localhost:3000", "https://localhost:8080", "", "file://", "localhost:8080"),
)
def test_a_page_of_another_site_is_refused(origin: str) -> None:
    headers = {"host": "localhost:8080", "origin": origin}

    assert foreign(headers, 8080) == "the request comes from a page of another site"


@pytest.mark.parametrize("site", ("cross-site", "same-site"))
@pytest.mark.parametrize("port", (8080, None))
def test_what_a_page_of_another_site_embeds_is_refused_and_a_link_on_it_can_be_followed(
    site: str, port: int | None
) -> None:
    headers = {"host": "localhost:8080", "sec-fetch-site": site}

    assert foreign(headers | {"sec-fetch-mode": "no-cors"}, port) == "the request comes from a page of another site"
    assert foreign(headers | {"sec-fetch-mode": "navigate"}, port) is None
    assert foreign(headers | {"sec-fetch-mode": "navigate", "origin": "null"}, port) is not None


@pytest.mark.parametrize("site", ("same-origin", "none"))
def test_what_our_own_pages_embed_and_what_is_typed_is_answered(site: str) -> None:
    assert foreign({"host": "localhost:8080", "sec-fetch-site": site, "sec-fetch-mode": "cors"}, 8080) is None


@pytest.mark.parametrize(
    ("headers", "is_answered"),
    (
        ({"host": "runs.example"}, True),
        ({"host": "RUNS.example:8443", "origin": "https://runs.example:8443"}, True),
        ({"host": "runs.example", "origin": "http://runs.example"}, True),
        ({"host": "localhost:9000"}, True),
        ({"host": "runs.example", "origin": "https://localhost"}, False),
        ({"host": "runs.example", "origin": "https://evil.example"}, False),
        ({"host": "runs.example.evil.example"}, False),
        ({"host": "evil.example", "origin": "https://runs.example"}, False),
        ({"host": "localhost:9000", "origin": "http://localhost:3000"}, False),
    ),
)
def test_the_settings_add_hosts(headers: dict[str, str], is_answered: bool) -> None:  # noqa: FBT001
    reason = foreign(headers, allowed=("runs.example",))

    assert (reason is None) == is_answered
    assert "AUTOPILOT_ALLOWED_HOSTS" in (foreign({"host": "other.example"}, allowed=()) or "")


@pytest.mark.parametrize(
    "host", ("", "[", "[::1", "a b", "a/b", "localhost:x", "a@b", "a:1:2", "ü", "a?b", "-a", "a\\b")
)
def test_a_host_that_cannot_be_parsed_is_none(host: str) -> None:
    assert parse_host(host) is None
    assert foreign({"host": host}, allowed=("runs.example",)) is not None


def test_a_host_has_a_name_and_perhaps_a_port() -> None:
    assert parse_host("LocalHost:8080") == ("localhost", ":8080")
    assert parse_host("[::1]") == ("[::1]", "")
    assert parse_host("autopilot-prod-api-abc123.a.run.app") == ("autopilot-prod-api-abc123.a.run.app", "")


def test_a_port_is_listened_at_on_this_machine_only() -> None:
    with listen(0) as listener:
        host, port = listener.getsockname()
        socket.create_connection((host, port), timeout=5).close()

    assert host == "127.0.0.1"


def test_a_taken_port_is_refused_with_its_reason() -> None:
    with listen(0) as other:
        port = other.getsockname()[1]

        with pytest.raises(PortUnavailable, match=f"port {port} cannot be used: Address already in use"):
            listen(port)


def test_a_number_that_is_not_a_port_is_refused() -> None:
    with pytest.raises(PortUnavailable, match=r"port 70000 cannot be used: .*0-65535"):
        listen(70000)
