"""Servers of this machine: their ports, and the requests that they refuse."""

import socket

import pytest

from autopilot.loopback import PortUnavailable, foreign, listen, parse_host


@pytest.mark.parametrize("host", ("127.0.0.1:8080", "localhost:8080", "[::1]:8080"))
@pytest.mark.parametrize("origin", (None, "http://127.0.0.1:8080", "http://localhost:8080"))
def test_programs_and_our_own_pages_may_ask(host: str, origin: str | None) -> None:
    assert foreign("POST", {"host": host} | ({} if origin is None else {"origin": origin})) is None


@pytest.mark.parametrize("host", ("localhost:9000", "127.0.0.1", "[::1]:80"))
def test_the_port_may_be_a_forwarded_one(host: str) -> None:
    assert foreign("POST", {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}) is None
    assert foreign("POST", {"host": host, "origin": "http://localhost:3000"}) is not None


def test_pages_of_the_origins_that_are_named_may_ask() -> None:
    page = {"origin": "http://localhost:3000", "sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}

    assert foreign("POST", {"host": "localhost:8080"} | page, pages=("http://localhost:3000",)) is None
    assert foreign("POST", {"host": "localhost:8080"} | page, pages=("http://localhost:300",)) is not None
    assert foreign("POST", {"host": "evil.example"} | page, pages=("http://localhost:3000",)) is not None
    assert (
        foreign("POST", {"host": "localhost:8080", "sec-fetch-site": "same-site"}, pages=("http://localhost:3000",))
        is not None
    )


@pytest.mark.parametrize(
    "host", ("evil.example:8080", "0.0.0.0:8080", "localhost.:80", "::1:8080", "localhost.evil.example:8080", None)
)
def test_a_host_that_is_not_this_server_is_refused(host: str | None) -> None:
    assert foreign("POST", {} if host is None else {"host": host}) == "this server answers to localhost only"


@pytest.mark.parametrize(
    "origin",
    ("http://evil.example", "null", "http://localhost:3000", "https://localhost:8080", "", "file://", "localhost:8080"),
)
def test_a_page_of_another_site_is_refused(origin: str) -> None:
    headers = {"host": "localhost:8080", "origin": origin}

    assert foreign("POST", headers) == "the request comes from a page of another site"


@pytest.mark.parametrize("site", ("cross-site", "same-site"))
def test_what_a_page_of_another_site_embeds_is_refused_and_a_link_on_it_can_be_followed(
    site: str,
) -> None:
    headers = {"host": "localhost:8080", "sec-fetch-site": site}

    assert foreign("POST", headers | {"sec-fetch-mode": "no-cors"}) == "the request comes from a page of another site"
    for method in ("GET", "HEAD"):
        assert foreign(method, headers | {"sec-fetch-mode": "navigate"}) is None
        assert foreign(method, headers | {"sec-fetch-mode": "navigate", "origin": "null"}) is not None


@pytest.mark.parametrize("method", ("POST", "PUT", "DELETE", "get"))
def test_a_form_on_a_page_of_another_site_is_refused_also_without_an_origin(method: str) -> None:
    headers = {"host": "localhost:8080", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}

    assert foreign(method, headers) == "the request comes from a page of another site"
    assert foreign(method, headers | {"sec-fetch-site": "same-origin"}) is None


@pytest.mark.parametrize("site", ("same-origin", "none"))
def test_what_our_own_pages_embed_and_what_is_typed_is_answered(site: str) -> None:
    assert foreign("POST", {"host": "localhost:8080", "sec-fetch-site": site, "sec-fetch-mode": "cors"}) is None


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
    reason = foreign("POST", headers, allowed=("runs.example",))

    assert (reason is None) == is_answered
    assert "AUTOPILOT_ALLOWED_HOSTS" in (foreign("POST", {"host": "other.example"}, allowed=()) or "")


@pytest.mark.parametrize(
    "host", ("", "[", "[::1", "a b", "a/b", "localhost:x", "a@b", "a:1:2", "ü", "a?b", "-a", "a\\b")
)
def test_a_host_that_cannot_be_parsed_is_none(host: str) -> None:
    assert parse_host(host) is None
    assert foreign("POST", {"host": host}, allowed=("runs.example",)) is not None


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
