"""Servers of this machine: the address they listen at, and the requests they must not answer."""

import socket
from collections.abc import Mapping

from autopilot.errors import AutopilotError

LOOPBACK = "127.0.0.1"
LOOPBACK_NAMES = frozenset({LOOPBACK, "localhost", "::1"})


class PortUnavailable(AutopilotError):
    """A port of this machine cannot be listened at."""

    def __init__(self, port: int, reason: str) -> None:
        super().__init__(f"port {port} cannot be used: {reason}")
        self.port = port
        self.reason = reason


def listen(port: int) -> socket.socket:
    """Return a socket that listens at ``port`` of the loopback interface; connections wait until they are accepted.

    Raises:
        PortUnavailable: another process has the port, or this one may not use it.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else None
        raise PortUnavailable(port, reason or str(error)) from None
    return listener


def foreign(headers: Mapping[str, str], port: int) -> str | None:
    """Why a request to the server at ``port`` must be refused; None if it may be answered.

    Any page in a developer's browser can send requests to this machine. The Origin header gives them away. Where a
    site points its own name at 127.0.0.1 (DNS rebinding), its pages are of the same origin, and the Host header does.
    """
    hosts = {f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in LOOPBACK_NAMES}
    if headers.get("host") not in hosts:
        return "this server answers to localhost only"
    if (origin := headers.get("origin")) is not None and origin not in {f"http://{host}" for host in hosts}:
        return "the request comes from a page of another site"
    return None
