"""The types of a workflow's payload and result, and JSON on its way in and out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args, get_origin

from pydantic import BaseModel, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json
from typing_extensions import get_original_bases

from autopilot.core.runs.limits import payload_text, result_text
from autopilot.errors import PayloadError, PayloadInvalid, ResultInvalid, WorkflowInvalid

_NESTED_TOO_DEEPLY = "it is nested more than 200 deep"


@dataclass(frozen=True, slots=True)
class ValidPayload:
    """A payload that its workflow accepts."""

    value: Any
    """What ``execute`` is given."""
    data: dict[str, Any]
    """The same as JSON, defaults filled in: what is recorded."""


class WorkflowSchema:
    """How a workflow's payload and result are validated, recorded and described.

    A payload type that says nothing of unknown fields (no ``extra`` in its model configuration) refuses them: a field
    that is misspelt would be lost without a word. Types can be anything that pydantic takes; a payload is always a
    JSON object.
    """

    def __init__(self, workflow: str, payload_type: Any, result_type: Any) -> None:
        self._workflow = workflow
        self._payload_type = payload_type
        self._result_type = result_type

    @cached_property
    def _payload_adapter(self) -> TypeAdapter[Any]:
        return self._adapter("payload", self._payload_type)

    @cached_property
    def _result_adapter(self) -> TypeAdapter[Any] | None:
        return None if self._result_type is Any else self._adapter("result", self._result_type)

    def _adapter(self, what: str, of_type: Any) -> TypeAdapter[Any]:
        try:
            return TypeAdapter(of_type)
        except (PydanticSchemaGenerationError, PydanticUserError) as error:
            raise WorkflowInvalid(self._workflow, f"{what} type {of_type!r}: {error.message}") from error

    def validate_payload(self, raw: Any) -> ValidPayload:
        """What ``raw``, the payload as it was sent, means to the workflow.

        Raises:
            PayloadInvalid: naming the fields and the reasons, without the values.
            PayloadTooLarge: as it was sent, or with its defaults filled in.
        """
        if not isinstance(raw, Mapping):
            raise PayloadInvalid(self._workflow, [_fault("dict_type", "the payload must be a JSON object")])
        try:
            text = payload_text(dict(raw))
            value = self._payload_adapter.validate_json(text, extra=self._extra)
            data = self._payload_adapter.dump_python(value, mode="json", by_alias=True, round_trip=True)
            recorded = payload_text(data)
        except PayloadError:
            raise
        except ValidationError as error:
            raise PayloadInvalid(self._workflow, _faults(error)) from None
        except (PydanticSerializationError, ValueError) as error:
            raise PayloadInvalid(self._workflow, [_fault("not_json", str(error))]) from error
        return ValidPayload(value, json.loads(recorded))

    @cached_property
    def _extra(self) -> Any:
        config = getattr(self._payload_type, "model_config", None) or {}
        is_closed = isinstance(self._payload_type, type) and issubclass(self._payload_type, BaseModel)
        return "forbid" if is_closed and "extra" not in config else None

    def encode_result(self, result: Any) -> Any:
        """``result`` as plain JSON data, the form in which it is recorded, answered and read again.

        Raises:
            ResultInvalid: it is not of the declared type, or not JSON.
            ResultTooLarge: it is over the limit.
        """
        return from_json(encode_json(result, self._result_adapter))

    def payload_json_schema(self) -> dict[str, Any]:
        """The JSON Schema of the payload."""
        return self._payload_adapter.json_schema()


def encode_json(result: Any, adapter: TypeAdapter[Any] | None) -> str:
    """The JSON text of what an author's code returned; of the adapter's type, or any JSON value.

    Raises:
        ResultInvalid: it is not of that type, or not JSON.
        ResultTooLarge: it is over the limit.
    """
    try:
        if adapter is not None:
            result = adapter.dump_python(adapter.validate_python(result), mode="json", by_alias=True)
        elif isinstance(result, BaseModel):
            result = result.model_dump(mode="json", by_alias=True)
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'result'}: {fault['msg']}" for fault in _faults(error))
        raise ResultInvalid(told) from None
    except PydanticSerializationError as error:
        raise ResultInvalid(str(error)) from error
    text = result_text(result)
    try:
        # It is answered as JSON too, by a serialiser that goes less deep than Python's: what this parser takes fits.
        from_json(text)
    except ValueError as error:
        raise ResultInvalid(_NESTED_TOO_DEEPLY) from error
    return text


def type_arguments(cls: type, generic: type, defaults: tuple[Any, ...]) -> tuple[Any, ...]:
    """The types with which ``cls``, or the base that it has them from, parametrises ``generic``.

    ``defaults`` when none does. Classes in between may have type parameters of their own.
    """
    for base in get_original_bases(cls):
        origin = get_origin(base) or base
        if origin is generic:
            return get_args(base) or defaults
        if isinstance(origin, type) and issubclass(origin, generic):
            given = dict(zip(getattr(origin, "__parameters__", ()), get_args(base), strict=False))
            return tuple(given.get(argument, argument) for argument in type_arguments(origin, generic, defaults))
    return defaults


def _faults(error: ValidationError) -> list[dict[str, Any]]:
    # Without the values: they may be secrets, and a payload that is refused is never stored or shown.
    return [dict(fault) for fault in error.errors(include_url=False, include_context=False, include_input=False)]


def _fault(kind: str, message: str) -> dict[str, Any]:
    return {"type": kind, "loc": (), "msg": message}
