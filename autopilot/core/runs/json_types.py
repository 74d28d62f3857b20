"""The types of authors as JSON: read and written by pydantic, with bytes as base64."""

from collections.abc import Iterator, Mapping
from functools import cache, cached_property, lru_cache
from typing import Any

from pydantic import Secret, SecretBytes, SecretStr, TypeAdapter
from pydantic_core import CoreConfig, SchemaSerializer, SchemaValidator

_BASE64 = CoreConfig(ser_json_bytes="base64", val_json_bytes="base64")
_CLASSES = ("model", "dataclass", "typed-dict")
_NESTED = (
    "arguments_schema",
    "choices",
    "extras_schema",
    "fields",
    "items_schema",
    "json_schema",
    "keys_schema",
    "lax_schema",
    "python_schema",
    "schema",
    "steps",
    "strict_schema",
    "values_schema",
)
"""Where pydantic's core schemas have others in them. Nothing else is looked at: a default can look like a schema."""


class JsonType:
    """A type, with what reads it from JSON and writes it.

    Args:
        of_type: anything that pydantic takes.
        is_closed: every class in it that says nothing about unknown fields (no ``extra`` in its configuration)
            refuses them. Not if the type itself says something: then its classes are as pydantic has them.

    Raises:
        PydanticSchemaGenerationError, PydanticUserError, NameError: pydantic does not take the type.
    """

    def __init__(self, of_type: Any, *, is_closed: bool = False) -> None:
        self.adapter: TypeAdapter[Any] = TypeAdapter(of_type)
        if not isinstance(self.adapter.core_schema, dict):
            self.adapter.rebuild()  # its class defers this to its first use
        is_closed = is_closed and not _says_extra(of_type)
        schema = _adapted(self.adapter.core_schema, is_closed=is_closed)
        # Not the validators that the classes have built for themselves: those know nothing of what was adapted.
        self.validator = SchemaValidator(schema, _BASE64, _use_prebuilt=False)
        self.serializer = SchemaSerializer(schema, _BASE64, _use_prebuilt=False)

    @cached_property
    def secret_field(self) -> str | None:
        """The path of a field whose type is one of pydantic's secrets; "" if the type itself is; None without any."""
        definitions = {found["ref"]: found for found in _schemas_in(self.adapter.core_schema, "definitions")}
        return _secret_in(self.adapter.core_schema, definitions, set())


def _says_extra(of_type: Any) -> bool:
    config = getattr(of_type, "model_config", None) or getattr(of_type, "__pydantic_config__", None) or {}
    return "extra" in config


def _adapted(schema: Any, *, is_closed: bool) -> Any:
    if isinstance(schema, list | tuple):
        return type(schema)(_adapted(part, is_closed=is_closed) for part in schema)
    if not isinstance(schema, dict):
        return schema
    adapted = dict(schema)
    for key in (*_NESTED, "definitions"):
        if isinstance(nested := schema.get(key), dict) and not isinstance(nested.get("type"), str):
            adapted[key] = {name: _adapted(part, is_closed=is_closed) for name, part in nested.items()}
        elif nested is not None:
            adapted[key] = _adapted(nested, is_closed=is_closed)
    if schema.get("type") in _CLASSES:
        config = schema.get("config") or {}
        adapted["config"] = {**_BASE64, **config}
        if is_closed and "extra_fields_behavior" not in config:
            adapted["config"]["extra_fields_behavior"] = "forbid"
            if schema.get("extra_behavior") == "ignore":  # a TypedDict's, whether it says so or not
                adapted["extra_behavior"] = "forbid"
    elif schema.get("type") == "generator":
        # An Iterable would be read as an iterator that can be used once.
        adapted["type"] = "list"
    return adapted


def _schemas_in(schema: Mapping[str, Any], *keys: str) -> Iterator[Mapping[str, Any]]:
    for key in keys:
        nested = schema.get(key)
        if isinstance(nested, dict):
            yield from [nested] if isinstance(nested.get("type"), str) else nested.values()
        elif isinstance(nested, list | tuple):
            # The choices of a union can have labels, and a dataclass lists its fields by name too.
            found = (part[0] if isinstance(part, tuple) else part for part in nested)
            yield from (part for part in found if isinstance(part, dict))


def _secret_in(schema: Mapping[str, Any], definitions: Mapping[str, Mapping[str, Any]], seen: set[str]) -> str | None:
    if schema.get("type") == "definition-ref":
        reference = schema["schema_ref"]
        if reference in seen:
            return None
        seen.add(reference)
        return _secret_in(definitions[reference], definitions, seen)
    if _is_secret(schema):
        return ""
    if schema.get("type") in {"model-fields", "typed-dict"}:
        named = list(schema["fields"].items())
        named += [("", part) for part in _schemas_in(schema, "extras_schema")]
        named += [(part["property_name"], part["return_schema"]) for part in schema.get("computed_fields", ())]
    else:
        # Fields of dataclasses and named tuples have their names in them.
        named = [(part.get("name", ""), part) for part in _schemas_in(schema, *_NESTED)]
    for name, part in named:
        if (inside := _secret_in(part, definitions, seen)) is not None:
            return ".".join(filter(None, (name, inside)))
    return None


def _is_secret(schema: Mapping[str, Any]) -> bool:
    function = schema.get("function")
    function = function.get("function") if isinstance(function, dict) else function
    if isinstance(function, type):
        return issubclass(function, SecretStr | SecretBytes)
    return getattr(function, "__code__", None) in _secret_codes()


@cache
def _secret_codes() -> frozenset[Any]:
    """The code of the functions that pydantic puts into the schema of a ``Secret[...]``, which has no other mark."""
    schema = TypeAdapter(Secret[str]).core_schema
    return frozenset(
        part["function"]["function"].__code__ for part in _schemas_in(schema, "json_schema", "python_schema")
    )


def json_type(of_type: Any, *, is_closed: bool = False) -> JsonType:
    """The :class:`JsonType` of a type, made once if it can be."""
    try:
        return _made_once(of_type, is_closed=is_closed)
    except TypeError:  # unhashable, as Annotated with a list in it
        return JsonType(of_type, is_closed=is_closed)


@lru_cache(maxsize=512)
def _made_once(of_type: Any, *, is_closed: bool) -> JsonType:
    return JsonType(of_type, is_closed=is_closed)
