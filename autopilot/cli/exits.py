"""How a command ends."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType
from typing import NoReturn

import typer


class ExitCode(IntEnum):
    """What the shell gets to know."""

    OK = 0
    RUN_FAILED = 1
    WRONG_USE = 2
    NOT_SERVED = 3
    INTERRUPTED = 130


def fail(code: ExitCode, message: str) -> NoReturn:
    """End the command with one message on standard error."""
    print(f"autopilot: {message}", file=sys.stderr)  # noqa: T201 - the command's own voice
    raise typer.Exit(code)


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
