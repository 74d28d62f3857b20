"""The account of the person at the keyboard, as ``gcloud`` knows it."""

import re
import shutil
import subprocess
from collections.abc import Callable

from autopilot.api.kept_token import KeptToken
from autopilot.cli.exits import CommandFailed, ExitCode
from autopilot.core.clock import Clock, SystemClock


class CallerHeaders:
    """What a caller of a deployed API is known by: called, it gives the headers.

    Args:
        key: the API's key.
        fetch_token: gives an identity token where Google's IAM asks for one; None: it does not.
        clock: tells the age of a token.
    """

    def __init__(
        self, *, key: str | None = None, fetch_token: Callable[[], str] | None = None, clock: Clock | None = None
    ) -> None:
        self._key = key
        self._fetch_token = fetch_token
        self._token = KeptToken(clock or SystemClock())

    def __call__(self) -> dict[str, str]:
        """The headers of a request that is sent now.

        Raises:
            CommandFailed: there is no identity token, and no key to do without it.
        """
        headers = {} if self._key is None else {"X-API-Key": self._key}
        if self._fetch_token is not None and (token := self._known_token(self._fetch_token)):
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _known_token(self, fetch: Callable[[], str]) -> str:
        """The token; an empty one where the key has to do."""
        if (token := self._token.get()) is not None:
            return token
        try:
            return self._token.keep(fetch())
        except CommandFailed:
            if self._key is None:
                raise
            return self._token.keep("")  # with a key the API may be public


def identity_token() -> str:
    """An identity token of the active account; good for an hour.

    Raises:
        CommandFailed: there is no gcloud, or nobody is signed in.
    """
    return _gcloud("auth", "print-identity-token")


def active_account() -> str | None:
    """Who is signed in; None: nobody, or there is no gcloud."""
    try:
        return _gcloud("config", "get-value", "account") or None
    except CommandFailed:
        return None


def _gcloud(*arguments: str) -> str:
    command = shutil.which("gcloud")
    if command is None:
        raise CommandFailed(ExitCode.REFUSED, "gcloud is not installed; see https://cloud.google.com/sdk/docs/install")
    asked = subprocess.run([command, *arguments], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - no shell
    if asked.returncode != 0:
        reason = _reason(asked.stderr) or f"it ended with {asked.returncode}"
        raise CommandFailed(ExitCode.REFUSED, f"gcloud {' '.join(arguments)}: {reason}; try: gcloud auth login")
    return asked.stdout.strip()


def _reason(told: str) -> str:
    """The first line of what gcloud tells of an error, less what it begins and ends with."""
    first = next(iter(told.strip().splitlines()), "")
    return re.sub(r"^ERROR: (\([\w.-]+\) )?", "", first).rstrip(". ")
