"""Uptime check: request web addresses, report which are down and why, and what has changed since the last check.

A run succeeds when the check was made, whatever it found: the report is its result, and the next run compares with it.
The check of each target is a step: a resumed run requests only the targets that have no recorded answer.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
from pydantic import Field, Json, SecretStr, field_validator

from autopilot import BaseWorkflow, RunContext, Schedule, StepFailed, StoreError, WorkflowManifest
from functions._charsets import page_text
from functions._last_report import last_report
from functions._network import SYSTEM_NETWORK, Network
from functions._optional_steps import for_each, step
from functions._uptime_payload import Target, UptimeCheckInput
from functions._uptime_report import (
    Comparison,
    KnownTarget,
    Observation,
    UptimeMemory,
    UptimeReport,
    announcement,
    compare,
    still_known,
    summary,
)
from functions._web_address import completed_address, host_of, origin_of
from functions._web_client import Exchange, FetchFailed, FetchRefused, WebClient, read_body
from functions._webhook import POST_RETRY, WebhookConfig, post_text

MAX_BODY = 1024 * 1024
"""The bytes of a body that are searched for the expected text."""
SECONDS_BETWEEN_TRIES = 2.0

_ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
"""As a browser sends it: some servers answer 406 to less."""


class UptimeCheckConfig(WebhookConfig):
    """Read from the variables ``UPTIME_CHECK_<FIELD>``."""

    basic_auth: Json[dict[str, SecretStr]] | None = Field(
        default=None,
        description='User names and passwords by host, as JSON: {"https://shop.example.org": "user:password"}. They are '
        "sent to that scheme, host and port only; without a scheme it is https.",
    )

    @field_validator("basic_auth")
    @classmethod
    def _by_origin(cls, value: dict[str, SecretStr] | None) -> dict[str, SecretStr] | None:
        if value is None:
            return None
        if not all(":" in credentials.get_secret_value() for credentials in value.values()):
            raise ValueError("must have a user name, a colon and a password for each host")
        return {origin_of(completed_address(host)): credentials for host, credentials in value.items()}

    def authorization_for(self, address: str) -> str | None:
        """The Authorization header for an address; None if there is nothing for its origin."""
        credentials = (self.basic_auth or {}).get(origin_of(address))
        if credentials is None:
            return None
        return f"Basic {base64.b64encode(credentials.get_secret_value().encode()).decode('ascii')}"


class UptimeCheck(BaseWorkflow[UptimeCheckInput, UptimeReport]):
    """Checks web addresses in parallel; one that is down never fails the others, nor does the webhook."""

    manifest = WorkflowManifest(
        name="uptime_check",
        display_name="Uptime check",
        description="Checks the status, text, latency and TLS certificate of web addresses; reports what went down or "
        "came back, and posts it to a webhook if one is set.",
        tags=("monitoring",),
        schedules=(
            Schedule(
                name="every-5-minutes",
                cron="*/5 * * * *",
                payload={"targets": ["https://example.com"]},
                retries=0,
                max_lateness=timedelta(minutes=5),
            ),
        ),
        # The slowest payload takes 790 s: 50 targets, ten at a time, five tries of 30 s each; the webhook 50 s more.
        timeout_seconds=900,
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

        async def check(target: Target) -> Observation:
            return await _confirmed(ctx, web, target)

        seen = await for_each(ctx, "check", check, payload.targets, label=_step_label, returns=Observation)
        compared = [
            compare(
                target,
                observation,
                known.get(target.key),
                started_at=ctx.started_at,
                warning_days=payload.certificate_warning_days,
            )
            for target, observation in zip(payload.targets, seen, strict=True)
        ]
        _log_findings(ctx, compared)
        return await _report(ctx, web, compared, known)


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


async def _confirmed(ctx: RunContext[UptimeCheckConfig], web: WebClient, target: Target) -> Observation:
    """Check a target until it is up, or was found down as often as it asks for."""
    headers = {"accept": _ACCEPT, **target.headers}
    if target.basic_auth:
        authorization = ctx.config.authorization_for(target.url)
        if authorization is None:
            return _nothing_sent("the secret UPTIME_CHECK_BASIC_AUTH has nothing for this host; nothing was sent")
        headers["authorization"] = authorization
    tries = 1
    while True:
        seen, is_final = await _observe(ctx, web, target, headers)
        if is_final or tries == target.confirm:
            return replace(seen, tries=tries)
        await ctx.clock.sleep(SECONDS_BETWEEN_TRIES)
        tries += 1


def _nothing_sent(reason: str) -> Observation:
    return Observation(reason=reason, status_code=None, latency_ms=None, certificate_days_left=None, tries=0)


async def _observe(
    ctx: RunContext[Any], web: WebClient, target: Target, headers: Mapping[str, str]
) -> tuple[Observation, bool]:
    """Request a target once; the second value is True if another try cannot change the outcome."""
    exchange, is_refused = Exchange(), False
    try:
        async with web.request(
            target.method,
            target.url,
            seconds=target.timeout_seconds,
            follow_redirects=target.follows,
            verify_tls=target.verify_tls,
            headers=headers,
            exchange=exchange,
        ) as response:
            reason = _wrong_status(response, target) or await _missing_text(response, target)
    except FetchFailed as failure:
        reason, is_refused = failure.reason, isinstance(failure, FetchRefused)
    expires_at = exchange.certificate_expires_at
    observation = Observation(
        reason=reason,
        status_code=exchange.response.status_code if exchange.response is not None else None,
        latency_ms=exchange.latency_ms,
        certificate_days_left=(expires_at - ctx.now()).days if expires_at is not None else None,
    )
    return observation, reason is None or is_refused


def _wrong_status(response: httpx.Response, target: Target) -> str | None:
    status = response.status_code
    return None if target.accepts(status) else f"answered {status}, not {target.expected}"


async def _missing_text(response: httpx.Response, target: Target) -> str | None:
    if target.text is None:
        return None
    body, is_whole = await read_body(response, MAX_BODY)
    if target.text in page_text(body, response.charset_encoding):
        return None
    return f"the expected text is not in {'the body' if is_whole else f'the first {MAX_BODY:,} bytes of the body'}"


async def _report(
    ctx: RunContext[UptimeCheckConfig], web: WebClient, compared: list[Comparison], known: Mapping[str, KnownTarget]
) -> UptimeReport:
    webhook, text = ctx.config.webhook_url, announcement(compared)
    posts = webhook is not None and text is not None
    not_posted = await _post(ctx, web, webhook, text) if webhook is not None and text is not None else None
    if not_posted is not None:
        compared = [comparison.unannounced() for comparison in compared]
    reports = [comparison.report for comparison in compared]
    return UptimeReport(
        summary=summary(reports),
        up=sum(report.up for report in reports),
        down=sum(not report.up for report in reports),
        went_down=[report.name for report in reports if report.change == "went_down"],
        came_back=[report.name for report in reports if report.change == "came_back"],
        expiring=[report.name for report in reports if report.expiring],
        began_expiring=[comparison.report.name for comparison in compared if comparison.began_expiring],
        posted=posts and not_posted is None,
        not_posted=not_posted,
        targets=reports,
        other_targets=still_known(known, reports, ctx.started_at),
    )


async def _post(ctx: RunContext[UptimeCheckConfig], web: WebClient, webhook: SecretStr, text: str) -> str | None:
    """Post what changed; return why it could not be posted.

    At most once in this run: if it is cut off, the next run posts what the webhook may not know. Better twice than never.
    """
    try:
        await step(ctx, "post", post_text, ctx, web, webhook, text, retry=POST_RETRY, semantics="at_most_once")
    except StepFailed as failed:
        reason = failed.error
    except FetchFailed as failed:  # without a journal there are no steps
        reason = failed.reason
    else:
        return None
    ctx.log.warning("changes_not_posted", reason=reason)
    return reason


def _log_findings(ctx: RunContext[Any], compared: Sequence[Comparison]) -> None:
    for report in (comparison.report for comparison in compared):
        # The host only: paths and queries are payload, and may hold secrets.
        log = ctx.log.bind(host=host_of(report.url))
        if not report.up:
            log.warning("target_down", reason=report.reason, since=report.since.isoformat(), change=report.change)
        elif report.change == "came_back":
            log.info("target_recovered", latency_ms=report.latency_ms)
        if report.expiring:
            log.warning("certificate_expiring", certificate_days_left=report.certificate_days_left)
