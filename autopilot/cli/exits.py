"""How a command ends: with an exit code, and with one line on standard error when it fails."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType
from typing import Any, Self

import typer

from autopilot.errors import AutopilotError, ConfigurationError
from autopilot.text import visible


class ExitCode(IntEnum):
    """The exit codes of every command."""

    OK = 0
    RUN_FAILED = 1
    """A run failed or was cancelled, or a check found a problem."""
    WRONG_USE = 2
    """The arguments, the settings or the bundle must be changed."""
    NOT_SERVED = 3
    """A function, the store or the API did not answer; trying again may help."""
    NOT_FOUND = 4
    """There is no such run or workflow."""
    WRONG_STATE = 5
    """The run's status does not allow the action."""
    REFUSED = 6
    """The API or gcloud rejected the credentials."""
    INTERRUPTED = 130
    """Ctrl-C, SIGTERM, or a closed terminal."""

    @classmethod
    def of_http_status(cls, status: int) -> Self:
        """The exit code for an HTTP error answer."""
        return cls(_BY_HTTP_STATUS.get(status, cls.NOT_SERVED))


_BY_HTTP_STATUS = {
    400: ExitCode.WRONG_USE,
    401: ExitCode.REFUSED,
    403: ExitCode.REFUSED,
    404: ExitCode.NOT_FOUND,
    409: ExitCode.WRONG_STATE,
    413: ExitCode.WRONG_USE,
    415: ExitCode.WRONG_USE,
    422: ExitCode.WRONG_USE,
}


class CommandFailed(Exception):
    """Ends the command with an exit code and a message."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class ConfirmationNeeded(CommandFailed):
    """A retry would run steps again that may already have taken effect; ``steps`` are their keys, as people read them."""

    def __init__(self, message: str, steps: Sequence[str]) -> None:
        super().__init__(ExitCode.WRONG_STATE, message)
        self.steps = tuple(steps)


def refusal(status: int, code: str, message: str, details: Any = None) -> CommandFailed:
    """The failure for an error answer of an API or a function."""
    if code == "steps_interrupted" and isinstance(details, dict):
        return ConfirmationNeeded(message, [str(key) for key in details.get("steps", ())])
    return CommandFailed(ExitCode.of_http_status(status), message)


@contextmanager
def exit_on_failure() -> Iterator[None]:
    """Turn failures and interrupts into an exit code and one line on standard error."""
    try:
        with _signals_as_interrupts():
            yield
    except CommandFailed as failure:
        code, message = failure.code, str(failure)
    except AutopilotError as error:
        code = ExitCode.WRONG_USE if isinstance(error, ConfigurationError) else ExitCode.NOT_SERVED
        message = str(error)
    except KeyboardInterrupt:
        code, message = ExitCode.INTERRUPTED, "interrupted"
    else:
        return
    typer.echo(f"autopilot: {visible(message)}", err=True)  # with what a server or a function said
    raise typer.Exit(code)


@contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """Make SIGTERM and SIGHUP unwind as Ctrl-C does, so that servers started by the command are stopped."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
