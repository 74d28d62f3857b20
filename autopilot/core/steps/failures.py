"""Failures of steps: recorded, raised again from the record, and traced back from what failed a run."""

from collections.abc import Iterator
from itertools import islice

from autopilot.core.runs.limits import cut_error, text_of
from autopilot.core.store import StepRecord
from autopilot.errors import MapFailed, StepFailed, StepInterrupted, StepTimeout, class_name
from autopilot.models import StepStatus
from autopilot.observability import traceback_text

_KINDS: dict[str, type[StepFailed]] = {class_name(kind): kind for kind in (StepTimeout, StepInterrupted)}

_CLASSES_KEPT = 30
_PARTS_LOOKED_AT = 100

_INTERRUPTED = "interrupted; it runs at most once, so it was not retried. Check whether it took effect"


_NAME_LIMIT = 300
"""Bytes of a class's name that are recorded."""


class UnreadableError(Exception):
    """Stands for an exception that cannot be examined: its class and its attributes are an author's code too."""

    def __init__(self, failure: BaseException) -> None:
        super().__init__(f"an exception that cannot be examined: doing so raised {type(failure).__name__}")


def readable(error: BaseException) -> BaseException:
    """``error``, or what stands for it if it cannot be examined. Whatever examines an author's error asks here first."""
    try:
        failure_fields(error)
        step_failures(error)
        traceback_text(error)
    except BaseException as failure:  # noqa: BLE001 - the run boundary: whatever an author's error does when it is read
        return UnreadableError(failure)
    return error


def is_interruption(error: BaseException) -> bool:
    """Whether an error is the engine's word that an at-most-once step was cut off."""
    return isinstance(error, StepInterrupted) and error.raised_at is not None


def failure_fields(error: BaseException) -> tuple[str, str, tuple[str, ...]]:
    """The type, the text and the class names of an error as they are recorded.

    Of a failure of a step that passed through other code these are the original's. The classes of a group's parts are
    among its own, as those of a fan-out's items are.
    """
    if isinstance(error, StepFailed) and error.raised_at is not None and not isinstance(error, MapFailed):
        return error.error_type, error.error, error.classes
    classes = _names_of(type(error))
    if isinstance(error, BaseExceptionGroup):
        parts = (failure_fields(part)[2] for part in islice(leaves(error), _PARTS_LOOKED_AT))
        classes = tuple(dict.fromkeys((*classes, *(each for part in parts for each in part))))[: 2 * _CLASSES_KEPT]
    name = cut_error(str(type(error).__name__), _NAME_LIMIT)
    if isinstance(error, MapFailed) and error.raised_at is not None:
        classes = tuple(dict.fromkeys((*error.classes, *classes)))
    return name, cut_error(text_of(error)), classes


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors that a group, or a group of groups, is made of; else ``error``."""
    left = [error]
    while left:  # no recursion: groups can be nested deeper than Python's stack
        current = left.pop()
        if isinstance(current, BaseExceptionGroup):
            left.extend(current.exceptions)
        else:
            yield current


def timed_out(key: str, seconds: float) -> StepTimeout:
    """The failure of a step whose body took longer than its timeout."""
    return StepTimeout(key, "StepTimeout", f"stopped after {seconds:g} s, its timeout", classes=_names_of(StepTimeout))


def interrupted(key: str) -> StepInterrupted:
    """The failure of an at-most-once step that was cut off."""
    return StepInterrupted(key, "StepInterrupted", _INTERRUPTED, classes=_names_of(StepInterrupted))


def failure_of(record: StepRecord) -> StepFailed:
    """The failure that a record tells of."""
    error_type, error = record.error_type or "", record.error or ""
    if record.status is StepStatus.INTERRUPTED:
        return interrupted(record.key)
    kind = next((_KINDS[name] for name in record.error_classes[:1] if name in _KINDS), StepFailed)
    if error_type != kind.__name__:  # a fan-out's: the first class is that of an item's error
        kind = StepFailed
    return kind(record.key, error_type, error, classes=record.error_classes)


def step_failures(error: BaseException | None, handled: BaseException | None = None) -> list[StepFailed]:
    """The failures of steps that an error goes back to.

    Its causes are followed, else the errors in whose handling it was raised, and the parts of groups; each path ends at
    its first failure of a step.

    Args:
        handled: the error in whose handling the body that raised ``error`` was begun: it is none of its causes.
    """
    return list(dict.fromkeys(_walk(error, {id(handled)})))


def _walk(error: BaseException | None, seen: set[int]) -> Iterator[StepFailed]:
    left = [error]
    while left:
        current = left.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, StepFailed) and current.raised_at is not None:
            yield current
            continue
        if isinstance(current, BaseExceptionGroup):
            left.extend(current.exceptions)
        if current.__cause__ is not None:
            left.append(current.__cause__)
        elif not current.__suppress_context__:
            left.append(current.__context__)


def _names_of(cls: type[BaseException]) -> tuple[str, ...]:
    return tuple(cut_error(class_name(base), _NAME_LIMIT) for base in cls.__mro__[:_CLASSES_KEPT] if base is not object)
