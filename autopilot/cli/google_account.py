"""The account of the person at the keyboard, as ``gcloud`` knows it."""

import shutil
import subprocess

from autopilot.cli.exits import CommandFailed, ExitCode


def is_googles(host: str | None) -> bool:
    """Whether an address is that of a function whose callers Google's IAM checks."""
    return host is not None and host.endswith((".run.app", ".cloudfunctions.net"))


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
        reason = asked.stderr.strip().splitlines()[:1] or [f"it ended with {asked.returncode}"]
        raise CommandFailed(ExitCode.REFUSED, f"gcloud {' '.join(arguments)}: {reason[0]}; try: gcloud auth login")
    return asked.stdout.strip()
