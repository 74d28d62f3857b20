"""Servers of this machine: their ports, and the requests that they refuse."""

import socket

import pytest

from autopilot.loopback import PortUnavailable, foreign, listen


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
