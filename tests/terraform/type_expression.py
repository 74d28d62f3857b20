"""Types of Terraform variables, as text, and whether a value has exactly that type."""

import re
from collections.abc import Iterator
from typing import Any

_TOKEN = re.compile(r"[a-z_][a-z0-9_]*|[(){},=]|\"[^\"]*\"|\[\]|-?[0-9.]+")
_PRIMITIVES: dict[str, type | tuple[type, ...]] = {"string": str, "number": (int, float), "bool": bool}

Type = tuple[str, Any]


def parse_type(text: str) -> Type:
    """``("object", {"name": type})``, ``("map", type)``, ``("optional", type)``, ``("string", None)`` and so on."""
    return _parse(iter(_TOKEN.findall(text.removeprefix("${").removesuffix("}"))))[0]


def _parse(tokens: Iterator[str]) -> tuple[Type, str]:
    """A type, and the token after it."""
    kind = next(tokens)
    if kind in _PRIMITIVES:
        return (kind, None), next(tokens, "")
    _expect(tokens, "(")
    if kind == "object":
        parsed: Type = (kind, _parse_fields(tokens))
        _expect(tokens, ")")
        return parsed, next(tokens, "")
    inner, after = _parse(tokens)
    depth = 0
    while after != ")" or depth:  # the default of an optional() is of no interest
        depth += {"(": 1, ")": -1}.get(after, 0)
        after = next(tokens)
    return (kind, inner), next(tokens, "")


def _parse_fields(tokens: Iterator[str]) -> dict[str, Type]:
    _expect(tokens, "{")
    fields: dict[str, Type] = {}
    name = next(tokens)
    while name != "}":
        _expect(tokens, "=")
        fields[name], after = _parse(tokens)
        name = next(tokens) if after == "," else after
    return fields


def _expect(tokens: Iterator[str], wanted: str) -> None:
    if (found := next(tokens)) != wanted:
        raise ValueError(f"{wanted} expected, not {found}")


def misfits(value: Any, of_type: Type, place: str) -> list[str]:
    """Where ``value`` is not of the type, unknown and missing keys included. Null is of any type."""
    kind, inner = of_type
    if value is None:
        return []
    if kind == "object":
        keys = [f"{place}.{key}: not in both" for key in sorted(value.keys() ^ inner.keys())]
        return keys + [
            misfit
            for key in sorted(value.keys() & inner.keys())
            for misfit in misfits(value[key], inner[key], f"{place}.{key}")
        ]
    if kind == "map":
        return [misfit for key, item in value.items() for misfit in misfits(item, inner, f"{place}[{key}]")]
    if kind in {"list", "set"}:
        return [misfit for item in value for misfit in misfits(item, inner, f"{place}[]")]
    if kind == "optional":
        return misfits(value, inner, place)
    fits = isinstance(value, _PRIMITIVES[kind]) and (kind == "bool" or not isinstance(value, bool))
    return [] if fits else [f"{place}: {value!r} is no {kind}"]
