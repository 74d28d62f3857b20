"""Telling an author's code from everybody else's: their functions and modules, and what those refer to."""

import functools
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from autopilot.base_workflow import BaseWorkflow

_OURS = str(Path(__file__).parents[1])
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_MAX_REFERENCES = 500


@cache
def is_authors_file(filename: str) -> bool:
    """Whether a code object's file is neither Autopilot's nor installed, nor part of Python, nor generated."""
    return not filename.startswith(("<", _OURS, *_INSTALLED))


def is_authors_module(name: str) -> bool:
    """Whether a module, by its name, is neither Autopilot's nor installed, nor part of Python."""
    root = name.partition(".")[0]
    if root in sys.stdlib_module_names and name != "__main__":
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    return root != "autopilot" if file is None else is_authors_file(file)


def is_authors_object(value: object) -> bool:
    """Whether a value is an instance of one of the author's classes, and no workflow."""
    return is_authors_module(type(value).__module__) and not isinstance(value, BaseWorkflow)


@dataclass(frozen=True, slots=True)
class Reference:
    """A variable outside of any call to which the author's code refers: of a module, of a class, or of a closure."""

    name: str
    get: Callable[[], Any]
    """Gives its value now.

    Raises:
        LookupError, AttributeError, ValueError: it has none.
    """


def references(start: object) -> list[Reference]:
    """The variables with data to which a class or function refers, and the author's code that it refers to."""
    search = _Search()
    search.visit(start)
    return search.found


@dataclass(slots=True)
class _Search:
    found: list[Reference] = field(default_factory=list)
    _visited: set[int] = field(default_factory=set)
    _places: set[tuple[int, str]] = field(default_factory=set)

    def visit(self, value: object, names: frozenset[str] = frozenset()) -> bool:
        """Look through code; False: ``value`` is none, but data.

        Args:
            names: used by the code that refers to it: those of a module's variables count.
        """
        if isinstance(value, staticmethod | classmethod | types.MethodType):
            self.visit(value.__func__)
            return not isinstance(value, types.MethodType) or self._bound_to(value)
        if isinstance(value, property):
            return all(self.visit(each) for each in (value.fget, value.fset) if each is not None)
        if isinstance(value, functools.partial):
            return self._bound_to(value)
        if isinstance(value, types.ModuleType):
            self._module(value, names)
            return True
        if isinstance(value, types.FunctionType | type):
            if id(value) not in self._visited:
                self._visited.add(id(value))
                (self._class if isinstance(value, type) else self._function)(value)
            return True
        return isinstance(value, types.BuiltinFunctionType) and self._bound_to(value)

    def _bound_to(self, value: Any) -> bool:
        if isinstance(value, functools.partial):
            self.visit(value.func)
            for number, each in enumerate((*value.args, *value.keywords.values())):
                self._refer(value, f"argument {number}", functools.partial(_same, each))
        else:
            owner = value.__self__
            self._refer(owner, f"{type(owner).__name__}.{value.__name__}", lambda: owner)
        return True

    def _function(self, function: Any) -> None:
        if not is_authors_file(function.__code__.co_filename):
            return
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self._refer(cell, name, functools.partial(getattr, cell, "cell_contents"))
        variables = function.__globals__
        names = frozenset(_names(function.__code__))
        for name in sorted(names & variables.keys()):
            self._refer(variables, name, functools.partial(variables.__getitem__, name), names)

    def _class(self, cls: Any) -> None:
        for base in cls.__mro__:
            if is_authors_module(base.__module__):
                for name in [name for name in vars(base) if not name.startswith("__") or name == "__init__"]:
                    get = functools.partial(base.__dict__.__getitem__, name)
                    self._refer(base, name, get, label=f"{base.__name__}.{name}")

    def _module(self, module: types.ModuleType, names: frozenset[str]) -> None:
        if is_authors_module(module.__name__):
            for name in sorted(names & vars(module).keys()):
                get = functools.partial(vars(module).__getitem__, name)
                self._refer(vars(module), name, get, names, label=f"{module.__name__}.{name}")

    def _refer(
        self,
        place: object,
        name: str,
        get: Callable[[], Any],
        names: frozenset[str] = frozenset(),
        *,
        label: str = "",
    ) -> None:
        if (id(place), name) in self._places or len(self.found) >= _MAX_REFERENCES:
            return
        self._places.add((id(place), name))
        try:
            value = get()
        except (LookupError, ValueError):
            return  # not assigned yet
        if not self.visit(value, names):
            self.found.append(Reference(label or name, get))
            if is_authors_object(value):
                self.visit(type(value))


def _same(value: object) -> object:
    return value


def _names(code: types.CodeType) -> Iterator[str]:
    """The names of variables and attributes in a function and in those that it defines."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
