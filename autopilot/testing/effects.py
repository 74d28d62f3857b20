"""What a workflow does to the world outside of its records: seen, counted, and traced to a line of its author's code.

The world is what a test's fakes remember. Whoever writes the test can say what to look at (``effects``); otherwise it is
every list, dict, set, number and object to which the author's code refers from outside of a call: variables of modules,
classes and closures.
"""

import re
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set as AbstractSet, ValuesView
from contextlib import contextmanager
from dataclasses import dataclass
from dis import opname
from functools import lru_cache
from numbers import Number
from pathlib import Path
from reprlib import Repr
from types import CodeType, FrameType
from typing import Any, NamedTuple
from unittest.mock import NonCallableMock

from autopilot.core.steps.runner import StepRunner
from autopilot.core.steps.scope import current_scope
from autopilot.core.steps.threads import ThreadedBody
from autopilot.errors import AttemptStopped
from autopilot.testing.authors_code import is_authors_file, is_authors_object, references
from autopilot.testing.instance import InstanceObserver

_DIFFERS = re.compile(r"0x[0-9a-fA-F]+|(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
"""Addresses, and ids of runs and idempotency keys, which are others in each run."""
_MAX_ENTRIES = 1000
"""Of a longer collection only the length is looked at."""
_MAX_DEPTH = 5

_COLLECTIONS = (list, tuple, deque, AbstractSet, ValuesView, Sequence)

_short = Repr()
_short.maxstring = _short.maxother = 120
_short.maxlist = _short.maxtuple = _short.maxset = _short.maxdict = 20


class Effect(NamedTuple):
    """A change of the world that can happen any number of times."""

    variable: str
    """The variable that was changed: ``charges``, ``shop.paid``, ``stock['tea']``."""
    what: str
    """``'tea'`` was added, ``'tea' removed``, ``= 'open'``; of a number ``increased`` or ``decreased``."""

    def __str__(self) -> str:
        is_predicate = self.what in {"increased", "decreased"} or self.what.startswith("= ")
        return f"{self.variable} {self.what}" if is_predicate else f"{self.variable}: {self.what}"


Effects = Counter[Effect]
State = dict[Effect, Any]
"""The world at one moment: how often each entry is there; of a number its value, as ``what == "number"``."""


class World:
    """The world around a workflow, as far as it can be seen.

    Args:
        effects: gives what is looked at; None: everything to which the code of ``workflow`` refers.
    """

    def __init__(self, workflow: object, effects: Callable[[], Any] | None) -> None:
        self.is_declared = effects is not None
        self._effects = effects
        self._references = [] if self.is_declared else references(workflow)

    def look(self) -> State:
        """The state of the world.

        Raises:
            ValueError: what ``effects`` gave cannot be looked into.
        """
        state: State = {}
        seen: set[int] = set()
        if self._effects is not None:
            value = self._effects()
            _require_visible(value)
            _add(state, "effects", value, _Way(seen))
        for reference in self._references:
            try:
                value = reference.get()
            except (LookupError, ValueError):
                continue  # it is not assigned now
            _add(state, reference.name, value, _Way(seen))
        return state


def changes(before: State, after: State) -> Effects:
    """The effects that lie between two states of the world."""
    found: Effects = Counter()
    for entry in before.keys() | after.keys():
        by = after.get(entry, 0) - before.get(entry, 0)
        if by and entry.what == "number":
            found[Effect(entry.variable, "increased" if by > 0 else "decreased")] = abs(by)
        elif by > 0:
            found[entry] = by
        elif by < 0 and not entry.what.startswith("= "):
            found[Effect(entry.variable, f"{entry.what} removed")] = -by
    return found


def excess(expected: Effects, found: Effects) -> Effects:
    """The effects that happened more often than expected.

    Effects that nobody expected are compared by what they change: ``receipt 2`` where ``receipt 1`` was expected is no
    more than one entry either way.
    """
    if found.keys() <= expected.keys():
        return found - expected
    wanted: Counter[str] = Counter()
    for effect, count in expected.items():
        wanted[effect.variable] += count
    over: Effects = Counter()
    for effect, count in sorted(found.items()):
        extra = count - max(0, min(count, wanted[effect.variable]))
        wanted[effect.variable] -= count
        if extra > 0:
            over[effect] = extra
    return over


@dataclass(frozen=True, slots=True)
class _Way:
    """How a value was come to: what has several names is looked at once, under the first."""

    seen: set[int]
    depth: int = 0

    def is_first(self, value: object) -> bool:
        """Whether a value is come to for the first time."""
        if id(value) in self.seen:
            return False
        self.seen.add(id(value))
        return True


def _add(state: State, variable: str, value: Any, way: _Way) -> None:
    """Add the entries of a value to ``state``; a value of a kind that cannot be looked into has none."""
    if isinstance(value, Number) and not isinstance(value, bool | complex):
        _count(state, Effect(variable, "number"), value)
    elif value is None or isinstance(value, bool | str | bytes):
        _count(state, Effect(variable, f"= {_text(value)}"))
    elif way.is_first(value):
        _add_within(state, variable, value, way)


def _require_visible(value: Any) -> None:
    kinds = (Number, str, bytes, NonCallableMock, Mapping, *_COLLECTIONS)
    if value is not None and not isinstance(value, kinds) and not is_authors_object(value):
        raise ValueError(
            f"effects: a {type(value).__name__} cannot be looked into; give a list, dict, set, number or text, a mock, "
            "or an object of a class of your own"
        )


def _add_within(state: State, variable: str, value: Any, way: _Way) -> None:
    if isinstance(value, NonCallableMock):
        _add_entries(state, variable, value.mock_calls)
    elif isinstance(value, (Mapping, *_COLLECTIONS)) and len(value) > _MAX_ENTRIES:
        _count(state, Effect(f"len({variable})", "number"), len(value))
    elif isinstance(value, _COLLECTIONS):
        _add_entries(state, variable, value)
    elif way.depth < _MAX_DEPTH:
        for name, part in _parts(variable, value):
            _add(state, name, part, _Way(way.seen, way.depth + 1))


def _add_entries(state: State, variable: str, entries: Iterable[Any]) -> None:
    for each in list(entries):
        _count(state, Effect(variable, _text(each)))


def _count(state: State, entry: Effect, by: Any = 1) -> None:
    state[entry] = state.get(entry, 0) + by


def _parts(variable: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(f"{variable}[{_text(key)}]", part) for key, part in value.items()]
    return [(f"{variable}.{name}", part) for name, part in _attributes(value)] if is_authors_object(value) else []


def _attributes(value: object) -> Iterator[tuple[str, Any]]:
    yield from getattr(value, "__dict__", {}).items()
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name != "__dict__" and hasattr(value, name):
                yield name, getattr(value, name)


def _text(value: object) -> str:
    return _text_of_text(value) if type(value) is str else _text_of(value)


def _text_of(value: object) -> str:
    return _DIFFERS.sub("...", _short.repr(value))


_text_of_text: Callable[[str], str] = lru_cache(maxsize=10_000)(_text_of)
"""The world is looked at around every body, and most of what it remembers is text that stays."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line of an author's code."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{_relative(self.file)}:{self.line} in {self.function}"


def _relative(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


class Doing(NamedTuple):
    """Code that had an effect."""

    place: Place | None
    step: str
    """The full key of the step in whose body it ran; empty for code outside of any step."""


_NOBODY = Doing(None, "")


class Observation(InstanceObserver):
    """The effects of instances, one after the other, and what had them: a step's body, or code outside of any step.

    A killed instance's code is not observed: Python unwinds it, and in reality it does not run.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.found: dict[Effect, Counter[Doing]] = {}
        self.asked: dict[str, Place] = {}
        """Where each step was asked for, by its full key; with :meth:`line_by_line`."""
        self.caught: Place | None = None
        """The line that handled the end of an attempt and went on; with :meth:`line_by_line`."""
        self._state = world.look()
        self._now: dict[int, Doing] = {}
        """What each thread is at, by its id."""
        self._bodies: list[Doing] = []
        self._is_dead = False
        self._stopped_in: dict[FrameType, Place | None] = {}
        """The frames in which the end of an attempt was raised, each with the line that it came to then."""
        self._is_looking = False
        self._lock = threading.RLock()

    def begin_body(self, key: str) -> None:
        self.look()
        self._bodies.append(self._body(key))
        self._is_at(self._bodies[-1])

    def end_body(self, key: str) -> None:
        self.look()
        self._bodies = [body for body in self._bodies if body.step != key]
        self._is_at(self._bodies[-1] if self._bodies else Doing(self._doing_now.place, ""))

    def die(self) -> None:
        self.look()
        self._is_dead = True

    def gone(self) -> None:
        self.look()
        self._is_dead = False
        self._now, self._bodies, self._stopped_in = {}, [], {}

    @contextmanager
    def line_by_line(self) -> Iterator[None]:
        """Within this the author's code is followed line by line, so that each effect has its place.

        It takes the place of a debugger or of coverage meanwhile: only runs that were made before without it are
        followed.
        """
        before = sys.gettrace(), threading.gettrace()
        threading.settrace(self._enter)
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before[0])
            threading.settrace(before[1])
            self.look()

    def total(self, *, outside_of_steps: bool = False) -> Effects:
        """How often each effect happened until now; only those that code outside of any step had, if so asked."""
        self.look()
        counted: Effects = Counter()
        for effect, doings in self.found.items():
            for doing, count in doings.items():
                if not (outside_of_steps and doing.step):
                    counted[effect] += count
        return counted

    def places_of(self, effect: Effect) -> str:
        """Where an effect happened, for a message."""
        doings = sorted(self.found.get(effect, ()), key=str)
        return "; ".join(
            f"{doing.place or 'an unknown line'}, {f'in step {doing.step}' if doing.step else 'outside of any step'}"
            for doing in doings
        )

    def look(self) -> None:
        """What has changed since the last look was done by the code that was at work until now."""
        with self._lock:
            if self._is_looking:
                return
            self._is_looking = True
            try:
                self._compare(self.world.look())
            finally:
                self._is_looking = False

    def _compare(self, state: State) -> None:
        if state == self._state:
            return
        if not self._is_dead:
            for effect, count in changes(self._state, state).items():
                self.found.setdefault(effect, Counter())[self._doing_now] += count
        self._state = state

    @property
    def _doing_now(self) -> Doing:
        return self._now.get(threading.get_ident(), _NOBODY)

    def _is_at(self, doing: Doing) -> None:
        self._now[threading.get_ident()] = doing

    def _body(self, key: str) -> Doing:
        return Doing(self.asked.get(key, self._doing_now.place), key)

    def _enter(self, frame: FrameType, event: str, arg: Any) -> Any:
        if self._is_looking:
            return None
        if frame.f_code is _ASK:
            if (place := self._doing_now.place) is not None:
                self.asked.setdefault(frame.f_locals["key"], place)
            return None
        if frame.f_code is _THREAD:
            return self._around_body
        return self._follow(frame, event, arg) if is_authors_file(frame.f_code.co_filename) else None

    def _around_body(self, frame: FrameType, event: str, arg: Any) -> Any:
        """Attribute what a body in a thread does that has no lines to follow, such as ``payments.append``."""
        self.look()
        scope = current_scope()
        self._is_at(_NOBODY if scope is None else self._body(scope.key))
        return self._around_body

    def _follow(self, frame: FrameType, event: str, arg: Any) -> Any:
        self.look()
        caller = frame.f_back
        self._watch_for_catching(frame, event, arg)
        if event == "return" and caller is not None and is_authors_file(caller.f_code.co_filename):
            self._is_at(_doing(caller))  # which continues in the middle of a line
        elif event != "return":
            self._is_at(_doing(frame))
        return self._follow

    def _watch_for_catching(self, frame: FrameType, event: str, arg: Any) -> None:
        """Find the line that catches the end of an attempt: the first that is come to, if the code goes on behind it.

        ``finally`` is come to as well, and so is ``except`` with a ``raise``: there the end goes on, and not the code.
        """
        if event == "exception" and issubclass(arg[0], AttemptStopped):
            self._stopped_in.setdefault(frame, None)
        elif frame not in self._stopped_in:
            return
        elif event == "line" and self._stopped_in[frame] is None:
            self._stopped_in[frame] = _place(frame)
        elif _goes_on(frame, event):
            self.caught = self.caught or self._stopped_in.pop(frame)
        elif event == "return" and not _is_at(frame, _SUSPENDS):
            del self._stopped_in[frame]


_ASK: CodeType = StepRunner.call.__code__
_THREAD: CodeType = ThreadedBody._run.__code__  # noqa: SLF001 - its lines are followed like an author's


_RETURNS = frozenset({"RETURN_VALUE", "RETURN_CONST"})
_BEGINS_TO_HANDLE = frozenset({"PUSH_EXC_INFO"})
_SUSPENDS = frozenset({"YIELD_VALUE"})


def _goes_on(frame: FrameType, event: str) -> bool:
    """Whether a frame in which the end of an attempt was raised is done with it."""
    if event == "line":
        return not isinstance(sys.exc_info()[1], AttemptStopped) and not _is_at(frame, _BEGINS_TO_HANDLE)
    return event == "return" and _is_at(frame, _RETURNS)


def _is_at(frame: FrameType, operations: AbstractSet[str]) -> bool:
    """Whether a frame is at one of these operations: ``return`` events also come when it waits, or an exception leaves it."""
    return opname[frame.f_code.co_code[frame.f_lasti]] in operations


def _place(frame: FrameType) -> Place:
    return Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname)


def _doing(frame: FrameType) -> Doing:
    scope = current_scope()
    return Doing(_place(frame), "" if scope is None else scope.key)
