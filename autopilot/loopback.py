"""Servers of this machine: the address they listen at, and the requests they must not answer."""

import re
import socket
from collections.abc import Iterable, Mapping

from autopilot.errors import AutopilotError

LOOPBACK = "127.0.0.1"
LOOPBACK_NAMES = frozenset({LOOPBACK, "localhost", "::1"})
_LOOPBACK_HOSTS = frozenset({LOOPBACK, "localhost", "[::1]"})

_HINT = "; AUTOPILOT_ALLOWED_HOSTS adds hosts"
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]{2,45}\]|[a-z0-9_][a-z0-9_.-]{0,252})(?P<port>:[0-9]{1,5})?")


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


def parse_host(header: str) -> tuple[str, str] | None:
    """The name and the port (with its colon, or empty) of a ``Host`` header, in lower case; None if it is neither.

    A header that is not checked becomes part of the request's URL, where ``x/runs`` would change its path.
    """
    match = _HOST.fullmatch(header.lower())
    return None if match is None else (match["name"], match["port"] or "")


def foreign(headers: Mapping[str, str], port: int | None = None, *, allowed: Iterable[str] | None = None) -> str | None:
    """Why a server outside the cloud must refuse a request; None if it may answer.

    Any page in a developer's browser can send requests to this machine. The headers Origin and Sec-Fetch-Site, which no
    page can change, give them away, whatever the content type says. Where a site points its own name at 127.0.0.1 (DNS
    rebinding), its pages are of the same origin, and the Host header does. A link on a page of another site may be
    followed to here: that reads, and the person alone sees what.

    Args:
        port: the server's own port, if it is known.
        allowed: hosts that the settings add to this machine's own, at any port; None if they cannot add any.
    """
    name, suffix = parse_host(headers.get("host", "")) or ("", "")
    if name in _LOOPBACK_HOSTS and (port is None or suffix == f":{port}"):
        origins = {f"http://{host}{suffix}" for host in _LOOPBACK_HOSTS}
    elif name in (allowed or ()):
        origins = {f"{scheme}://{name}{suffix}" for scheme in ("http", "https")}
    else:
        return "this server answers to localhost only" + ("" if allowed is None else _HINT)
    site = "same-origin" if headers.get("sec-fetch-mode") == "navigate" else headers.get("sec-fetch-site", "none")
    if headers.get("origin") not in {None, *origins} or site not in {"same-origin", "none"}:
        return "the request comes from a page of another site"
    return None
