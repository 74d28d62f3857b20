"""Which IP addresses a function may connect to for a caller who chose them."""

import enum
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

IPAddress = IPv4Address | IPv6Address


class Reach(enum.IntEnum):
    """From where an address can be reached; the larger, the less a caller may be let near it."""

    PUBLIC = 0
    PRIVATE = 1
    """Only from its own network or machine."""
    FORBIDDEN = 2
    """Link-local or a metadata server, or not the address of one host (unspecified, multicast, reserved)."""


def reach_of(address: IPAddress) -> Reach:
    """Classify an address; one that carries IPv4 addresses, as NAT64 or 6to4 do, is as bad as the worst of them."""
    if isinstance(address, IPv4Address):
        return _reach_of_ipv4(address)
    if address.is_loopback:
        return Reach.PRIVATE
    carried = list(_carried_ipv4(address))
    return max(map(_reach_of_ipv4, carried)) if carried else _reach_of_ipv6(address)


# A function's metadata server gives the token of its identity to whoever asks from inside. Google's is link-local, and
# so are most; these are the others (Azure, Oracle, Alibaba; Google and Amazon over IPv6).
_FORBIDDEN_IPV4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # Linux connects 0.0.0.0 to itself
            "169.254.0.0/16",
            "168.63.129.16/32",
            "192.0.0.192/32",
            "100.100.100.200/32",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),
    )
)
_METADATA_IPV6 = frozenset({IPv6Address("fd20:ce::254"), IPv6Address("fd00:ec2::254")})

_PRIVATE_IPV6 = (IPv6Network("fc00::/7"), IPv6Network("fec0::/10"))
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NEW_DOCUMENTATION = IPv6Network("3fff::/20")  # RFC 9637; Python 3.11 does not know it

_CARRIERS: tuple[tuple[IPv6Network, int], ...] = (
    (IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped: the operating system connects to the IPv4 address
    (IPv6Network("::ffff:0:0:0/96"), 0),  # IPv4-translated (RFC 2765)
    (IPv6Network("::/96"), 0),  # IPv4-compatible
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64 (RFC 6052)
    (IPv6Network("2002::/16"), 80),  # 6to4
)
"""The prefixes whose addresses carry an IPv4 address, and the number of bits behind it."""
_TEREDO = IPv6Network("2001::/32")
_ISATAP_IDS = frozenset({0x00005EFE, 0x02005EFE})


def _carried_ipv4(address: IPv6Address) -> Iterator[IPv4Address]:
    bits = int(address)
    for prefix, shift in _CARRIERS:
        if address in prefix:
            yield IPv4Address(bits >> shift & 0xFFFFFFFF)
    if address in _TEREDO:
        yield IPv4Address(bits >> 64 & 0xFFFFFFFF)
        yield IPv4Address(~bits & 0xFFFFFFFF)
    if bits >> 32 & 0xFFFFFFFF in _ISATAP_IDS and address in _GLOBAL_UNICAST:
        yield IPv4Address(bits & 0xFFFFFFFF)


def _reach_of_ipv4(address: IPv4Address) -> Reach:
    if any(address in network for network in _FORBIDDEN_IPV4):
        return Reach.FORBIDDEN
    return Reach.PUBLIC if address.is_global else Reach.PRIVATE


def _reach_of_ipv6(address: IPv6Address) -> Reach:
    if address in _METADATA_IPV6:
        return Reach.FORBIDDEN
    if address in _GLOBAL_UNICAST:
        return Reach.PUBLIC if address.is_global and address not in _NEW_DOCUMENTATION else Reach.PRIVATE
    return Reach.PRIVATE if any(address in network for network in _PRIVATE_IPV6) else Reach.FORBIDDEN
