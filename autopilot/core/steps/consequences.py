"""Which steps an execution asked for because a failure had been raised.

Code that handles a failure may ask for steps: a compensation. Code that runs beside it and does not know of the failure
may ask for steps too, and those are none. Both are told apart by the asyncio tasks that ask: a task that was there before
the failure was raised, and in which it was not raised, does not know of it.
"""

import asyncio
import sys
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count

from autopilot.core.steps.failures import step_failures
from autopilot.errors import StepFailed

_line: ContextVar["Line | None"] = ContextVar("autopilot_step_line", default=None)


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """The code of one task, from the first moment at which it was seen."""

    owner: "Consequences"
    task: object
    parent: "Line | None"
    """The code that made the task."""
    since: int

    def path(self) -> Iterator["Line"]:
        """This line and those that it comes from."""
        line: Line | None = self
        while line is not None:
            yield line
            line = line.parent


@dataclass(frozen=True, slots=True)
class _Asked:
    at: int
    line: Line
    handling: frozenset[str]
    """The failed steps whose failures the code was handling when it asked."""
    is_cancelled: bool
    """It was handling its own cancellation, which may come from any failure."""


class Consequences:
    """The steps that one execution of ``execute`` asks for, and the failures that are raised in it, in their order."""

    def __init__(self) -> None:
        self._moments = count(1)
        self._asked: dict[str, _Asked] = {}

    def line(self) -> Line:
        """The line of the code that is running here; seen from now on."""
        try:
            task: object = asyncio.current_task()
        except RuntimeError:  # in a thread: the line is that of the step whose body runs there
            task = None
        line = _line.get()
        if line is not None and line.owner is not self:
            line = None
        if line is None or (task is not None and line.task is not task):
            line = Line(self, task, line, next(self._moments))
            _line.set(line)
        return line

    def ask(self, key: str) -> None:
        """The step ``key`` is asked for here and now."""
        if key in self._asked:
            return
        handled = sys.exception()
        handling = frozenset(failure.step for failure in step_failures(handled))
        line = self.line()
        self._asked[key] = _Asked(next(self._moments), line, handling, isinstance(handled, asyncio.CancelledError))

    def raised(self, failure: StepFailed) -> StepFailed:
        """``failure``, to be raised here and now."""
        failure.raised_in, failure.raised_at = self.line(), next(self._moments)
        return failure

    def of(self, failures: Iterable[StepFailed]) -> list[str]:
        """The full keys of the steps that were first asked for because one of these failures had been raised."""
        found: dict[str, None] = {}
        for failure in failures:
            if not isinstance(failure.raised_in, Line):
                continue  # it was not raised yet
            path = set(failure.raised_in.path())
            for key, asked in self._asked.items():
                if asked.at > failure.raised_at and _knows(asked, failure, path):
                    found[key] = None
        return list(found)


def _knows(asked: _Asked, failure: StepFailed, path: set[Line]) -> bool:
    if asked.is_cancelled or failure.step in asked.handling:
        return True
    return not any(line.since < failure.raised_at for line in asked.line.path() if line not in path)
