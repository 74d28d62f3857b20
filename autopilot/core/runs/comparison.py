"""Values side by side: whether what was read back is what was written, and where it is not."""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set as AbstractSet
from datetime import datetime, time
from enum import Enum
from numbers import Number
from typing import Any, NamedTuple

from pydantic import BaseModel

ROOT = "result"
"""The place of a value that is part of none."""

_DEEPEST = 200


class _Missing:
    """No value: an attribute that an object does not have."""


_MISSING = _Missing()


class Difference(NamedTuple):
    """Where two values differ, such as ``result.items[2].when``, and how."""

    place: str
    reason: str


def place_of(parts: Sequence[Any], within: str = ROOT) -> str:
    """The place that is reached by these names, keys and indexes: pydantic's ``loc`` of an error."""
    return within + "".join(_step_to(part) for part in parts)


def parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """The parts of a container, model or dataclass, each with its name, key or index; None without one."""
    kind = _kind(value)
    if kind in {_objects, _sequences, _mappings}:
        pairs: Any = kind(value, value, is_coerced=False)  # the same twice: there is no difference to tell
        yield from ((part, child) for part, child, _ in pairs)
    elif kind is _sets:
        yield from ((None, element) for element in value)


def has_class(value: Any) -> bool:
    """Whether the value is of a class that declares its fields: a model or a dataclass."""
    return isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type))


def culprit(value: Any, is_refused: Callable[[Any], bool]) -> str:
    """The place of the smallest part of a refused value that is refused by itself."""
    place = ROOT
    for _ in range(_DEEPEST):
        refused = next(((part, child) for part, child in parts(value) if is_refused(child)), None)
        if refused is None:
            return place
        part, value = refused
        place = place if part is None else place_of([part], place)
    return ROOT  # it goes on too deeply, or in a circle


def difference(value: Any, other: Any, *, is_coerced: bool = False) -> Difference | None:
    """Where ``other``, made of ``value``, is something else; None: it is the same.

    Sequences are compared by their elements, whatever their kinds; sets without an order; models and dataclasses must
    be of the same class, and are compared by their fields: private attributes are no data. Any other object is compared
    as its class says, or by its attributes if that says nothing.

    Args:
        is_coerced: ``other`` is what a declared type made of ``value``. It may be of another class, but not another
            value of the same class, and nothing may be lost on the way.
    """
    pairs: list[tuple[_Path, Any, Any]] = [((), value, other)]
    seen: dict[tuple[int, int], tuple[Any, Any]] = {}  # an object can refer back to itself
    while pairs:
        path, one, two = pairs.pop()
        if _is_plainly_same(one, two) or (id(one), id(two)) in seen:
            continue
        kind = _kind(one)
        if kind is not _kind(two) or not _fits(one, two, kind):
            if is_coerced and not _is_lossy_number(one, two):
                continue
            return Difference(_place_at(path), _other_class(one, two))
        found = kind(one, two, is_coerced=is_coerced)
        if isinstance(found, str):
            return Difference(_place_at(path), found)
        if found:
            seen[id(one), id(two)] = one, two
        pairs.extend(((path, part), *both) for part, *both in reversed(found) if not _is_plainly_same(*both))
    return None


_Path = tuple[Any, ...]
"""Empty, or the path to the whole, and the part's name, key or index in it; None for a part without one."""

_Pairs = list[tuple[Any, Any, Any]]
"""The parts of two values: name, key or index, and both."""

_PLAIN = frozenset({str, int, bool, bytes})


def _is_plainly_same(one: Any, two: Any) -> bool:
    return one is two or (type(one) is type(two) and type(one) in _PLAIN and bool(one == two))


def _kind(value: Any) -> Callable[..., "_Pairs | str"]:
    if has_class(value):
        return _objects
    if isinstance(value, Mapping):
        return _mappings
    if isinstance(value, AbstractSet):
        return _sets
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview):
        return _sequences
    return _leaves


def _fits(one: Any, two: Any, kind: Any) -> bool:
    if type(one) is type(two):
        return True
    if kind is _objects or isinstance(one, Enum) or isinstance(one, bool) is not isinstance(two, bool):
        return False
    if kind is _leaves:
        numbers = isinstance(one, Number) and isinstance(two, Number)
        return numbers or isinstance(one, type(two)) or isinstance(two, type(one))
    # A container of an author's own may carry more than its elements.
    return not (hasattr(one, "_fields") or getattr(one, "__dict__", None))


def _is_lossy_number(one: Any, two: Any) -> bool:
    return isinstance(one, int | float) and isinstance(two, int | float) and one != two


def _objects(one: Any, two: Any, *, is_coerced: bool) -> _Pairs | str:
    if not isinstance(one, BaseModel):
        names = [field.name for field in dataclasses.fields(one)]
        return [(name, getattr(one, name, _MISSING), getattr(two, name, _MISSING)) for name in names]
    state, other = vars(one), vars(two)  # an attribute can be deprecated, and warn
    pairs = [(name, state.get(name, _MISSING), other.get(name, _MISSING)) for name in type(one).model_fields]
    return [*pairs, (None, one.model_extra or {}, two.model_extra or {})]


def _mappings(one: Any, two: Any, *, is_coerced: bool) -> _Pairs | str:
    if len(one) != len(two):
        return f"{len(one)} entries read back as {len(two)}: some of their keys become the same, or are lost"
    keys = {key: key for key in two}
    if (lost := next((key for key in one if key not in keys), _MISSING)) is not _MISSING:
        if is_coerced:  # in their order, since the type makes other keys of these
            pairs = zip(one.items(), two.items(), strict=True)
            return [part for (key, value), (its, other) in pairs for part in ((key, key, its), (key, value, other))]
        return f"its key {lost!r} reads back as something else"
    return [part for key in one for part in ((key, key, keys[key]), (key, one[key], two[key]))]


def _sets(one: Any, two: Any, *, is_coerced: bool) -> _Pairs | str:
    if len(one) != len(two):
        return f"{len(one)} elements read back as {len(two)}: some of them become the same"
    if is_coerced:
        return []
    elements = {element: element for element in two}
    if any(element not in elements for element in one):
        return "one of its elements reads back as something else"
    return [(None, element, elements[element]) for element in one]


def _sequences(one: Any, two: Any, *, is_coerced: bool) -> _Pairs | str:
    if len(one) != len(two):
        return f"{len(one)} elements read back as {len(two)}"
    return list(zip(range(len(one)), one, two, strict=True))


def _leaves(one: Any, two: Any, *, is_coerced: bool) -> _Pairs | str:
    if isinstance(one, float) and math.isnan(one) and math.isnan(two):
        return []
    if isinstance(one, datetime | time):
        # Two times of the hour that a clock repeats are never equal in Python if their zones are different objects.
        is_same = one.isoformat() == two.isoformat()
    elif _has_no_equality(type(one)):
        state, other = _state(one), _state(two)
        if state is None or other is None:
            return f"whether two of {_name(one)} are equal cannot be said"
        return [(name, state.get(name, _MISSING), other.get(name, _MISSING)) for name in {**state, **other}]
    else:
        is_same = bool(one == two)
    if is_same:
        return []
    name = _name(one)
    return (
        f"the declared type makes another {name} of this {name}" if is_coerced else f"this {name} reads back as another"
    )


def _has_no_equality(cls: type[Any]) -> bool:
    equality: Any = cls.__eq__
    return equality is object.__eq__


def _state(value: Any) -> dict[str, Any] | None:
    """The attributes of an object; None if its class keeps its state where Python does not see it."""
    declared = [vars(cls)["__slots__"] for cls in type(value).__mro__ if "__slots__" in vars(cls)]
    if not declared and not hasattr(value, "__dict__"):
        return None
    names = [name for slots in declared for name in ([slots] if isinstance(slots, str) else slots)]
    in_slots = {name: getattr(value, name) for name in names if name != "__weakref__" and hasattr(value, name)}
    return in_slots | getattr(value, "__dict__", {})


def _place_at(path: _Path) -> str:
    parts: list[Any] = []
    while path:
        path, part = path
        parts.append(part)
    return place_of([part for part in reversed(parts) if part is not None])


def _other_class(one: Any, two: Any) -> str:
    if one is _MISSING or two is _MISSING:
        return "it is lost" if two is _MISSING else "it was not there"
    name, other = _name(one), _name(two)
    if isinstance(one, type(two)) and _kind(one) is _objects:
        return f"{name} reads back as {other}, its base, and loses what {other} does not have"
    return f"{name} reads back as {other if other != name else f'another class {name}'}"


def _name(value: Any) -> str:
    return type(value).__name__


def _step_to(part: Any) -> str:
    if isinstance(part, str) and re.fullmatch(r"\w+", part) and not part[0].isdigit():
        return f".{part}"
    return f"[{part!r}]"
