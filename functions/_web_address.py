"""Web addresses that a caller may choose: http or https, without credentials, and not link-local.

A function's metadata server gives the token of its identity to whoever asks from inside. Callers choose the addresses
here, so that server (and everything else that is link-local) is refused twice: by name in a payload, and, which covers
redirects and names that resolve to it, by the address that :mod:`functions._web_client` is connected to.
"""

import ipaddress
import re
from typing import Annotated

import httpx
from pydantic import AfterValidator, Field

MAX_ADDRESS_LENGTH = 2048

_METADATA_HOSTS = frozenset({"metadata", "metadata.google.internal"})
_METADATA_IPV6 = ipaddress.IPv6Address("fd20:ce::254")
_HOST_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")


def checked_address(value: str) -> str:
    """Return ``value`` if a function may request it.

    Raises:
        ValueError: the reason why it may not. It never repeats the value: an address may hold a secret, and the
            message is shown and logged.
    """
    try:
        url = httpx.URL(value)
        port = url.port
    except (httpx.InvalidURL, ValueError):
        raise ValueError("is not a web address") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("must be an address that starts with http:// or https:// and a host")
    if url.userinfo:
        raise ValueError("must not hold a user name or password: addresses are stored and shown")
    if port is not None and not 1 <= port <= 65535:
        raise ValueError("must have a port from 1 to 65535")
    host = url.raw_host.decode("ascii").removesuffix(".")
    if host.lower() in _METADATA_HOSTS or is_link_local(host):
        raise ValueError("must not be link-local: the metadata server is there")
    if ":" not in host and (len(host) > 253 or not all(map(_HOST_LABEL.fullmatch, host.split(".")))):
        raise ValueError("must have a host name of letters, digits, hyphens and dots")
    return value


WebAddress = Annotated[str, Field(max_length=MAX_ADDRESS_LENGTH), AfterValidator(checked_address)]
"""An http or https address that a function may request."""


def is_link_local(host: str) -> bool:
    """Tell link-local IP addresses, and the metadata server's IPv6 address, from other hosts; names are never one."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_link_local or address == _METADATA_IPV6


def host_of(address: str) -> str:
    """The host of an address, and its port if it has one: the part that may be logged."""
    return httpx.URL(address).netloc.decode("ascii")
