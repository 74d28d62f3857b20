"""How a command ends."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType
from typing import NoReturn

import typer

from autopilot.cli.output import print_aside


class ExitCode(IntEnum):
    """What the shell gets to know."""

    OK = 0
    RUN_FAILED = 1
    """A run failed or was cancelled; a check found something."""
    WRONG_USE = 2
    """What was typed cannot be done."""
    NOT_SERVED = 3
    """A function, the store or the API did not answer: trying again can help."""
    NOT_FOUND = 4
    """There is no such run or workflow."""
    WRONG_STATE = 5
    """The status of the run forbids it."""
    REFUSED = 6
    """The API, or gcloud, wants other credentials."""
    INTERRUPTED = 130


class CommandFailed(Exception):
    """A command cannot go on: the code it ends with, and what a person is told."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def fail(code: ExitCode, message: str) -> NoReturn:
    """End the command with one message on standard error."""
    print_aside(f"autopilot: {message}")
    raise typer.Exit(code)


@contextmanager
def told() -> Iterator[None]:
    """Inside, what keeps a command from going on ends it with its message, and Ctrl-C with a word."""
    try:
        with interruptible():
            yield
    except CommandFailed as failure:
        fail(failure.code, str(failure))
    except KeyboardInterrupt:
        fail(ExitCode.INTERRUPTED, "interrupted")


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, a request to end (SIGTERM, a closed terminal) unwinds as Ctrl-C does, so that what was started is ended."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
