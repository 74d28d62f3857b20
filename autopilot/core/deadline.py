"""How long a call to a store may take, handed down from the code that limits the call to the store that makes it.

A store has a deadline of its own, but no idea of the invocation that it works for. Cancelling its calls from outside is
not enough: it would wait for a lock that will not be free in time, or for an answer without a second try. So whoever
limits a call also says so in a context variable, and the store plans its waits and tries within what is left::

    invocation  ├──────────────────────────────────── deadline ───────────────────────────────────┤
    one call          ├────────── store_call ──────────┤
    the store         ├─ try ─┤├─ try ─┤├─── try ───┤ gives up by itself, and says why
"""

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar

from autopilot.core.clock import Clock
from autopilot.errors import StoreUnavailable

STORE_SECONDS = 10.0
"""The longest that one call of a store is waited for."""

_OWN_REASON = 0.95
"""The share of a call's time that its store has, so that it gives up first and says why."""

_DEADLINE: ContextVar[tuple[Clock, float] | None] = ContextVar("autopilot_deadline", default=None)


def seconds_left() -> float:
    """The seconds until the deadline of the code that calls this; infinite without one, not positive past it.

    A store asks when a call begins, and takes the smaller of this and its own deadline.
    """
    handed_down = _DEADLINE.get()
    if handed_down is None:
        return math.inf
    clock, ends_at = handed_down
    return ends_at - clock.monotonic()


@contextmanager
def deadline(clock: Clock, ends_at: float) -> Iterator[None]:
    """Hand a deadline down to every store call in the body, and in the tasks and threads that the body starts.

    It takes the place of an outer one, and cancels nothing.

    Args:
        clock: measures it.
        ends_at: by ``clock.monotonic()``.
    """
    token = _DEADLINE.set((clock, ends_at))
    try:
        yield
    finally:
        with suppress(ValueError):  # the coroutine is closed from another context; its own is gone
            _DEADLINE.reset(token)


@asynccontextmanager
async def store_call(
    clock: Clock, seconds: float, store: str, doing: str, *, at_least: float = 0.0
) -> AsyncIterator[None]:
    """Limit a store call to ``seconds`` or to what is left until the caller's deadline, whichever is less.

    Args:
        store: its name in errors.
        doing: for error messages.
        at_least: the seconds that the call has even when the caller's time is up.

    Raises:
        StoreUnavailable: the time was up, or nothing was left of it.
    """
    seconds = max(at_least, min(seconds, seconds_left()))
    if seconds <= 0:
        raise StoreUnavailable(store, doing, "no time is left for it")
    limit = clock.timeout(seconds)
    try:
        async with limit:
            with deadline(clock, clock.monotonic() + seconds * _OWN_REASON):
                yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise StoreUnavailable(store, doing, f"no answer within {seconds:.3g} s") from error


def store_seconds(timeout_seconds: float) -> float:
    """The longest that one call of the store may take, in an invocation of ``timeout_seconds``.

    As much is kept free for writing the ending. Saving what was not, reading the past, the start and the ending: with a
    store that hangs at each of them there is still time left for the work itself.
    """
    return min(STORE_SECONDS, timeout_seconds / 5)
