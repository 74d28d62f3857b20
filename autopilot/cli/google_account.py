"""The account of the person at the keyboard, as ``gcloud`` knows it."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

from autopilot.cli.exits import CommandFailed, ExitCode
from autopilot.cli.token_cache import TokenCache
from autopilot.core.clock import Clock, SystemClock

_SECONDS, _LOG_SECONDS = 60.0, 300.0


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
        self._token = TokenCache(clock or SystemClock())

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


def logged_entries(query: str, project: str | None) -> list[dict[str, Any]]:
    """The entries of Cloud Logging that a query finds, oldest first.

    Args:
        project: whose log is asked; None: the one that gcloud is set to.

    Raises:
        CommandFailed: they cannot be read; the message has the query.
    """
    chosen = [] if project is None else [f"--project={project}"]
    try:
        entries: list[dict[str, Any]] = json.loads(
            _gcloud("logging", "read", query, "--order=asc", "--format=json", *chosen, within=_LOG_SECONDS)
        )
    except CommandFailed as failure:
        raise CommandFailed(failure.code, f"{failure}\nThe query for Cloud Logging is:\n{query}") from None
    return entries


def active_account() -> str | None:
    """Who is signed in; None: nobody, or there is no gcloud."""
    try:
        return _gcloud("config", "get-value", "account") or None
    except CommandFailed:
        return None


def _gcloud(*arguments: str, within: float = _SECONDS) -> str:
    command = shutil.which("gcloud")
    if command is None:
        raise CommandFailed(ExitCode.REFUSED, "gcloud is not installed; see https://cloud.google.com/sdk/docs/install")
    named = f"gcloud {' '.join(arguments[:2])}"
    try:
        asked = subprocess.run([command, *arguments], capture_output=True, text=True, timeout=within, check=False)  # noqa: S603 - no shell
    except subprocess.TimeoutExpired:
        raise CommandFailed(ExitCode.NOT_SERVED, f"{named}: no answer within {within:g} s") from None
    if asked.returncode != 0:
        reason = _reason(asked.stderr) or f"it ended with {asked.returncode}"
        raise CommandFailed(ExitCode.REFUSED, f"{named}: {reason}; try: gcloud auth login")
    return asked.stdout.strip()


def _reason(told: str) -> str:
    """The first line of what gcloud tells of an error, less what it begins and ends with."""
    first = next(iter(told.strip().splitlines()), "")
    return re.sub(r"^ERROR: (\([\w.-]+\) )?", "", first).rstrip(". ")
