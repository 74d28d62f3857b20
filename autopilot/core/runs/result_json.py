"""What an author's code returned, as JSON text: or why that cannot be."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_jsonable_python

from autopilot.core.runs.comparison import ROOT, culprit, has_class, parts, place_of
from autopilot.core.runs.json_types import JsonType, json_type
from autopilot.core.runs.limits import check_result_size, json_text, text_of
from autopilot.errors import ResultError, ResultInvalid

MAX_FAULTS = 5
"""Fields that a message names."""

_CONTAINERS = (list, tuple, dict, set, frozenset, deque)
_NOT_IN_JSON = "return something that JSON can hold"


@dataclass(frozen=True, slots=True)
class ResultWriter:
    """Writes results of one type as JSON text, within the limit."""

    kind: JsonType | None
    """None: any JSON value."""
    way_out: str
    """What to do about a result that cannot be written."""
    by_alias: bool
    """For readers, as its type says; else by field name, so that it can be read back."""

    def write(self, result: Any) -> tuple[Any, str]:
        """The result as its type reads it, and its JSON.

        Raises:
            ResultInvalid: it is not of the type, or it cannot be written. Whatever the author's own validators and
                serializers raise is one too.
            ResultTooLarge: it is over the limit.
        """
        with refusing(self.way_out):
            value = result if self.kind is None else self.kind.validator.validate_python(result, by_name=True)
        with refusing(self.way_out, lambda: culprit(value, self._is_unwritable)):
            text = json_text(self._plain(value))
        with refusing(self.way_out):
            _check_depth(text)
        check_result_size(text)
        return value, text

    def _plain(self, value: Any) -> Any:
        return value if self.kind is None else _plain(self.kind, value, by_alias=self.by_alias)

    def _is_unwritable(self, part: Any) -> bool:
        if self.kind is None:
            return fails(lambda: json_text(part))
        return _fails_in(part, lambda kind, model: json_text(_plain(kind, model, by_alias=self.by_alias)))


def _plain(kind: JsonType, value: Any, *, by_alias: bool) -> Any:
    return kind.serializer.to_python(value, mode="json", by_alias=by_alias, round_trip=not by_alias, warnings=False)


@contextmanager
def refusing(way_out: str, place: Callable[[], str] = lambda: ROOT) -> Iterator[None]:
    """Make :class:`ResultInvalid` of whatever is raised within: an author's code can raise anything.

    Args:
        place: finds where in the result the fault is, if the error does not say.
    """
    try:
        yield
    except (ResultError, KeyboardInterrupt):
        raise
    except BaseException as raised:
        error = _original(raised)
        if isinstance(error, KeyboardInterrupt):
            raise error from raised
        if isinstance(error, ValidationError):
            (first, reason), *others = faults(error)
            reason = "; ".join([reason, *(f"{at}: {why}" for at, why in others)])
            raise ResultInvalid(f"{reason}; {way_out}", first) from error
        if raised is error and type(error) is ValueError and not isinstance(error.__cause__, TypeError):
            way_out = _NOT_IN_JSON  # no type would help: it is no number, no Unicode, too deep
        found: list[str] = []
        at = ROOT if fails(lambda: found.append(place())) else found[0]
        raise ResultInvalid(f"{reason_of(error)}; {way_out}", at) from error


def reason_of(error: BaseException) -> str:
    """What an error of an author's validators and serializers, or of JSON's, says about a value."""
    is_about_value = isinstance(error, ValueError | TypeError)
    return text_of(error) if is_about_value else f"{type(error).__name__}: {text_of(error)}"


def faults(error: ValidationError) -> list[tuple[str, str]]:
    """The places and reasons of pydantic's errors, the first few, without the values."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [(place_of(fault["loc"]), fault["msg"]) for fault in found[:MAX_FAULTS]]


def is_unreadable(value: Any) -> bool:
    """Whether a model in the value cannot be read back from its JSON by its own class."""

    def read(kind: JsonType, model: Any) -> None:
        read_back(kind, json_text(_plain(kind, model, by_alias=False)))

    return _fails_in(value, read)


def _fails_in(value: Any, call: Callable[[JsonType, Any], object]) -> bool:
    """Whether a call for a model or dataclass in the value fails, or another part of it cannot be written."""
    if has_class(value):
        return fails(lambda: call(json_type(type(value)), value))
    if isinstance(value, _CONTAINERS):
        return any(_fails_in(part, call) for _, part in parts(value))
    return fails(lambda: json_text(to_jsonable_python(value, bytes_mode="base64")))


def read_back(kind: JsonType | None, text: str) -> Any:
    """The value of a JSON text that was written by field name."""
    return from_json(text) if kind is None else kind.validator.validate_json(text, by_alias=False, by_name=True)


def fails(call: Callable[[], Any]) -> bool:
    """Whether an author's code, called once more to find the place of its fault, raises again."""
    try:
        call()
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - reported by the caller, which has caught it already
        return True
    return False


def _check_depth(text: str) -> None:
    try:
        # It is answered as JSON too, by a serialiser that goes less deep than Python's: what this parser takes fits.
        from_json(text)
    except ValueError as error:
        raise ValueError("it is nested more than 200 deep") from error


def _original(error: BaseException) -> BaseException:
    while isinstance(error, PydanticSerializationError) and error.__cause__ is not None:
        error = error.__cause__
    return error
