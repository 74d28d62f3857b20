"""Feed digest: what is new in RSS and Atom feeds since the last digest, as Markdown, optionally posted to a webhook.

What was listed is remembered in the run's result. A digest that could not be posted fails the run, and the next run
goes on from the last successful one: an entry may be posted twice, but none is lost.

What a digest is made of is recorded, step by step: what was remembered, what each feed had, that the digest was posted.
A run that is resumed makes the same digest, reads only the feeds that it had not read, and posts nothing again that is
known to have been posted.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated
from urllib.parse import urlsplit

import httpx
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, field_validator

from autopilot import BaseWorkflow, Retry, RunContext, Schedule, WorkflowManifest
from functions._feeds import Entry, FeedUnreadable, parse_feed, plain_text, short_digest
from functions._history import last_report
from functions._markdown import MarkdownPage, in_markdown, link
from functions._steps import for_each, step
from functions._web import FetchFailed, WebAddress, WebClient, checked_address, host_of, read_body

MAX_FEEDS = 20
MAX_FEED_SECONDS = 30
MAX_FEED_BYTES = 4 * 1024 * 1024
WEBHOOK_SECONDS = 15
POST_RETRY = Retry(attempts=3, first_delay=timedelta(seconds=2))

# What a report may hold, so that it stays well under the limit of a result (384 KiB) with the most hostile feeds.
MAX_DIGEST_BYTES = 64 * 1024
"""Entries that would pass it wait for the next digest."""
MAX_SEEN = 256
"""Entries remembered of each feed; more than are looked at, so that what is still in a feed is never forgotten."""
MAX_REMEMBERED_FEEDS = 40
FORGET_AFTER = timedelta(days=90)

_VALIDATOR = re.compile(r"[ -~]{1,256}")


class FeedDigestInput(BaseModel):
    """Which feeds to read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    feeds: tuple[WebAddress, ...] = Field(
        min_length=1, max_length=MAX_FEEDS, description="Addresses of RSS or Atom feeds, read at once."
    )
    title: Annotated[str, Field(min_length=1, max_length=100)] = Field(
        default="Feed digest", description="The digest's heading."
    )
    first_entries: int = Field(
        default=5, ge=0, le=100, description="How many entries of a feed are new when it is read for the first time."
    )
    max_entries: int = Field(
        default=20, ge=1, le=100, description="How many entries of one feed a digest lists; more wait for the next."
    )
    timeout_seconds: float = Field(
        default=15, ge=0.1, le=MAX_FEED_SECONDS, description="For the whole answer of each feed, redirects included."
    )


class FeedReport(BaseModel):
    """What came of one feed."""

    url: str
    title: str
    listed: int = Field(description="New entries in the digest.")
    waiting: int = Field(description="New entries that come with the next digest.")
    error: str | None = Field(default=None, description="Why it could not be read.")


class RememberedFeed(BaseModel):
    """What the next run must know of a feed."""

    key: str = Field(description="A digest of its address.")
    seen: list[str] | None = Field(default=None, description="Digests of entries; None until it was read once.")
    etag: str | None = None
    last_modified: str | None = None
    failing_since: AwareDatetime | None = None
    asked_at: AwareDatetime


class FeedMemory(BaseModel):
    """The part of a report that the next run reads."""

    remembered: list[RememberedFeed]


class FeedDigestReport(FeedMemory):
    """The digest, and what is remembered for the next one."""

    digest: str = Field(description="Markdown.")
    new_entries: int
    broken_feeds: int
    posted: bool = Field(description="Whether the webhook took the digest.")
    feeds: list[FeedReport]


class DigestNotPosted(Exception):
    """The webhook did not take the digest; what is new stays new. The reason never holds the webhook's address."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the digest could not be posted to the webhook: {reason}")
        self.reason = reason


class FeedDigestConfig(BaseModel):
    """Read from the variables ``FEED_DIGEST_<FIELD>``."""

    webhook_url: SecretStr | None = Field(
        default=None, description='Where digests are posted, as JSON: {"text": ...}. None: nowhere.'
    )

    @field_validator("webhook_url")
    @classmethod
    def _is_web_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            checked_address(value.get_secret_value())
        return value


class FeedDigest(BaseWorkflow[FeedDigestInput, FeedDigestReport]):
    """Reads feeds at once and digests what is new; a broken feed is reported and never stops the others.

    A run in which every feed is broken succeeds too: its digest says so. A digest is posted when it lists an entry or
    a feed that was not broken before, so that a feed that stays broken is not told of every time.
    """

    manifest = WorkflowManifest(
        name="feed_digest",
        display_name="Feed digest",
        description="Lists what is new in RSS and Atom feeds as Markdown, and posts it to a webhook if one is set.",
        tags=("digest",),
        schedules=(
            Schedule(
                name="every-morning",
                cron="0 7 * * *",
                payload={"feeds": ["https://github.com/python/cpython/releases.atom"]},
            ),
        ),
        alert_without_success_for=timedelta(hours=26),
    )
    Config = FeedDigestConfig

    async def execute(self, ctx: RunContext[FeedDigestConfig], payload: FeedDigestInput) -> FeedDigestReport:
        memory = await step(ctx, "remember", _last_memory, ctx)
        known = {feed.key: feed for feed in memory.remembered} if memory is not None else {}
        web = WebClient("autopilot-feed-digest")
        readings = await _read_feeds(ctx, web, payload, known)
        digest, sections = _write_digest(readings, payload, ctx.started_at)
        broken = [reading for reading in readings if reading.error is not None]
        for reading in broken:
            # The host only: paths and queries are payload, and may hold secrets.
            ctx.log.warning("feed_broken", host=host_of(reading.address), reason=reading.error)
        new_entries = sum(len(section.listed) for section in sections)
        is_news = new_entries > 0 or any(reading.before.failing_since is None for reading in broken)
        webhook = ctx.config.webhook_url if is_news else None
        if webhook is not None:
            await step(ctx, "post", _post, ctx, web, webhook, digest, retry=POST_RETRY)
        ctx.log.info("digest_made", new_entries=new_entries, broken_feeds=len(broken), posted=webhook is not None)
        return FeedDigestReport(
            digest=digest,
            new_entries=new_entries,
            broken_feeds=len(broken),
            posted=webhook is not None,
            feeds=[section.report() for section in sections],
            remembered=_remembered(sections, known, ctx.started_at),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _News:
    """What a digest needs of a feed that was read."""

    title: str
    keys: tuple[str, ...]
    """Of all its entries, newest first."""
    new: tuple[Entry, ...]
    """Those that no digest has listed, newest first: as many as one digest may list."""
    more: tuple[str, ...]
    """The keys of the others that no digest has listed."""
    etag: str | None
    last_modified: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Findings:
    """What is recorded of asking for one feed: far less than its bytes, and well under the limit of a step's result."""

    error: str | None = None
    news: _News | None = None
    """None if the feed is broken, or unchanged since it was read last."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """What came of asking for one feed, and what was known of it."""

    address: str
    before: RememberedFeed
    findings: _Findings

    @property
    def error(self) -> str | None:
        return self.findings.error

    @property
    def title(self) -> str:
        return self.findings.news.title if self.findings.news is not None else ""


@dataclass(frozen=True, slots=True)
class _Section:
    """The part of one feed in the digest: its new entries, newest first, as far as there is room."""

    reading: _Reading
    listed: tuple[Entry, ...]
    waiting: tuple[str, ...]
    """Keys of entries that stay new, for the next digest."""

    def report(self) -> FeedReport:
        return FeedReport(
            url=self.reading.address,
            title=self.reading.title,
            listed=len(self.listed),
            waiting=len(self.waiting),
            error=self.reading.error,
        )

    def remembered(self, started_at: datetime) -> RememberedFeed:
        before, news = self.reading.before, self.reading.findings.news
        if self.reading.error is not None:
            return before.model_copy(update={"failing_since": before.failing_since or started_at})
        if news is None:
            return before.model_copy(update={"failing_since": None, "asked_at": started_at})
        waiting = set(self.waiting)
        current = [key for key in news.keys if key not in waiting]
        return RememberedFeed(
            key=before.key,
            seen=list(dict.fromkeys([*current, *(before.seen or ())]))[:MAX_SEEN],
            # While entries wait the feed is read again in any case: "not modified" would hide them.
            etag=None if waiting else news.etag,
            last_modified=None if waiting else news.last_modified,
            asked_at=started_at,
        )


async def _last_memory(ctx: RunContext[FeedDigestConfig]) -> FeedMemory | None:
    return await last_report(ctx, FeedMemory)


async def _read_feeds(
    ctx: RunContext[FeedDigestConfig], web: WebClient, payload: FeedDigestInput, known: Mapping[str, RememberedFeed]
) -> list[_Reading]:
    before = {
        address: known.get(key) or RememberedFeed(key=key, asked_at=ctx.started_at)
        for address, key in ((address, short_digest(address)) for address in payload.feeds)
    }
    one_at_a_time = asyncio.Lock()

    async def read(address: str) -> _Findings:
        try:
            body = await _fetch(web, address, before[address], payload.timeout_seconds)
            if body is None:
                return _Findings()
            # In a thread: it would hold the loop while the time of those that are on their way runs.
            async with one_at_a_time:
                return _Findings(news=await asyncio.to_thread(_news, body, before[address], payload))
        except (FetchFailed, FeedUnreadable) as unreadable:
            return _Findings(error=str(unreadable))

    addresses = list(before)
    found = await for_each(ctx, "read", read, addresses, label=host_of, returns=_Findings)
    return [_Reading(address, before[address], findings) for address, findings in zip(addresses, found, strict=True)]


@dataclass(frozen=True, slots=True)
class _Body:
    content: bytes
    headers: httpx.Headers
    came_from: str


async def _fetch(web: WebClient, address: str, before: RememberedFeed, seconds: float) -> _Body | None:
    """The feed's bytes, or None: it is unchanged.

    Raises:
        FetchFailed: why there are none.
    """
    conditions = {"if-none-match": before.etag, "if-modified-since": before.last_modified}
    headers = {name: value for name, value in conditions.items() if value}
    async with web.request("GET", address, seconds=seconds, headers=headers) as response:
        if response.status_code == httpx.codes.NOT_MODIFIED and headers:
            return None
        if response.status_code != httpx.codes.OK:
            raise FetchFailed(f"answered {response.status_code}, not 200")
        content, is_whole = await read_body(response, MAX_FEED_BYTES)
        if not is_whole:
            raise FetchFailed(f"it is over {MAX_FEED_BYTES:,} bytes")
        return _Body(content, response.headers, str(response.url))


def _news(body: _Body, before: RememberedFeed, payload: FeedDigestInput) -> _News:
    headers = body.headers
    feed = parse_feed(body.content, address=body.came_from, content_type=headers.get("content-type", ""))
    if before.seen is None:
        new = feed.entries[: payload.first_entries]
    else:
        seen = set(before.seen)
        new = tuple(entry for entry in feed.entries if entry.key not in seen)
    return _News(
        title=feed.title,
        keys=tuple(entry.key for entry in feed.entries),
        new=new[: payload.max_entries],
        more=tuple(entry.key for entry in new[payload.max_entries :]),
        etag=_sendable(headers.get("etag")),
        last_modified=_sendable(headers.get("last-modified")),
    )


def _sendable(validator: str | None) -> str | None:
    """What a server gave to ask with next time, if it is fit to be remembered and sent."""
    return validator if validator is not None and _VALIDATOR.fullmatch(validator) else None


def _write_digest(
    readings: list[_Reading], payload: FeedDigestInput, started_at: datetime
) -> tuple[str, list[_Section]]:
    page = MarkdownPage(f"# {in_markdown(plain_text(payload.title))}, {started_at.date()}", MAX_DIGEST_BYTES)
    sections = [_write_section(page, reading) for reading in readings]
    if not any(section.listed for section in sections):
        page.add("Nothing new.")
    broken = [reading for reading in readings if reading.error is not None]
    if broken:
        page.add("## Could not be read")
        page.add(*(f"- {_shown(reading.address)}: {in_markdown(reading.error or '')}" for reading in broken))
    return page.text, sections


def _write_section(page: MarkdownPage, reading: _Reading) -> _Section:
    news = reading.findings.news
    if news is None:
        return _Section(reading, (), ())
    lines: list[str] = []
    for entry in news.new:
        line = _line(entry)
        if not page.has_room_for(line):
            break
        lines.append(line)
    left_out = tuple(entry.key for entry in news.new[len(lines) :])
    section = _Section(reading, news.new[: len(lines)], left_out + news.more)
    if lines:
        page.add(f"## {in_markdown(reading.title) or _shown(reading.address)}")
        page.add(*lines)
    if section.waiting:
        page.add(f"{len(section.waiting)} more from {_shown(reading.address)} come with the next digest.")
    return section


def _line(entry: Entry) -> str:
    linked = link(entry.title or "(untitled)", entry.link)
    return f"- {linked}, {entry.published.date()}" if entry.published is not None else f"- {linked}"


def _shown(address: str) -> str:
    """An address for readers of the digest: without its query, which may hold a reader's secret."""
    return in_markdown(plain_text(host_of(address) + urlsplit(address).path.rstrip("/")))


async def _post(ctx: RunContext[FeedDigestConfig], web: WebClient, webhook: SecretStr, digest: str) -> None:
    # A receiver that knows the header takes a digest once, even if the answer to an earlier try was lost.
    headers = {"idempotency-key": ctx.idempotency_key} if ctx.is_durable else {}
    try:
        async with web.request(
            "POST",
            webhook.get_secret_value(),
            seconds=WEBHOOK_SECONDS,
            follow_redirects=False,
            headers=headers,
            json={"text": digest},
        ) as response:
            if not response.is_success:
                raise FetchFailed(f"answered {response.status_code}, not 2xx")
    except FetchFailed as failure:
        raise DigestNotPosted(failure.reason) from None


def _remembered(
    sections: list[_Section], known: Mapping[str, RememberedFeed], started_at: datetime
) -> list[RememberedFeed]:
    """The feeds of this run, and those of others: runs with different feeds do not forget each other's."""
    current = {section.reading.before.key: section.remembered(started_at) for section in sections}
    others = [feed for key, feed in known.items() if key not in current and feed.asked_at > started_at - FORGET_AFTER]
    return [*current.values(), *sorted(others, key=lambda feed: feed.asked_at, reverse=True)][:MAX_REMEMBERED_FEEDS]
