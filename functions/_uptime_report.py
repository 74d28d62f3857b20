"""What an uptime check found, and what has changed since the last one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime, BaseModel, Field

from functions._mentions import without_mentions
from functions._uptime_payload import Target, shortened
from functions._web_address import without_query

MAX_OTHER_TARGETS = 200
FORGET_AFTER = timedelta(days=30)
MAX_ANNOUNCEMENT = 2000
"""Discord refuses a longer text, just when most targets are down."""
_LISTED = 5
"""The targets that are down which a summary names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The recorded result of one target's step; see :class:`TargetReport`."""

    reason: str | None
    status_code: int | None
    latency_ms: int | None
    certificate_days_left: int | None
    tries: int = 1


class KnownTarget(BaseModel):
    """The state of a target at its last check."""

    key: str
    up: bool
    since: AwareDatetime = Field(description="Start of the run that first found it in this state.")
    checked_at: AwareDatetime = Field(description="Start of the run that last checked it.")
    expiring: bool = Field(default=False, description="Whether its certificate has too few days left, when last seen.")
    announced_up: bool | None = Field(
        default=None, description="Its state as the webhook knows it. None: as it is; there was nothing to post."
    )
    announced_expiring: bool | None = Field(default=None, description="The same for its certificate.")


class TargetReport(KnownTarget):
    """The outcome of one target's check."""

    name: str
    url: str
    change: Literal["went_down", "came_back"] | None = Field(
        default=None, description="Since its last check. A target that is down at its first check went down."
    )
    reason: str | None = Field(default=None, description="Why it is down; None when it is up.")
    status_code: int | None = Field(default=None, description="None when there was no answer.")
    latency_ms: int | None = Field(default=None, description="Until the headers of the answer, with redirects.")
    certificate_days_left: int | None = Field(
        default=None,
        description="Whole days, negative once it has expired; the fewest, if redirects met several certificates. None "
        "without TLS.",
    )
    tries: int = Field(default=1, description="The requests of this check; the last one is reported.")


class UptimeMemory(BaseModel):
    """The part of a report that the next run reads."""

    targets: list[KnownTarget]
    other_targets: list[KnownTarget]


class UptimeReport(BaseModel):
    """The state of all targets, and the changes since the last successful run."""

    summary: str = Field(description="For people: '2 of 3 up; down: shop (the connection was refused)'.")
    up: int
    down: int
    went_down: list[str] = Field(description="Names of targets: down now, and up or unknown before.")
    came_back: list[str] = Field(description="Names of targets: up now, and down before.")
    expiring: list[str] = Field(description="Names of targets whose certificate has expired or has too few days left.")
    began_expiring: list[str] = Field(default=[], description="Names of those that were not expiring before.")
    posted: bool = Field(default=False, description="True if there was a change and the webhook accepted it.")
    not_posted: str | None = Field(
        default=None, description="Why the webhook did not accept what changed. The next run posts it again."
    )
    targets: list[TargetReport]
    other_targets: list[KnownTarget] = Field(
        description="Targets of other runs, kept for their next comparison: at most 200, for 30 days."
    )


@dataclass(frozen=True, slots=True)
class Comparison:
    """A target's report beside what was known of it before."""

    report: TargetReport
    before: KnownTarget | None

    @property
    def began_expiring(self) -> bool:
        return self.report.expiring and (self.before is None or not self.before.expiring)

    @property
    def news(self) -> str | None:
        """A line on what the webhook does not know yet; None if it knows everything."""
        now, known_up, known_expiring = self.report, self._known_up(), self._known_expiring()
        parts = []
        if now.up is not known_up:
            parts.append(f"down: {now.reason}" if not now.up else "up again")
        if now.expiring and not known_expiring and now.certificate_days_left is not None:
            parts.append(_expiry(now.certificate_days_left))
        return f"{_shown(now)}: {'; '.join(parts)}" if parts else None

    def unannounced(self) -> "Comparison":
        """The comparison for a run whose news could not be posted: the webhook knows what it knew before."""
        known = {"announced_up": self._known_up(), "announced_expiring": self._known_expiring()}
        return Comparison(self.report.model_copy(update=known), self.before)

    def _known_up(self) -> bool:
        if self.before is None:
            return True
        return self.before.up if self.before.announced_up is None else self.before.announced_up

    def _known_expiring(self) -> bool:
        if self.before is None:
            return False
        known = self.before.announced_expiring
        return self.before.expiring if known is None else known


def compare(
    target: Target, seen: Observation, before: KnownTarget | None, *, started_at: datetime, warning_days: int
) -> Comparison:
    """Report what was seen of a target, and since when it is so."""
    up = seen.reason is None
    change: Literal["went_down", "came_back"] | None = None
    if up and before is not None and not before.up:
        change = "came_back"
    elif not up and (before is None or before.up):
        change = "went_down"
    days_left = seen.certificate_days_left
    report = TargetReport(
        key=target.key,
        name=target.label,
        url=target.url,
        up=up,
        since=before.since if before is not None and before.up is up else started_at,
        checked_at=started_at,
        # A host that does not answer shows no certificate: it has not been renewed for that.
        expiring=days_left < warning_days if days_left is not None else before is not None and before.expiring,
        change=change,
        reason=seen.reason,
        status_code=seen.status_code,
        latency_ms=seen.latency_ms,
        certificate_days_left=days_left,
        tries=seen.tries,
    )
    return Comparison(report, before)


def summary(reports: Sequence[TargetReport]) -> str:
    """The state of all targets in one line."""
    down = [f"{report.name} ({report.reason})" for report in reports if not report.up]
    listed = f"; down: {', '.join(down[:_LISTED])}" if down else ""
    more = f" and {len(down) - _LISTED} more" if len(down) > _LISTED else ""
    return f"{len(reports) - len(down)} of {len(reports)} up{listed}{more}"


def announcement(comparisons: Sequence[Comparison]) -> str | None:
    """The text for the webhook: a line on each target of which it does not know everything; None if there is none.

    It takes at most :data:`MAX_ANNOUNCEMENT` characters: of the lines that do not fit in, it says how many there are.
    """
    lines = [without_mentions(comparison.news) for comparison in comparisons if comparison.news is not None]
    if not lines:
        return None
    up = sum(comparison.report.up for comparison in comparisons)
    heading = f"Uptime check: {up} of {len(comparisons)} up"
    text = "\n".join([heading, *lines])
    shown = len(lines)
    while len(text) > MAX_ANNOUNCEMENT:
        shown -= 1
        text = "\n".join([heading, *lines[:shown], f"{len(lines) - shown} more: see the run"])
    return text


def still_known(
    known: Mapping[str, KnownTarget], reports: Sequence[TargetReport], started_at: datetime
) -> list[KnownTarget]:
    """The targets of other runs that the next run needs to know, the latest first."""
    checked = {report.key for report in reports}
    others = [
        target for key, target in known.items() if key not in checked and target.checked_at > started_at - FORGET_AFTER
    ]
    return sorted(others, key=lambda target: target.checked_at, reverse=True)[:MAX_OTHER_TARGETS]


def _shown(report: TargetReport) -> str:
    if not report.name.startswith(("http://", "https://")):
        return report.name
    # A label without a name is the address, whose query may hold a secret.
    return shortened(without_query(report.url))


def _expiry(days: int) -> str:
    if days < 0:
        return "its TLS certificate has expired"
    if days == 0:
        return "its TLS certificate expires within a day"
    return f"its TLS certificate expires in {days} {'day' if days == 1 else 'days'}"
