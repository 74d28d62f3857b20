"""The types of a workflow's payload and result: what it accepts, and what it answers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel, PydanticSchemaGenerationError, PydanticUserError, ValidationError
from pydantic_core import from_json
from typing_extensions import get_original_bases

from autopilot.core.runs.json_types import JsonType, json_type
from autopilot.core.runs.limits import payload_text
from autopilot.core.runs.result_json import ResultWriter
from autopilot.errors import PayloadError, PayloadInvalid, WorkflowInvalid

_DECLARE = "declare its type: class ...(BaseWorkflow[Payload, Result])"
_AS_DECLARED = "return what the declared result type can write as JSON"


@dataclass(frozen=True, slots=True)
class ValidPayload:
    """A payload that its workflow accepts."""

    value: Any
    """What ``execute`` is given. It can change it: each execution needs one of its own."""
    data: dict[str, Any]
    """The payload as it was sent, as plain JSON: what is recorded, and validated again by every later attempt."""


class WorkflowSchema:
    """How a workflow's payload and result are validated, recorded and described.

    Types can be anything that pydantic takes; a payload is always a JSON object. A payload type that says nothing about
    unknown fields (no ``extra`` in its configuration) refuses them, and so do the classes in it that say nothing: a
    misspelt field would be lost without a word.

    Raises:
        WorkflowInvalid: pydantic does not take a type, or a field of it is a secret.
    """

    def __init__(self, workflow: str, payload_type: Any, result_type: Any) -> None:
        self._workflow = workflow
        self._payload = self._json_type("payload", payload_type, is_closed=True)
        self._result = None if result_type is Any else self._json_type("result", result_type, is_closed=False)

    def _json_type(self, name: str, of_type: Any, *, is_closed: bool) -> JsonType:
        try:
            made = json_type(of_type, is_closed=is_closed)
        except (NameError, PydanticSchemaGenerationError, PydanticUserError) as error:
            raise WorkflowInvalid(self._workflow, f"{name} type {of_type!r}: {error}") from error
        if (field := made.secret_field) is not None:
            raise WorkflowInvalid(
                self._workflow,
                f"{name} type {of_type!r}: {field or 'it'} is a secret. Payloads and results are recorded and shown; "
                "secrets belong to the workflow's Config",
            )
        return made

    def validate_payload(self, raw: Any) -> ValidPayload:
        """Validate a payload as it was sent, or as it was recorded.

        Raises:
            PayloadInvalid: naming the fields and the reasons, without the values.
            PayloadTooLarge: its JSON, as it was sent, is over the limit.
        """
        if not isinstance(raw, Mapping):
            raise PayloadInvalid(self._workflow, [_fault("dict_type", "the payload must be a JSON object")])
        try:
            text = payload_text(dict(raw))
            data = json.loads(text, object_pairs_hook=_without_duplicates)
            return ValidPayload(self._payload.validator.validate_json(text), data)
        except PayloadError:
            raise
        except ValidationError as error:
            # Without the values: they may be secrets, and a payload that is refused is never stored or shown.
            found = error.errors(include_url=False, include_context=False, include_input=False)
            raise PayloadInvalid(self._workflow, [dict(fault) for fault in found]) from None
        except ValueError as error:
            raise PayloadInvalid(self._workflow, [_fault("not_json", str(error))]) from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the validators of the payload type are the author's code
            message = f"a validator of the payload type raised {type(error).__name__}"
            raise PayloadInvalid(self._workflow, [_fault("validator_failed", message)]) from error

    def encode_result(self, result: Any) -> Any:
        """``result`` as plain JSON data, as its type says: what is recorded, and what readers get.

        Raises:
            ResultInvalid: it is not of the declared type, or not JSON.
            ResultTooLarge: it is over the limit.
        """
        kind = self._result
        if kind is None and isinstance(result, BaseModel):
            kind = json_type(type(result))
        way_out = _DECLARE if kind is None else _AS_DECLARED
        _, text = ResultWriter(kind, way_out, by_alias=True).write(result)
        return from_json(text)

    def payload_json_schema(self) -> dict[str, Any]:
        """The JSON Schema of the payload."""
        return self._payload.adapter.json_schema()


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


def _fault(kind: str, message: str) -> dict[str, Any]:
    return {"type": kind, "loc": (), "msg": message}


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("two keys of an object are the same as JSON")
    return found
