"""This machine's own address: all that development servers listen on and answer to."""

import socket

from starlette.datastructures import Headers

HOST = "127.0.0.1"
_NAMES = (HOST, "localhost", "[::1]")


def listen(port: int) -> socket.socket:
    """A socket that listens on a port of :data:`HOST`.

    Raises:
        OSError: the port cannot be used; the message says which, and why.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise OSError(f"port {port} cannot be used: {reason}") from None
    return listener


def foreign_origin(headers: Headers, port: int) -> str | None:
    """Why a request to ``port`` comes from elsewhere than this machine's programs and this server's pages; else None.

    A page of any site in a browser of this machine can send requests here. Its origin gives it away; and the host that
    it asks for, if the site has given its own name this machine's address (DNS rebinding).
    """
    hosts = {f"{name}:{port}" for name in _NAMES}
    if headers.get("host") not in hosts:
        return "only localhost is served here"
    if (origin := headers.get("origin")) is not None and origin not in {f"http://{host}" for host in hosts}:
        return "a page of another site sent this request"
    return None
