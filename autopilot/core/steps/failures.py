"""Failures of steps: recorded, raised again from the record, and traced back from what failed a run."""

from collections.abc import Iterator

from autopilot.core.runs.limits import cut_error, text_of
from autopilot.core.store import StepRecord
from autopilot.errors import MapFailed, StepFailed, StepInterrupted, StepTimeout, class_name
from autopilot.models import StepStatus

_KINDS: dict[str, type[StepFailed]] = {class_name(kind): kind for kind in (StepTimeout, StepInterrupted)}

_CLASSES_KEPT = 30

_INTERRUPTED = "interrupted; it runs at most once, so it was not retried. Check whether it took effect"


def failure_fields(error: BaseException) -> tuple[str, str, tuple[str, ...]]:
    """The type, the text and the class names of an error as they are recorded.

    Of a failure of a step that passed through other code these are the original's.
    """
    if isinstance(error, StepFailed) and not isinstance(error, MapFailed):
        return error.error_type, error.error, error.classes
    classes = _names_of(type(error))
    if isinstance(error, MapFailed):
        classes = tuple(dict.fromkeys((*error.classes, *classes)))
    return type(error).__name__, cut_error(text_of(error)), classes


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
        if isinstance(current, StepFailed):
            yield current
            continue
        if isinstance(current, BaseExceptionGroup):
            left.extend(current.exceptions)
        if current.__cause__ is not None:
            left.append(current.__cause__)
        elif not current.__suppress_context__:
            left.append(current.__context__)


def _names_of(cls: type[BaseException]) -> tuple[str, ...]:
    return tuple(class_name(base) for base in cls.__mro__[:_CLASSES_KEPT] if base is not object)
