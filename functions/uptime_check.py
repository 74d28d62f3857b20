"""Uptime check: request web addresses, report which are down and why, and what has changed since the last check.

A run succeeds when the check was made, whatever it found: the report is its result, and the next run compares with it.
The check of each target is a step: a resumed run requests only the targets that have no recorded answer.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self

import httpx
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from autopilot import BaseWorkflow, RunContext, Schedule, StoreError, WorkflowManifest
from functions._last_report import last_report
from functions._network import SYSTEM_NETWORK, Network
from functions._optional_steps import for_each
from functions._web_address import WebAddress, host_of
from functions._web_client import Exchange, FetchFailed, WebClient, WebConfig, read_body

MAX_TARGETS = 50
MAX_TARGET_SECONDS = 30
MAX_BODY = 1024 * 1024
"""The bytes of a body that are searched for the expected text."""

MAX_OTHER_TARGETS = 200
FORGET_AFTER = timedelta(days=30)


class Target(BaseModel):
    """One address, and the answer that makes it count as up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: WebAddress = Field(description="An http or https address. Redirects are followed, up to 5.")
    name: str = Field(
        default="",
        max_length=100,
        description="Its name in reports, which identifies it from run to run; the address when empty.",
    )
    method: Literal["GET", "HEAD"] = Field(default="GET", description="HEAD requests no body.")
    status: int | None = Field(
        default=None,
        ge=200,
        le=599,
        description="The expected status; with a 3xx, redirects are not followed. By default, any 2xx.",
    )
    text: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        default=None, description="Text that the first MiB of the body must contain."
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
        """Identifies the target in other runs: a digest of its name, or of every field but the timeout."""
        asked = self.name or self.model_dump_json(exclude={"timeout_seconds"}, exclude_defaults=True)
        return hashlib.sha256(asked.encode()).hexdigest()[:16]


class UptimeCheckInput(BaseModel):
    """The targets to check."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    targets: tuple[Target, ...] = Field(
        min_length=1, max_length=MAX_TARGETS, description="Checked in parallel, ten at a time."
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
    """The state of a target at its last check."""

    key: str
    up: bool
    since: AwareDatetime = Field(description="Start of the run that first found it in this state.")
    checked_at: AwareDatetime = Field(description="Start of the run that last checked it.")


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
        default=None, description="Whole days; the fewest, if redirects met several certificates. None without TLS."
    )


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
    expiring: list[str] = Field(description="Names of targets whose certificate has too few days left.")
    targets: list[TargetReport]
    other_targets: list[KnownTarget] = Field(
        description="Targets of other runs, kept for their next comparison: at most 200, for 30 days."
    )


class UptimeCheckConfig(WebConfig):
    """Read from the variables ``UPTIME_CHECK_<FIELD>``."""


class UptimeCheck(BaseWorkflow[UptimeCheckInput, UptimeReport]):
    """Checks web addresses in parallel; one that is down never fails the others."""

    manifest = WorkflowManifest(
        name="uptime_check",
        display_name="Uptime check",
        description="Checks the status, text, latency and TLS certificate of web addresses; reports what went down or "
        "came back.",
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
        # The slowest payload takes 150 s: 50 targets, ten at a time, 30 s each.
        timeout_seconds=180,
        memory="256Mi",
        alert_without_success_for=timedelta(minutes=30),
    )

    Config = UptimeCheckConfig

    def __init__(self, *, run_log: Any = None, network: Network = SYSTEM_NETWORK) -> None:
        super().__init__(run_log=run_log)
        self._network = network

    async def execute(self, ctx: RunContext[UptimeCheckConfig], payload: UptimeCheckInput) -> UptimeReport:
        known = await _known_targets(ctx)
        web = WebClient.of_run("autopilot-uptime-check", ctx, self._network)

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
    """The recorded result of one target's step; see :class:`TargetReport`."""

    reason: str | None
    status_code: int | None
    latency_ms: int | None
    certificate_days_left: int | None


def _step_label(target: Target) -> str:
    return target.name or host_of(target.url)  # the host only: step names are logged


async def _known_targets(ctx: RunContext[Any]) -> Mapping[str, KnownTarget]:
    try:
        memory = await last_report(ctx, UptimeMemory)
    except (StoreError, OSError) as error:
        # Which targets are down now matters more than since when.
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
            reason = _wrong_status(response, target) or await _missing_text(response, target)
    except FetchFailed as failure:
        reason = failure.reason
    expires_at = exchange.certificate_expires_at
    return _Observation(
        reason=reason,
        status_code=exchange.response.status_code if exchange.response is not None else None,
        latency_ms=exchange.latency_ms,
        certificate_days_left=(expires_at - now()).days if expires_at is not None else None,
    )


def _wrong_status(response: httpx.Response, target: Target) -> str | None:
    if target.status is None:
        return None if response.is_success else f"answered {response.status_code}, not 2xx"
    return None if response.status_code == target.status else f"answered {response.status_code}, not {target.status}"


async def _missing_text(response: httpx.Response, target: Target) -> str | None:
    if target.text is None:
        return None
    body, is_whole = await read_body(response, MAX_BODY)
    if _encoded(target.text, response.charset_encoding) in body:
        return None
    return f"the expected text is not in {'the body' if is_whole else f'the first {MAX_BODY:,} bytes of the body'}"


def _encoded(text: str, charset: str | None) -> bytes:
    """Encode ``text`` in the body's declared ``charset``; in UTF-8 if that is unknown or cannot hold it."""
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
    listed = f"; down: {', '.join(down[:5])}" if down else ""
    more = f" and {len(down) - 5} more" if len(down) > 5 else ""
    return f"{len(reports) - len(down)} of {len(reports)} up{listed}{more}"


def _still_known(
    known: Mapping[str, KnownTarget], reports: list[TargetReport], started_at: datetime
) -> list[KnownTarget]:
    checked = {report.key for report in reports}
    others = [
        target for key, target in known.items() if key not in checked and target.checked_at > started_at - FORGET_AFTER
    ]
    return sorted(others, key=lambda target: target.checked_at, reverse=True)[:MAX_OTHER_TARGETS]
