"""The type of a step's result, and reading what was recorded of it."""

import functools
import inspect
import json
import typing
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from autopilot.core.store import StepRecord
from autopilot.errors import StepError, StepResultUnreadable

_UNTYPED = (None, type(None), Any)


def result_adapter(key: str, body: Callable[..., Any], returns: Any) -> TypeAdapter[Any] | None:
    """How the result of ``body`` is recorded and read: by ``returns``, else by its return annotation.

    None, without either or with ``Any``: the result is plain JSON.

    Raises:
        StepError: the type cannot be resolved, or is none that pydantic knows.
    """
    try:
        declared = returns if returns is not None else _return_annotation(function_of(body))
        return None if declared in _UNTYPED else _adapter_of(declared)
    except (NameError, PydanticSchemaGenerationError, PydanticUserError) as error:
        raise StepError(key, f"the type of its result cannot be used ({error}); give it as returns=") from error


def decode_result(step: StepRecord, adapter: TypeAdapter[Any] | None) -> Any:
    """The recorded result of a step, as its code declares it now.

    Raises:
        StepResultUnreadable: the recorded JSON does not fit the declared type.
    """
    text = step.result or "null"
    if adapter is None:
        return json.loads(text)
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        told = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'result'}: {fault['msg']}" for fault in faults[:5])
        message = f"what attempt {step.attempt} recorded does not fit the type it has now: {told}"
        raise StepResultUnreadable(step.key, message) from None


def function_of(body: Callable[..., Any]) -> Callable[..., Any]:
    """What is called in the end: behind a partial, a bound method, an object that can be called.

    A function, and none of the objects that it may be bound to: what is kept by it holds on to no instance.
    """
    while isinstance(body, functools.partial):
        body = body.func
    if not inspect.isroutine(body):
        body = type(body).__call__
    return getattr(body, "__func__", body)


@lru_cache(maxsize=512)
def _return_annotation(function: Callable[..., Any]) -> Any:
    return typing.get_type_hints(function, include_extras=True).get("return")


def _adapter_of(declared: Any) -> TypeAdapter[Any]:
    try:
        return _known_adapter(declared)
    except TypeError:  # unhashable, as Annotated with a list in it
        return TypeAdapter(declared)


@lru_cache(maxsize=512)
def _known_adapter(declared: Any) -> TypeAdapter[Any]:
    return TypeAdapter(declared)
