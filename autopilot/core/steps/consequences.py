"""The consequences of failures: which steps must begin again for them to be over, and which began because of them.

Code that handles a failure may ask for steps: a compensation. Code that runs beside it and does not know of the failure
may ask for steps too, and those are none. Both are told apart by the asyncio tasks that ask: a task that was there before
the failure was raised, and in which it was not raised, does not know of it.
"""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from autopilot.core.steps.failures import step_failures
from autopilot.core.steps.records import StepRecords
from autopilot.errors import MapFailed, StepFailed

FailureT = TypeVar("FailureT", bound=StepFailed)

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


_QUIET_TURNS = 10
"""So many turns of the event loop without anything new: whatever could begin has begun."""

_FREE_LOOKS = 10_000


class Consequences:
    """The steps that one execution of ``execute`` asks for, and the failures that are raised in it, in their order."""

    def __init__(self, records: StepRecords) -> None:
        self._records = records
        self._moment = 0
        self._asked: dict[str, _Asked] = {}
        self._tasks: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
        self._looks_left = _FREE_LOOKS

    def line(self) -> Line:
        """The line of the code that is running here; seen from now on."""
        try:
            task = asyncio.current_task()
        except RuntimeError:  # in a thread: the line is that of the step whose body runs there
            task = None
        line = _line.get()
        if line is not None and line.owner is not self:
            line = None
        if line is None or (task is not None and line.task is not task):
            since = self._next() if task is None else self._tasks.setdefault(task, self._next())
            line = Line(self, task, line, since)
            _line.set(line)
        return line

    def ask(self, key: str) -> None:
        """The step ``key`` is asked for here and now."""
        self._looks_left += 1
        if key in self._asked:
            return
        handled = sys.exception()
        handling = frozenset(failure.step for failure in step_failures(handled))
        line = self.line()
        self._asked[key] = _Asked(self._next(), line, handling, isinstance(handled, asyncio.CancelledError))

    async def settle(self) -> None:
        """Let everything begin that can, as it did before a failure was recorded that is raised again now."""
        quiet = 0
        while quiet < _QUIET_TURNS:
            moment = self._moment
            await asyncio.sleep(0)
            quiet = quiet + 1 if moment == self._moment else 0

    def raised(self, failure: FailureT) -> FailureT:
        """``failure``, to be raised here and now."""
        failure.raised_in = self.line()
        self._look_around()
        failure.raised_at = self._next()
        return failure

    def _look_around(self) -> None:
        """Note which tasks there are.

        Thousands of failures among thousands of tasks would take too long. Then a task is noted when it asks for a step,
        and one that has not done so before a failure counts as made because of it.
        """
        if self._looks_left > 0:
            tasks, now = asyncio.all_tasks(), self._next()
            self._looks_left -= len(tasks)
            for task in tasks:
                self._tasks.setdefault(task, now)

    def _next(self) -> int:
        self._moment += 1
        return self._moment

    def digests(self, failures: Sequence[StepFailed]) -> list[str]:
        """The digests of the keys of the steps that must begin again for these failures to be over."""
        return self._records.closure(self._keys_of(failures))

    def compensations(self, failures: Sequence[StepFailed]) -> list[str]:
        """The digests of the keys of the steps that began because of these failures, and of those within them.

        With any, an automatic retry would go another way than the code that began them.
        """
        begun = [key for failure in failures for key in self._begun_by(failure)]
        return list(dict.fromkeys([*self._records.whole(begun), *self._records.compensations(self._keys_of(failures))]))

    def _keys_of(self, failures: Sequence[StepFailed]) -> list[str]:
        keys = [failure.step for failure in failures]
        for failure in failures:
            if isinstance(failure, MapFailed):
                # An item that was cancelled while its result was on its way to the record has succeeded all the same.
                left_out = (item.key for item in failure.result.items if item.status != "success")
                keys += [key for key in left_out if not self._records.has_result(key)]
        return keys

    def _begun_by(self, failure: StepFailed) -> list[str]:
        if not isinstance(failure.raised_in, Line):
            return []  # it was not raised yet
        path = set(failure.raised_in.path())
        return [
            key
            for key, asked in self._asked.items()
            if asked.at > (failure.raised_at or 0) and _knows(asked, failure, path)
        ]


def _knows(asked: _Asked, failure: StepFailed, path: set[Line]) -> bool:
    if asked.is_cancelled or failure.step in asked.handling:
        return True
    return not any(line.since < (failure.raised_at or 0) for line in asked.line.path() if line not in path)
