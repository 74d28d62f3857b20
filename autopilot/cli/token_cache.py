"""A cache of one identity token, for one that gcloud prints and says nothing about."""

from datetime import timedelta

from autopilot.core.clock import Clock

TOKEN_KEPT = timedelta(minutes=30)
"""How long an identity token is used: half of its validity."""


class TokenCache:
    """Caches one identity token for 30 minutes.

    google-auth refreshes its own credentials by itself, but those of a person at a terminal give no identity token
    for an audience: it comes from ``gcloud``, which takes a second each time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: tuple[float, str] | None = None

    def get(self) -> str | None:
        """The token; None: there is none that is young enough."""
        if self._kept is None or self._kept[0] <= self._clock.monotonic():
            return None
        return self._kept[1]

    def keep(self, token: str) -> str:
        """Keep ``token``, which was fetched just now, and return it."""
        self._kept = (self._clock.monotonic() + TOKEN_KEPT.total_seconds(), token)
        return token
