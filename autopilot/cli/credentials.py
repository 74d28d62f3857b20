"""Access to a deployed API: its URL, and the credentials that its callers need.

A person's identity token comes from the ``gcloud`` command. google-auth gives such tokens to service accounts only.
"""

import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from math import inf
from urllib.parse import urlsplit

from autopilot.cli.exits import CommandFailed, ExitCode
from autopilot.core.clock import Clock, SystemClock
from autopilot.loopback import LOOPBACK_NAMES
from autopilot.settings import load_settings

_GOOGLE_DOMAINS = (".run.app", ".cloudfunctions.net")
_API_PATH = "/api/v1"
_GCLOUD_SECONDS = 60.0

TOKEN_KEPT = timedelta(minutes=30)
"""How long an identity token is reused, since gcloud takes a second: half of its validity."""


def checked_url(url: str) -> str:
    """The base URL of an API, without a trailing slash and without ``/api/v1``.

    Raises:
        CommandFailed: it is not a URL, or one at which credentials would be sent unencrypted over a network.
    """
    if not _is_plain_url(url):
        raise CommandFailed(ExitCode.WRONG_USE, f"--url: {url!r} is not a URL such as https://host")
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_local(url):
        raise CommandFailed(ExitCode.WRONG_USE, f"--url: {url} must use https: every request carries credentials")
    return url.rstrip("/").removesuffix(_API_PATH)


def _is_plain_url(url: str) -> bool:
    """Check for a URL in which every parser sees the same host: no user, no backslash, no invisible character."""
    try:
        parts = urlsplit(url)
        is_complete = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a malformed address or port
        return False
    is_ambiguous = re.search(r"[^!-~]|[\\@]", url) is not None
    return is_complete and not is_ambiguous and not parts.query and not parts.fragment


def is_local(url: str) -> bool:
    """Return True if the URL is on this machine, like that of ``autopilot dev``."""
    return urlsplit(url).hostname in LOOPBACK_NAMES


def needs_identity_token(url: str) -> bool:
    """Return True if Google's IAM checks the callers of this URL."""
    return (urlsplit(url).hostname or "").endswith(_GOOGLE_DOMAINS)


class ApiCredentials:
    """The headers that authorize a request to a deployed API; call it once for each request.

    Args:
        key: the API's key.
        fetch_token: gives an identity token; None if the URL needs none.
        clock: measures the age of a token.
    """

    def __init__(
        self, *, key: str | None = None, fetch_token: Callable[[], str] | None = None, clock: Clock | None = None
    ) -> None:
        self._key = key
        self._fetch_token = fetch_token
        self._clock = clock or SystemClock()
        self._token = ""
        self._fetched_at = -inf

    def __call__(self) -> dict[str, str]:
        """The headers for a request that is sent now.

        Raises:
            CommandFailed: there is no identity token, and no key that could be enough.
        """
        headers = {} if self._key is None else {"X-API-Key": self._key}
        if token := self._current_token():
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _current_token(self) -> str:
        """The identity token; empty if none is needed, or if the key has to be enough."""
        now = self._clock.monotonic()
        if self._fetch_token is not None and now - self._fetched_at >= TOKEN_KEPT.total_seconds():
            try:
                self._token = self._fetch_token()
            except CommandFailed:
                if self._key is None:
                    raise
                self._token = ""  # an API with a key may be public
            self._fetched_at = now
        return self._token


def api_credentials(url: str) -> ApiCredentials:
    """The credentials of the person at the keyboard for an API.

    Raises:
        SettingsInvalid
    """
    key = load_settings().api_key
    return ApiCredentials(
        key=None if key is None else key.get_secret_value(),
        fetch_token=identity_token if needs_identity_token(url) else None,
    )


def identity_token() -> str:
    """An identity token of gcloud's active account; valid for an hour.

    Raises:
        CommandFailed: gcloud is not installed, or no account is signed in.
    """
    return gcloud("auth", "print-identity-token")


def gcloud(*arguments: str, seconds: float = _GCLOUD_SECONDS) -> str:
    """Run ``gcloud`` and return its standard output.

    Raises:
        CommandFailed: it is not installed, failed, or took longer than ``seconds``.
    """
    command = shutil.which("gcloud")
    if command is None:
        raise CommandFailed(ExitCode.REFUSED, "gcloud is not installed; see https://cloud.google.com/sdk/docs/install")
    name = f"gcloud {' '.join(arguments[:2])}"
    try:
        ended = subprocess.run([command, *arguments], capture_output=True, text=True, timeout=seconds, check=False)  # noqa: S603 - no shell
    except subprocess.TimeoutExpired:
        raise CommandFailed(ExitCode.NOT_SERVED, f"{name}: no answer within {seconds:g} s") from None
    except OSError as error:
        raise CommandFailed(ExitCode.REFUSED, f"{name}: {error.strerror}") from None
    if ended.returncode != 0:
        first_line = next(iter(ended.stderr.strip().splitlines()), f"exit code {ended.returncode}")
        reason = re.sub(r"^ERROR: (\([\w.-]+\) )?", "", first_line).rstrip(". ")
        remedy = "; run: gcloud auth login" if "gcloud auth login" in ended.stderr else ""
        raise CommandFailed(ExitCode.REFUSED, f"{name}: {reason}{remedy}")
    return ended.stdout.strip()
