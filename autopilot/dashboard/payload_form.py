"""Forms for payloads, made from their JSON Schema, and the payloads that people enter."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PREFIX = "field."
"""The prefix of the names of payload fields in a form."""

_SIMPLE = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FormField:
    """One property of the payload."""

    name: str
    label: str
    kind: str
    """``text``, ``integer``, ``number``, ``boolean``, ``choice``, ``lines`` (a list of strings) or ``json``."""
    required: bool
    description: str = ""
    value: str = ""
    choices: list[tuple[str, str]] = field(default_factory=list)
    """The options of a choice: JSON, and the text that is shown."""
    minimum: float | None = None
    maximum: float | None = None
    hint: str = ""


def form_fields(schema: Mapping[str, Any], payload: Mapping[str, Any] | None = None) -> list[FormField] | None:
    """The fields for a payload of this schema; None: it needs more than a form offers and is entered as JSON.

    Args:
        schema: JSON Schema of the payload.
        payload: initial values, instead of the defaults.
    """
    properties = schema.get("properties")
    if not isinstance(properties, dict) or schema.get("additionalProperties") not in {None, False}:
        return None
    required = set(schema.get("required", ()))
    return [
        _field(name, _resolved(field_schema, schema), required=name in required, payload=payload or {})
        for name, field_schema in properties.items()
    ]


def _resolved(field_schema: Any, schema: Mapping[str, Any]) -> dict[str, Any]:
    """A property's schema with its reference resolved and without ``null`` as one of its types."""
    if not isinstance(field_schema, dict):
        return {}
    reference = field_schema.get("$ref", "")
    if reference.startswith("#/$defs/"):
        target = schema.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {})
        return {**target, **{name: value for name, value in field_schema.items() if name != "$ref"}}
    options = [option for option in field_schema.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) == 1:
        rest = {name: value for name, value in field_schema.items() if name != "anyOf"}
        return _resolved({**options[0], **rest}, schema)
    return field_schema


def _field(name: str, field_schema: dict[str, Any], *, required: bool, payload: Mapping[str, Any]) -> FormField:
    kind = _kind(field_schema)
    held = payload[name] if name in payload else field_schema.get("default")
    return FormField(
        name=name,
        label=str(field_schema.get("title") or name.replace("_", " ").capitalize()),
        kind=kind,
        required=required,
        description=str(field_schema.get("description", "")),
        value=_shown(held, kind),
        choices=[(json.dumps(choice), str(choice)) for choice in field_schema.get("enum", ())],
        minimum=field_schema.get("minimum"),
        maximum=field_schema.get("maximum"),
        hint=_hint(field_schema, kind),
    )


def _kind(field_schema: Mapping[str, Any]) -> str:
    if field_schema.get("enum"):
        return "choice"
    if field_schema.get("type") == "array":
        return "lines" if field_schema.get("items", {}).get("type") == "string" else "json"
    return _SIMPLE.get(str(field_schema.get("type")), "json")


def _shown(value: Any, kind: str) -> str:
    if value is None:
        return ""
    if kind == "lines" and isinstance(value, list):
        return "\n".join(map(str, value))
    if kind == "text":
        return str(value)
    return json.dumps(value, ensure_ascii=False, indent=2 if kind == "json" else None)


def _hint(field_schema: Mapping[str, Any], kind: str) -> str:
    if kind == "lines":
        return "One per line"
    if kind == "json":
        return "JSON"
    return str(field_schema.get("format", ""))


def payload_of(fields: list[FormField], form: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The payload in a form, and an error message for each field that cannot be read.

    An empty field is left out, so that its default applies.
    """
    payload: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for each in fields:
        text = form.get(PREFIX + each.name, "")
        if each.kind == "boolean":
            payload[each.name] = text == "true"
        elif text.strip():
            try:
                payload[each.name] = _value(text.replace("\r\n", "\n"), each.kind)
            except (ValueError, RecursionError) as error:
                errors[each.name] = f"Not {_NAMES[each.kind]}: {error}"
        elif each.required and each.kind == "text":
            payload[each.name] = text
    return payload, errors


_NAMES = {"integer": "a whole number", "number": "a number", "json": "valid JSON", "choice": "one of the choices"}


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
