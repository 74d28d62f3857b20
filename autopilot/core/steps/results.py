"""The results of steps: recorded as JSON, and proven to come back as they were before that is done."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import PydanticSchemaGenerationError, PydanticUserError, ValidationError

from autopilot.core.runs.comparison import culprit, difference
from autopilot.core.runs.json_types import JsonType, json_type
from autopilot.core.runs.result_json import ResultWriter, faults, is_unreadable, read_back, reason_of, refusing
from autopilot.core.steps.annotations import declared_result
from autopilot.core.store import StepRecord
from autopilot.errors import ResultInvalid, StepError, StepResultUnreadable

_DECLARE = "declare the type: annotate the function's return, or pass returns=..."
_DECLARE_ANOTHER = "return what the declared type can hold, or declare another type with returns=..."


@dataclass(frozen=True, slots=True)
class StepResult:
    """A result, ready to be recorded."""

    value: Any
    """As it is read back from the text."""
    text: str
    """JSON."""


@dataclass(frozen=True, slots=True)
class ResultType:
    """How the results of one type are recorded and read."""

    kind: JsonType | None = None
    """None: any JSON value."""

    def encode(self, result: Any) -> StepResult:
        """Write a result by field name, and read it back.

        Raises:
            ResultInvalid: it cannot be written, it cannot be read back, or it reads back as something else. Whatever
                the author's own validators and serializers raise is one too.
            ResultTooLarge: it is over the limit.
        """
        _refuse_iterators(result)
        way_out = _DECLARE if self.kind is None else _DECLARE_ANOTHER
        value, text = ResultWriter(self.kind, way_out, by_alias=False).write(result)
        with refusing(f"it cannot be read back; {way_out}", lambda: culprit(value, is_unreadable)):
            back = read_back(self.kind, text)
        with refusing(way_out):
            found = difference(result, value, is_coerced=True) or difference(value, back)
        if found is not None:
            raise ResultInvalid(f"{found.reason}; {way_out}", found.place)
        return StepResult(back, text)

    def decode(self, step: StepRecord) -> Any:
        """Read the recorded result of a step.

        Raises:
            StepResultUnreadable: the recorded JSON does not fit the type that the code declares now.
        """
        try:
            return read_back(self.kind, step.result or "null")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # its validators are the author's code
            if isinstance(error, ValidationError):
                reason = "; ".join(f"{place}: {why}" for place, why in faults(error))
            else:
                reason = reason_of(error)
            message = f"what attempt {step.attempt} recorded does not fit the type it has now: {reason}"
            raise StepResultUnreadable(step.key, message) from error


UNTYPED = ResultType()
"""Any JSON value."""


def result_type(key: str, body: Callable[..., Any], returns: Any) -> ResultType:
    """How the result of ``body`` is recorded and read: by ``returns``, else by its return annotation.

    Raises:
        StepError: the type cannot be resolved, or is none that pydantic knows; or the body cannot be called.
    """
    if not callable(body):
        raise StepError(key, _not_callable(key, body))
    try:
        declared = declared_result(body, returns)
        return UNTYPED if declared is Any else ResultType(json_type(declared))
    except (NameError, PydanticSchemaGenerationError, PydanticUserError) as error:
        raise StepError(key, f"the type of its result cannot be used ({error}); give it as returns=") from error


def _not_callable(key: str, body: Any) -> str:
    if not inspect.iscoroutine(body):
        return f"its body must be a function, not {type(body).__name__}: pass the function itself, and its arguments"
    body.close()  # else Python warns that nobody awaited it
    *_, owner, name = ("<locals>", *body.__qualname__.split("."))
    function = name if owner == "<locals>" else f"self.{name}"
    step = key.rpartition("/")[2].partition("[")[0]
    return f"its body was called already: pass the function and its arguments: ctx.step({step!r}, {function})"


def _refuse_iterators(result: Any) -> None:
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        kind = "a generator" if inspect.isgenerator(result) else "an async generator"
        raise ResultInvalid(f"it is {kind}, which can be read only once: return a list of what it yields")
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise ResultInvalid(f"it is a {type(result).__name__}: await it, and return what comes of it")
