"""Web addresses that a caller may choose: http or https, without credentials, and not link-local.

A function's metadata server gives the token of its identity to whoever asks from inside. Callers choose the addresses
here, so that server (and everything else that is link-local or reserved) is refused twice: as it is written in a
payload, and, which covers redirects and names that resolve to it, by what :mod:`functions._network` connects to.
"""

import re
from ipaddress import ip_address
from typing import Annotated

import httpx
from pydantic import AfterValidator, Field

from functions._ip_addresses import Reach, reach_of

MAX_ADDRESS_LENGTH = 2048

_METADATA_HOSTS = frozenset({"metadata", "metadata.google.internal"})
_HOST_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")


def checked_address(value: str) -> str:
    """Return ``value`` if a function may request it.

    Raises:
        ValueError: the reason why it may not. It never repeats the value: an address may hold a secret, and the
            message is shown and logged.
    """
    try:
        url = httpx.URL(value)
        # Both are decoded only when they are asked for, and the errors of either quote the value.
        port, has_host = url.port, bool(url.host)
    except (httpx.InvalidURL, ValueError):
        raise ValueError("is not a web address") from None
    if url.scheme not in {"http", "https"} or not has_host:
        raise ValueError("must be an address that starts with http:// or https:// and a host")
    if url.userinfo:
        raise ValueError("must not hold a user name or password: addresses are stored and shown")
    if port is not None and not 1 <= port <= 65535:
        raise ValueError("must have a port from 1 to 65535")
    host = url.raw_host.decode("ascii").removesuffix(".")
    if host.lower() in _METADATA_HOSTS or _is_forbidden(host):
        raise ValueError("must not be link-local or reserved: metadata servers are there")
    if ":" not in host and (len(host) > 253 or not all(map(_HOST_LABEL.fullmatch, host.split(".")))):
        raise ValueError("must have a host name of letters, digits, hyphens and dots")
    return value


WebAddress = Annotated[str, Field(max_length=MAX_ADDRESS_LENGTH), AfterValidator(checked_address)]
"""An http or https address that a function may request."""


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def completed_address(value: str) -> str:
    """Return ``value`` with ``https://`` before it if it has no scheme.

    Raises:
        ValueError: as :func:`checked_address`.
    """
    return checked_address(value if _SCHEME.match(value) else f"https://{value}")


PlainAddress = Annotated[str, Field(max_length=MAX_ADDRESS_LENGTH), AfterValidator(completed_address)]
"""A :data:`WebAddress` that may be written without ``https://``."""


def _is_forbidden(host: str) -> bool:
    try:
        return reach_of(ip_address(host)) is Reach.FORBIDDEN
    except ValueError:  # a name
        return False


def host_of(address: str) -> str:
    """The host of an address, and its port if it has one: the part that may be logged."""
    return httpx.URL(address).netloc.decode("ascii")


def without_query(address: str) -> str:
    """The host and path of an address, for people: a query may hold a secret."""
    return host_of(address) + httpx.URL(address).path.rstrip("/")


def origin_of(address: str) -> str:
    """The scheme, host and port of an address, with the host in one spelling and no port where it is the default."""
    url = httpx.URL(address)
    return f"{url.scheme}://{url.netloc.decode('ascii')}"
