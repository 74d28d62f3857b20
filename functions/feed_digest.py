"""Feed digest: what is new in RSS and Atom feeds since the last digest, as Markdown, optionally posted to a webhook.

What was listed is remembered in the run's result. A digest that could not be posted fails the run, and the next run
goes on from the last successful one: an entry may be posted twice, but none is lost.
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

from autopilot import BaseWorkflow, RunContext, Schedule, WorkflowManifest
from functions._feeds import Entry, Feed, FeedUnreadable, parse_feed, plain_text, short_digest
from functions._history import last_report
from functions._markdown import MarkdownPage, in_markdown, link
from functions._web import FetchFailed, WebAddress, WebClient, checked_address, host_of, read_body

MAX_FEEDS = 20
MAX_FEED_SECONDS = 30
MAX_FEED_BYTES = 4 * 1024 * 1024
WEBHOOK_SECONDS = 15

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
    )
    Config = FeedDigestConfig

    async def execute(self, ctx: RunContext[FeedDigestConfig], payload: FeedDigestInput) -> FeedDigestReport:
        memory = await last_report(ctx, FeedMemory)
        known = {feed.key: feed for feed in memory.remembered} if memory is not None else {}
        web = WebClient("autopilot-feed-digest")
        readings = await _read_feeds(web, payload, known, ctx.started_at)
        digest, sections = _write_digest(readings, payload, ctx.started_at)
        broken = [reading for reading in readings if reading.error is not None]
        for reading in broken:
            # The host only: paths and queries are payload, and may hold secrets.
            ctx.log.warning("feed_broken", host=host_of(reading.address), reason=reading.error)
        new_entries = sum(len(section.listed) for section in sections)
        is_news = new_entries > 0 or any(reading.before.failing_since is None for reading in broken)
        webhook = ctx.config.webhook_url if is_news else None
        if webhook is not None:
            await _post(web, webhook, digest)
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
class _Reading:
    """What came of asking for one feed."""

    address: str
    before: RememberedFeed
    feed: Feed | None = None
    """None if it is broken, or unchanged since it was read last."""
    error: str | None = None
    etag: str | None = None
    last_modified: str | None = None

    def new_entries(self, first_entries: int) -> tuple[Entry, ...]:
        if self.feed is None:
            return ()
        if self.before.seen is None:
            return self.feed.entries[:first_entries]
        return tuple(entry for entry in self.feed.entries if entry.key not in self.before.seen)


@dataclass(frozen=True, slots=True)
class _Section:
    """The part of one feed in the digest: its new entries, newest first, as far as there is room."""

    reading: _Reading
    listed: tuple[Entry, ...]
    waiting: tuple[Entry, ...]
    """They stay new, for the next digest."""

    def report(self) -> FeedReport:
        reading = self.reading
        return FeedReport(
            url=reading.address,
            title=reading.feed.title if reading.feed is not None else "",
            listed=len(self.listed),
            waiting=len(self.waiting),
            error=reading.error,
        )

    def remembered(self, started_at: datetime) -> RememberedFeed:
        reading, before = self.reading, self.reading.before
        if reading.error is not None:
            return before.model_copy(update={"failing_since": before.failing_since or started_at})
        if reading.feed is None:
            return before.model_copy(update={"failing_since": None, "asked_at": started_at})
        waiting = {entry.key for entry in self.waiting}
        current = [entry.key for entry in reading.feed.entries if entry.key not in waiting]
        return RememberedFeed(
            key=before.key,
            seen=list(dict.fromkeys([*current, *(before.seen or ())]))[:MAX_SEEN],
            # While entries wait the feed is read again in any case: "not modified" would hide them.
            etag=None if waiting else reading.etag,
            last_modified=None if waiting else reading.last_modified,
            asked_at=started_at,
        )


async def _read_feeds(
    web: WebClient, payload: FeedDigestInput, known: Mapping[str, RememberedFeed], started_at: datetime
) -> list[_Reading]:
    before = {
        address: known.get(key) or RememberedFeed(key=key, asked_at=started_at)
        for address, key in ((address, short_digest(address)) for address in payload.feeds)
    }
    async with asyncio.TaskGroup() as group:
        asked = {
            address: group.create_task(_fetch(web, address, feed, payload.timeout_seconds))
            for address, feed in before.items()
        }
    readings = []
    for address, task in asked.items():
        # Parsed after all are fetched: it holds the loop, while the time of those on their way would run.
        readings.append(_read(address, before[address], task.result()))
        await asyncio.sleep(0)
    return readings


@dataclass(frozen=True, slots=True)
class _Body:
    content: bytes
    headers: httpx.Headers
    came_from: str


async def _fetch(web: WebClient, address: str, before: RememberedFeed, seconds: float) -> _Body | FetchFailed | None:
    """The feed's bytes, why there are none, or None: it is unchanged."""
    conditions = {"if-none-match": before.etag, "if-modified-since": before.last_modified}
    headers = {name: value for name, value in conditions.items() if value}
    try:
        async with web.request("GET", address, seconds=seconds, headers=headers) as response:
            if response.status_code == httpx.codes.NOT_MODIFIED and headers:
                return None
            if response.status_code != httpx.codes.OK:
                raise FetchFailed(f"answered {response.status_code}, not 200")
            content, is_whole = await read_body(response, MAX_FEED_BYTES)
            if not is_whole:
                raise FetchFailed(f"it is over {MAX_FEED_BYTES:,} bytes")
            return _Body(content, response.headers, str(response.url))
    except FetchFailed as failure:
        return failure


def _read(address: str, before: RememberedFeed, fetched: _Body | FetchFailed | None) -> _Reading:
    if fetched is None:
        return _Reading(address=address, before=before)
    if isinstance(fetched, FetchFailed):
        return _Reading(address=address, before=before, error=fetched.reason)
    headers = fetched.headers
    try:
        feed = parse_feed(fetched.content, address=fetched.came_from, content_type=headers.get("content-type", ""))
    except FeedUnreadable as unreadable:
        return _Reading(address=address, before=before, error=str(unreadable))
    return _Reading(
        address=address,
        before=before,
        feed=feed,
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
    sections = [_write_section(page, reading, payload) for reading in readings]
    if not any(section.listed for section in sections):
        page.add("Nothing new.")
    broken = [reading for reading in readings if reading.error is not None]
    if broken:
        page.add("## Could not be read")
        page.add(*(f"- {_shown(reading.address)}: {in_markdown(reading.error or '')}" for reading in broken))
    return page.text, sections


def _write_section(page: MarkdownPage, reading: _Reading, payload: FeedDigestInput) -> _Section:
    new = reading.new_entries(payload.first_entries)
    lines: list[str] = []
    for entry in new[: payload.max_entries]:
        line = _line(entry)
        if not page.has_room_for(line):
            break
        lines.append(line)
    section = _Section(reading, new[: len(lines)], new[len(lines) :])
    if lines:
        title = reading.feed.title if reading.feed is not None else ""
        page.add(f"## {in_markdown(title) or _shown(reading.address)}")
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


async def _post(web: WebClient, webhook: SecretStr, digest: str) -> None:
    try:
        async with web.request(
            "POST",
            webhook.get_secret_value(),
            seconds=WEBHOOK_SECONDS,
            follow_redirects=False,
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
