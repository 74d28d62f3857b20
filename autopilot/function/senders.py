"""The requests that a function answers, by the headers that say where they come from."""

from collections.abc import Mapping

from autopilot.function.trigger import RequestRefused
from autopilot.loopback import foreign, parse_host
from autopilot.settings import Settings


def check_host_header(headers: Mapping[str, str]) -> None:
    """Refuse a ``Host`` that cannot be parsed: it would become part of the request's URL.

    Raises:
        RequestRefused
    """
    if (host := headers.get("host")) is not None and parse_host(host) is None:
        raise RequestRefused(400, "invalid_host", "Host: it must be a host name, with or without a port")


def check_sender(headers: Mapping[str, str], settings: Settings) -> None:
    """Refuse a request that a function must not answer.

    In the cloud IAM decides who may call, and a browser has no identity token to send. Elsewhere nobody does, and any
    page in a browser on this machine could start runs: see :func:`~autopilot.loopback.foreign`. No browser leaves out the
    header Host.

    Raises:
        RequestRefused
    """
    check_host_header(headers)
    if settings.in_cloud or "host" not in headers:
        return
    if (reason := foreign(headers, allowed=settings.allowed_hosts)) is not None:
        raise RequestRefused(403, "not_local", reason)
