"""A step as its author asks for it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from autopilot.core.clock import Clock, Timeout
from autopilot.core.steps.results import ResultType
from autopilot.models import Retry

Semantics = Literal["at_least_once", "at_most_once"]

NO_RETRY = Retry()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """How a step is executed."""

    retry: Retry = NO_RETRY
    semantics: Semantics = "at_least_once"
    timeout: timedelta | None = None
    returns: Any = None
    """The result's type; None: the body's return annotation says."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step that is being executed."""

    key: str
    body: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: StepOptions
    results: ResultType

    @property
    def is_at_most_once(self) -> bool:
        """Whether its body is never begun twice."""
        return self.options.semantics == "at_most_once"


class BodyTimeout:
    """The timeout of one execution of a body, from when it begins."""

    def __init__(self, clock: Clock, timeout: timedelta | None) -> None:
        self.seconds = math.inf if timeout is None else timeout.total_seconds()
        self._clock = clock
        self._timeout: Timeout | None = None

    def begin(self, began: float) -> Timeout:
        """The limit on a body that began at a time by ``clock.monotonic()``."""
        left = None if self.seconds == math.inf else self.seconds - (self._clock.monotonic() - began)
        self._timeout = self._clock.timeout(left)
        return self._timeout

    @property
    def is_over(self) -> bool:
        """Whether the body was cut off."""
        return self._timeout is not None and self._timeout.expired()
