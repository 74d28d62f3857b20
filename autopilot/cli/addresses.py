"""Addresses of an API, as they are given with ``--url``."""

from urllib.parse import urlsplit

from autopilot.cli.exits import CommandFailed, ExitCode
from autopilot.loopback import LOOPBACK_NAMES

_PATH_OF_THE_API = "/api/v1"


def checked_url(url: str) -> str:
    """The address that an API's paths begin behind; that of API v1 itself, or of a slash behind it, is as good.

    Raises:
        CommandFailed: it is none; or it would carry what the caller is known by in the clear.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise CommandFailed(ExitCode.WRONG_USE, f"--url: {url!r} is no address as in https://host")
    if parts.scheme == "http" and not is_of_this_machine(url):
        raise CommandFailed(ExitCode.WRONG_USE, f"--url: {url} must be https: keys and tokens travel with each call")
    return url.rstrip("/").removesuffix(_PATH_OF_THE_API)


def is_of_this_machine(url: str) -> bool:
    """Whether what answers there runs here: ``autopilot dev``."""
    return urlsplit(url).hostname in LOOPBACK_NAMES


def is_googles(url: str) -> bool:
    """Whether an address is that of a function whose callers Google's IAM checks."""
    return (urlsplit(url).hostname or "").endswith((".run.app", ".cloudfunctions.net"))
