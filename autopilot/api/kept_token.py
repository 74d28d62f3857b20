"""An identity token, used again while it is good."""

from datetime import timedelta

from autopilot.core.clock import Clock

TOKEN_KEPT = timedelta(minutes=30)
"""How long an identity token is used: half of what it is valid for."""


class KeptToken:
    """The latest token of one kind.

    Args:
        clock: tells its age.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: tuple[float, str] | None = None

    def get(self) -> str | None:
        """The token; None: there is none, or none that is young enough."""
        if self._kept is None or self._kept[0] <= self._clock.monotonic():
            return None
        return self._kept[1]

    def keep(self, token: str) -> str:
        """``token``, which was fetched just now."""
        self._kept = (self._clock.monotonic() + TOKEN_KEPT.total_seconds(), token)
        return token
