"""The decision whether and when something that failed is tried again."""

from collections.abc import Callable

from autopilot.core.steps.failures import is_interruption, leaves
from autopilot.errors import NonRetryable, StepFailed
from autopilot.models import Retry


def is_final(error: BaseException, retry: Retry) -> bool:
    """Whether trying again is pointless: the error says so, or the policy names its type or one of its bases.

    A failure of a step is judged by the classes that its body's exception had, a group by its parts: one of them that
    is final fails the next try as well. Interrupted steps among others do not count: they are not begun again.
    """
    if isinstance(error, BaseExceptionGroup):
        parts = [part for part in leaves(error) if not is_interruption(part)]
        return not parts or any(is_final(part, retry) for part in parts)
    if isinstance(error, StepFailed) and error.raised_at is not None:
        return error.caused_by(NonRetryable) or any(error.caused_by(name) for name in retry.not_on)
    if not isinstance(error, Exception) or isinstance(error, NonRetryable):
        return True
    return any(base.__name__ in retry.not_on for base in type(error).__mro__)


def retry_delay(retry: Retry, tries: int, random: Callable[[], float]) -> float | None:
    """The pause in seconds after ``tries`` failed tries, or None when there is to be no other.

    Args:
        random: gives a number from 0 to 1.
    """
    if tries >= retry.attempts:
        return None
    longest = min(
        retry.first_delay.total_seconds() * retry.multiplier ** min(tries - 1, 64), retry.max_delay.total_seconds()
    )
    return random() * longest
