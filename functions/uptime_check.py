"""Uptime check: asks web addresses, says which are down and why, and what changed since the last check.

A run succeeds when the check was made, whatever it found: the report is its result, and the next run compares with it.
Each target's check is a step: a run that is resumed asks only those that it had no answer of.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self

import httpx
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from autopilot import BaseWorkflow, RunContext, Schedule, WorkflowManifest
from autopilot.errors import StoreError
from functions._history import last_report
from functions._steps import for_each
from functions._web import Exchange, FetchFailed, WebAddress, WebClient, host_of, read_body

MAX_TARGETS = 50
MAX_TARGET_SECONDS = 30
MAX_BODY = 1024 * 1024
"""How many bytes of a body are searched for the expected text."""

MAX_OTHER_TARGETS = 200
FORGET_AFTER = timedelta(days=30)


class Target(BaseModel):
    """One address, and what it must answer to count as up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: WebAddress = Field(description="An http or https address. Redirects are followed, up to 5.")
    name: str = Field(
        default="",
        max_length=100,
        description="What reports call it, and what it is known by from run to run; the address when empty.",
    )
    method: Literal["GET", "HEAD"] = Field(default="GET", description="HEAD asks for no body.")
    status: int | None = Field(
        default=None,
        ge=200,
        le=599,
        description="The one status that is right; with a 3xx, redirects are not followed. Without it, any 2xx is.",
    )
    text: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        default=None, description="What the first MiB of the body must contain."
    )
    timeout_seconds: float = Field(
        default=10, ge=0.1, le=MAX_TARGET_SECONDS, description="For the whole answer, redirects and body included."
    )

    @model_validator(mode="after")
    def _text_needs_a_body(self) -> Self:
        if self.text is not None and self.method == "HEAD":
            raise ValueError("text needs method GET: the answer to HEAD has no body")
        return self

    @property
    def label(self) -> str:
        return self.name or (self.url if len(self.url) <= 200 else f"{self.url[:199]}…")

    @property
    def key(self) -> str:
        """What makes it the same target in another run: its name, or else all that is asked, but not how patiently."""
        asked = self.name or self.model_dump_json(exclude={"timeout_seconds"}, exclude_defaults=True)
        return hashlib.sha256(asked.encode()).hexdigest()[:16]


class UptimeCheckInput(BaseModel):
    """What to check."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    targets: tuple[Target, ...] = Field(
        min_length=1, max_length=MAX_TARGETS, description="Checked at once, ten at a time."
    )
    certificate_warning_days: int = Field(
        default=14, ge=0, le=365, description="A TLS certificate with fewer days left is reported as expiring."
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [target.name for target in self.targets if target.name]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"names of targets must differ: {', '.join(sorted(repeated))} is used twice")
        return self


class KnownTarget(BaseModel):
    """How a target was when it was last checked."""

    key: str
    up: bool
    since: AwareDatetime = Field(description="Start of the run that first found it so.")
    checked_at: AwareDatetime = Field(description="Start of the run that checked it last.")


class TargetReport(KnownTarget):
    """What the check of one target found."""

    name: str
    url: str
    change: Literal["went_down", "came_back"] | None = Field(
        default=None, description="Beside its last check. A target that is down at its first check went down."
    )
    reason: str | None = Field(default=None, description="Why it is down; None when it is up.")
    status_code: int | None = Field(default=None, description="None when there was no answer.")
    latency_ms: int | None = Field(default=None, description="Until the headers of the answer, redirects included.")
    certificate_days_left: int | None = Field(
        default=None, description="Whole days; the fewest, if redirects met several certificates. None without TLS."
    )


class UptimeMemory(BaseModel):
    """The part of a report that the next run reads."""

    targets: list[KnownTarget]
    other_targets: list[KnownTarget]


class UptimeReport(BaseModel):
    """Who is up, who is down, and what changed since the last successful run."""

    summary: str = Field(description="For people: '2 of 3 up; down: shop (the connection was refused)'.")
    up: int
    down: int
    went_down: list[str] = Field(description="Names of targets: down now, and up or unknown before.")
    came_back: list[str] = Field(description="Names of targets: up now, and down before.")
    expiring: list[str] = Field(description="Names of targets whose certificate has fewer days left than wanted.")
    targets: list[TargetReport]
    other_targets: list[KnownTarget] = Field(
        description="From runs with other targets: what they compare with is kept, at most 200 and for 30 days."
    )


class UptimeCheck(BaseWorkflow[UptimeCheckInput, UptimeReport]):
    """Checks web addresses at once; one that is down never fails the others."""

    manifest = WorkflowManifest(
        name="uptime_check",
        display_name="Uptime check",
        description="Asks web addresses for status, text, latency and TLS certificate; reports what went down or came "
        "back.",
        tags=("monitoring",),
        schedules=(
            Schedule(
                name="every-5-minutes",
                cron="*/5 * * * *",
                payload={"targets": [{"url": "https://example.com"}]},
                retries=0,
                max_lateness=timedelta(minutes=5),
            ),
        ),
        # The most patient payload is through in 150 s: 50 targets, ten at a time, 30 s each.
        timeout_seconds=180,
        memory="256Mi",
        alert_without_success_for=timedelta(minutes=30),
    )

    async def execute(self, ctx: RunContext[Any], payload: UptimeCheckInput) -> UptimeReport:
        known = await _known_targets(ctx)
        web = WebClient("autopilot-uptime-check")

        async def check(target: Target) -> _Observation:
            return await _observe(web, target, ctx.now)

        seen = await for_each(ctx, "check", check, payload.targets, label=_step_label, returns=_Observation)
        reports = [
            _compare(target, observation, known.get(target.key), started_at=ctx.started_at)
            for target, observation in zip(payload.targets, seen, strict=True)
        ]
        expiring = [report for report in reports if _expires_within(report, payload.certificate_warning_days)]
        _log_findings(ctx, reports, expiring)
        return UptimeReport(
            summary=_summary(reports),
            up=sum(report.up for report in reports),
            down=sum(not report.up for report in reports),
            went_down=[report.name for report in reports if report.change == "went_down"],
            came_back=[report.name for report in reports if report.change == "came_back"],
            expiring=[report.name for report in expiring],
            targets=reports,
            other_targets=_still_known(known, reports, ctx.started_at),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Observation:
    """What is recorded of the check of one target; see :class:`TargetReport`."""

    reason: str | None
    status_code: int | None
    latency_ms: int | None
    certificate_days_left: int | None


def _step_label(target: Target) -> str:
    return target.name or host_of(target.url)  # the host only: what steps are called is logged


async def _known_targets(ctx: RunContext[Any]) -> Mapping[str, KnownTarget]:
    try:
        memory = await last_report(ctx, UptimeMemory)
    except (StoreError, OSError) as error:
        # Who is down now matters more than since when: the check goes on.
        ctx.log.warning("last_check_unknown", error=str(error))
        return {}
    return {target.key: target for target in (*memory.other_targets, *memory.targets)} if memory is not None else {}


async def _observe(web: WebClient, target: Target, now: Callable[[], datetime]) -> _Observation:
    exchange = Exchange()
    follows = target.status is None or not 300 <= target.status <= 399
    try:
        async with web.request(
            target.method, target.url, seconds=target.timeout_seconds, follow_redirects=follows, exchange=exchange
        ) as response:
            reason = _status_fault(response, target) or await _text_fault(response, target)
    except FetchFailed as failure:
        reason = failure.reason
    expires_at = exchange.certificate_expires_at
    return _Observation(
        reason=reason,
        status_code=exchange.response.status_code if exchange.response is not None else None,
        latency_ms=exchange.latency_ms,
        certificate_days_left=(expires_at - now()).days if expires_at is not None else None,
    )


def _status_fault(response: httpx.Response, target: Target) -> str | None:
    if target.status is None:
        return None if response.is_success else f"answered {response.status_code}, not 2xx"
    return None if response.status_code == target.status else f"answered {response.status_code}, not {target.status}"


async def _text_fault(response: httpx.Response, target: Target) -> str | None:
    if target.text is None:
        return None
    body, is_whole = await read_body(response, MAX_BODY)
    if _encoded(target.text, response.charset_encoding) in body:
        return None
    return f"the expected text is not in {'the body' if is_whole else f'the first {MAX_BODY:,} bytes of the body'}"


def _encoded(text: str, charset: str | None) -> bytes:
    """``text`` as it would stand in a body that says it is in ``charset``; in UTF-8 if that cannot be."""
    try:
        return text.encode(charset or "utf-8")
    except (LookupError, ValueError):
        return text.encode(errors="replace")


def _compare(target: Target, seen: _Observation, before: KnownTarget | None, *, started_at: datetime) -> TargetReport:
    up = seen.reason is None
    change: Literal["went_down", "came_back"] | None = None
    if up and before is not None and not before.up:
        change = "came_back"
    elif not up and (before is None or before.up):
        change = "went_down"
    return TargetReport(
        key=target.key,
        name=target.label,
        url=target.url,
        up=up,
        since=before.since if before is not None and before.up is up else started_at,
        checked_at=started_at,
        change=change,
        reason=seen.reason,
        status_code=seen.status_code,
        latency_ms=seen.latency_ms,
        certificate_days_left=seen.certificate_days_left,
    )


def _expires_within(report: TargetReport, days: int) -> bool:
    return report.certificate_days_left is not None and report.certificate_days_left < days


def _log_findings(ctx: RunContext[Any], reports: list[TargetReport], expiring: list[TargetReport]) -> None:
    for report in reports:
        # The host only: paths and queries are payload, and may hold secrets.
        log = ctx.log.bind(host=host_of(report.url))
        if not report.up:
            log.warning("target_down", reason=report.reason, since=report.since.isoformat(), change=report.change)
        elif report.change == "came_back":
            log.info("target_recovered", latency_ms=report.latency_ms)
    for report in expiring:
        ctx.log.warning(
            "certificate_expiring", host=host_of(report.url), certificate_days_left=report.certificate_days_left
        )


def _summary(reports: list[TargetReport]) -> str:
    down = [f"{report.name} ({report.reason})" for report in reports if not report.up]
    told = f"; down: {', '.join(down[:5])}" if down else ""
    more = f" and {len(down) - 5} more" if len(down) > 5 else ""
    return f"{len(reports) - len(down)} of {len(reports)} up{told}{more}"


def _still_known(
    known: Mapping[str, KnownTarget], reports: list[TargetReport], started_at: datetime
) -> list[KnownTarget]:
    checked = {report.key for report in reports}
    others = [
        target for key, target in known.items() if key not in checked and target.checked_at > started_at - FORGET_AFTER
    ]
    return sorted(others, key=lambda target: target.checked_at, reverse=True)[:MAX_OTHER_TARGETS]
