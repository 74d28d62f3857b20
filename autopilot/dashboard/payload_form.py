"""A form for a payload, made from its JSON Schema; and the payload that a form was filled in with."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PREFIX = "field."
"""Of the names of the fields in a form."""

_SIMPLE = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FormField:
    """One property of the payload."""

    name: str
    label: str
    kind: str
    """``text``, ``integer``, ``number``, ``boolean``, ``choice``, ``lines`` (a list of texts) or ``json``."""
    required: bool
    description: str = ""
    value: str = ""
    choices: list[tuple[str, str]] = field(default_factory=list)
    """Of a choice: JSON and what is shown."""
    minimum: float | None = None
    maximum: float | None = None
    hint: str = ""


def form_fields(schema: Mapping[str, Any], payload: Mapping[str, Any] | None = None) -> list[FormField] | None:
    """The fields for a payload of this schema; None: it takes what no form can say, and is written as JSON.

    Args:
        schema: of the payload.
        payload: what the fields hold at first, instead of their defaults.
    """
    properties = schema.get("properties")
    if not isinstance(properties, dict) or schema.get("additionalProperties") not in {None, False}:
        return None
    required = set(schema.get("required", ()))
    return [
        _field(name, _resolved(told, schema), required=name in required, payload=payload or {})
        for name, told in properties.items()
    ]


def _resolved(told: Any, schema: Mapping[str, Any]) -> dict[str, Any]:
    """A property's schema without references and without ``null`` as one of its types."""
    if not isinstance(told, dict):
        return {}
    reference = told.get("$ref", "")
    if reference.startswith("#/$defs/"):
        target = schema.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {})
        return {**target, **{name: value for name, value in told.items() if name != "$ref"}}
    options = [option for option in told.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) == 1:
        rest = {name: value for name, value in told.items() if name != "anyOf"}
        return _resolved({**options[0], **rest}, schema)
    return told


def _field(name: str, told: dict[str, Any], *, required: bool, payload: Mapping[str, Any]) -> FormField:
    kind = _kind(told)
    held = payload[name] if name in payload else told.get("default")
    return FormField(
        name=name,
        label=str(told.get("title") or name.replace("_", " ").capitalize()),
        kind=kind,
        required=required,
        description=str(told.get("description", "")),
        value=_shown(held, kind),
        choices=[(json.dumps(choice), str(choice)) for choice in told.get("enum", ())],
        minimum=told.get("minimum"),
        maximum=told.get("maximum"),
        hint=_hint(told, kind),
    )


def _kind(told: Mapping[str, Any]) -> str:
    if told.get("enum"):
        return "choice"
    if told.get("type") == "array":
        return "lines" if told.get("items", {}).get("type") == "string" else "json"
    return _SIMPLE.get(str(told.get("type")), "json")


def _shown(value: Any, kind: str) -> str:
    if value is None:
        return ""
    if kind == "lines" and isinstance(value, list):
        return "\n".join(map(str, value))
    if kind == "text":
        return str(value)
    return json.dumps(value, ensure_ascii=False, indent=2 if kind == "json" else None)


def _hint(told: Mapping[str, Any], kind: str) -> str:
    if kind == "lines":
        return "One per line"
    if kind == "json":
        return "JSON"
    return str(told.get("format", ""))


def payload_of(fields: list[FormField], form: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The payload that was filled in, and what is wrong with which field.

    A field that is empty is left out, so that its default counts.
    """
    payload: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for each in fields:
        text = form.get(PREFIX + each.name, "")
        if each.kind == "boolean":
            payload[each.name] = text == "true"
        elif text.strip():
            try:
                payload[each.name] = _value(text.replace("\r\n", "\n"), each.kind)
            except (ValueError, RecursionError) as error:
                faults[each.name] = f"This is no {_NAMES[each.kind]}: {error}"
        elif each.required and each.kind == "text":
            payload[each.name] = text
    return payload, faults


_NAMES = {"integer": "whole number", "number": "number", "json": "JSON", "choice": "choice"}


def _value(text: str, kind: str) -> Any:
    match kind:
        case "text":
            return text
        case "lines":
            return [line.strip() for line in text.split("\n") if line.strip()]
        case "integer":
            return int(text)
        case _:
            return json.loads(text)
