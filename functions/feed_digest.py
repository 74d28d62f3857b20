"""Feed digest: list the new entries of RSS, Atom and JSON feeds in Markdown, and post it to a webhook if one is set.

The run's result remembers the entries that were listed. A digest that could not be posted fails the run, and the next
run starts from the last successful one: an entry may be posted twice, but none is lost.

Everything a digest is made of is a step: the last run's memory, the findings in each feed, the post. A resumed run
makes the same digest, reads only the feeds that have no recorded findings, and does not repeat a recorded post.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from autopilot import BaseWorkflow, RunContext, Schedule, WorkflowManifest
from functions._fair_share import fair_share, size_as_json
from functions._feed_document import FeedUnreadable
from functions._feed_memory import FORGET_AFTER, FeedMemory, RememberedFeed, new_entries, within_limits
from functions._feed_parser import Entry, age, parse_feed, plain_text, short_digest
from functions._last_report import last_report
from functions._markdown import MarkdownPage, in_markdown, link
from functions._network import SYSTEM_NETWORK, Network
from functions._optional_steps import for_each, step
from functions._web_address import WebAddress, host_of
from functions._web_client import FetchFailed, WebClient, read_body
from functions._webhook import POST_RETRY, WebhookConfig, post_text

MAX_FEEDS = 20
MAX_FEED_SECONDS = 30
MAX_FEED_BYTES = 4 * 1024 * 1024

# With what is remembered (functions/_feed_memory.py), this keeps a report well under the limit of a result (384 KiB),
# whatever the feeds contain.
MAX_DIGEST_BYTES = 64 * 1024
"""The feeds list entries in turn until it is reached; the others wait for the next digest."""
MAX_NEW = 100
"""New entries of one feed that are recorded; of the others, their keys are."""

_VALIDATOR = re.compile(r"[ -~]{1,256}")


class FeedDigestInput(BaseModel):
    """The feeds to read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    feeds: tuple[WebAddress, ...] = Field(
        min_length=1, max_length=MAX_FEEDS, description="Addresses of RSS, Atom or JSON feeds, read in parallel."
    )
    title: Annotated[str, Field(min_length=1, max_length=100)] = Field(
        default="Feed digest", description="The digest's heading."
    )
    first_entries: int = Field(
        default=5, ge=0, le=100, description="How many entries of a feed count as new when it is first read."
    )
    max_entries: int = Field(
        default=20,
        ge=1,
        le=100,
        description="How many entries of one feed a digest lists; the others wait for the next one.",
    )
    timeout_seconds: float = Field(
        default=15, ge=0.1, le=MAX_FEED_SECONDS, description="For the whole answer of each feed, with redirects."
    )


class FeedReport(BaseModel):
    """The outcome of reading one feed."""

    url: str
    title: str
    listed: int = Field(description="New entries in the digest.")
    waiting: int = Field(description="New entries that wait for the next digest.")
    error: str | None = Field(default=None, description="Why it could not be read.")


class FeedDigestReport(BaseModel):
    """The digest, and the memory for the next one (:class:`FeedMemory`)."""

    digest: str = Field(description="Markdown.")
    new_entries: int
    broken_feeds: int
    posted: bool = Field(description="True if the webhook accepted the digest.")
    feeds: list[FeedReport]
    remembered: list[RememberedFeed] = Field(description="For the next run: what was listed, and what waits.")


class DigestNotPosted(Exception):
    """The webhook did not accept the digest; its entries stay new. The reason never holds the webhook's address."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the digest could not be posted to the webhook: {reason}")
        self.reason = reason


class FeedDigestConfig(WebhookConfig):
    """Read from the variables ``FEED_DIGEST_<FIELD>``."""


class FeedDigest(BaseWorkflow[FeedDigestInput, FeedDigestReport]):
    """Reads feeds in parallel and lists their new entries; a broken feed is reported and never stops the others.

    A run in which every feed is broken succeeds too: its digest says so. A digest is posted if it lists a new entry or
    a feed that has just broken; a feed that stays broken is not reported again.
    """

    manifest = WorkflowManifest(
        name="feed_digest",
        display_name="Feed digest",
        description="Lists the new entries of RSS, Atom and JSON feeds in Markdown, and posts it to a webhook if one is set.",
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

    def __init__(self, *, run_log: Any = None, network: Network = SYSTEM_NETWORK) -> None:
        super().__init__(run_log=run_log)
        self._network = network

    async def execute(self, ctx: RunContext[FeedDigestConfig], payload: FeedDigestInput) -> FeedDigestReport:
        memory = await step(ctx, "remember", _last_memory, ctx)
        known = {feed.key: feed for feed in memory.remembered} if memory is not None else {}
        web = WebClient.of_run("autopilot-feed-digest", ctx, self._network)
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
            remembered=_remembered(ctx, sections, known),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _News:
    """The content of a feed that has changed, as far as a digest needs it."""

    title: str
    keys: tuple[str, ...]
    """The keys of all its entries, newest first."""
    new: tuple[Entry, ...]
    """The entries that no digest has listed, newest first: at most as many as one digest may list."""
    more: tuple[str, ...]
    """The keys of the other entries that no digest has listed."""
    etag: str | None
    last_modified: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Findings:
    """The recorded result of one feed's step: far smaller than the feed, and under the limit of a step's result."""

    error: str | None = None
    news: _News | None = None
    """None if the feed is broken, or has not changed since it was last read."""
    etag: str | None = None
    last_modified: str | None = None
    """What "not modified" came with."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """The findings in one feed, and its state before."""

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
    """One feed's section of the digest: its new entries, newest first, as far as there is room."""

    reading: _Reading
    listed: tuple[Entry, ...]
    waiting: tuple[Entry, ...]
    """The entries that wait for the next digest."""

    @property
    def waiting_in_feed(self) -> tuple[str, ...]:
        """The keys of entries that wait too, and are only in the feed."""
        news = self.reading.findings.news
        held = {entry.key for entry in (*self.listed, *self.waiting)}
        return tuple(key for key in news.more if key not in held) if news is not None else ()

    def report(self) -> FeedReport:
        return FeedReport(
            url=self.reading.address,
            title=self.reading.title,
            listed=len(self.listed),
            waiting=len(self.waiting) + len(self.waiting_in_feed),
            error=self.reading.error,
        )

    def remembered(self, started_at: datetime) -> RememberedFeed:
        before, findings = self.reading.before, self.reading.findings
        listed = [entry.key for entry in self.listed]
        changes: dict[str, object] = {"waiting": list(self.waiting)}
        if findings.error is not None:
            changes |= {"failing_since": before.failing_since or started_at}
        else:
            changes |= {"failing_since": None, "asked_at": started_at}
        if findings.news is None:
            changes |= {
                "seen": before.seen_with(listed) if listed else before.seen,
                "etag": findings.etag or before.etag,
                "last_modified": findings.last_modified or before.last_modified,
            }
        else:
            waiting = {entry.key for entry in self.waiting} | set(self.waiting_in_feed)
            known = [key for key in findings.news.keys if key not in waiting]
            # "Not modified" would hide the entries that are only in the feed.
            is_held = not self.waiting_in_feed
            changes |= {
                "seen": before.seen_with([*known, *listed], in_feed=len(findings.news.keys)),
                "etag": findings.news.etag if is_held else None,
                "last_modified": findings.news.last_modified if is_held else None,
            }
        return before.model_copy(update=changes)


async def _last_memory(ctx: RunContext[FeedDigestConfig]) -> FeedMemory | None:
    return await last_report(ctx, FeedMemory)


async def _read_feeds(
    ctx: RunContext[FeedDigestConfig], web: WebClient, payload: FeedDigestInput, known: Mapping[str, RememberedFeed]
) -> list[_Reading]:
    keys = {address: short_digest(address) for address in payload.feeds}
    before = {
        address: known.get(key) or RememberedFeed(key=key, asked_at=ctx.started_at) for address, key in keys.items()
    }
    one_at_a_time = asyncio.Lock()

    async def read(address: str) -> _Findings:
        try:
            fetched = await _fetch(web, address, before[address], payload.timeout_seconds)
            if isinstance(fetched, _Findings):
                return fetched
            # In a thread, since parsing would block the loop while the timeouts of the other feeds run; one at a time,
            # since a large feed needs some memory.
            async with one_at_a_time:
                return _Findings(news=await asyncio.to_thread(_news, *fetched, before[address], payload))
        except (FetchFailed, FeedUnreadable) as unreadable:
            return _Findings(error=str(unreadable))

    addresses = list(before)
    found = await for_each(ctx, "read", read, addresses, label=host_of, returns=_Findings)
    return [_Reading(address, before[address], findings) for address, findings in zip(addresses, found, strict=True)]


async def _fetch(
    web: WebClient, address: str, before: RememberedFeed, seconds: float
) -> tuple[bytes, httpx.Response] | _Findings:
    """Download the feed; findings if it has not changed. The response says where it came from, and how to ask next time.

    Raises:
        FetchFailed: it cannot be downloaded.
    """
    conditions = {"if-none-match": before.etag, "if-modified-since": before.last_modified}
    headers = {name: value for name, value in conditions.items() if value}
    async with web.request("GET", address, seconds=seconds, headers=headers) as response:
        if response.status_code == httpx.codes.NOT_MODIFIED and headers:
            return _Findings(
                etag=_sendable(response.headers.get("etag")),
                last_modified=_sendable(response.headers.get("last-modified")),
            )
        if response.status_code != httpx.codes.OK:
            raise FetchFailed(f"answered {response.status_code}, not 200")
        content, is_whole = await read_body(response, MAX_FEED_BYTES)
        if not is_whole:
            raise FetchFailed(f"it is over {MAX_FEED_BYTES:,} bytes")
        return content, response


def _news(content: bytes, response: httpx.Response, before: RememberedFeed, payload: FeedDigestInput) -> _News:
    headers = response.headers
    feed = parse_feed(content, address=str(response.url), content_type=headers.get("content-type", ""))
    new = feed.entries[: payload.first_entries] if before.seen is None else new_entries(feed, before.seen_keys)
    return _News(
        title=feed.title,
        keys=tuple(entry.key for entry in feed.entries),
        new=new[:MAX_NEW],
        more=tuple(entry.key for entry in new[MAX_NEW:]),
        etag=_sendable(headers.get("etag")),
        last_modified=_sendable(headers.get("last-modified")),
    )


def _sendable(validator: str | None) -> str | None:
    """Return a server's ETag or Last-Modified if it is fit to be stored and sent back."""
    return validator if validator is not None and _VALIDATOR.fullmatch(validator) else None


def _write_digest(
    readings: list[_Reading], payload: FeedDigestInput, started_at: datetime
) -> tuple[str, list[_Section]]:
    unlisted = [_unlisted(reading) for reading in readings]
    lines = [[_line(entry) for entry in entries[: payload.max_entries]] for entries in unlisted]
    fitting = fair_share(MAX_DIGEST_BYTES, [[size_as_json(line) for line in of_feed] for of_feed in lines])
    sections = [
        _Section(reading, entries[:count], entries[count:])
        for reading, entries, count in zip(readings, unlisted, fitting, strict=True)
    ]
    page = MarkdownPage(f"# {in_markdown(plain_text(payload.title))}, {started_at.date()}")
    for section, of_feed in zip(sections, lines, strict=True):
        _write_section(page, section, of_feed[: len(section.listed)])
    if not any(section.listed for section in sections):
        page.add("Nothing new.")
    broken = [reading for reading in readings if reading.error is not None]
    if broken:
        page.add("## Could not be read")
        page.add(*(f"- {_shown(reading.address)}: {in_markdown(reading.error or '')}" for reading in broken))
    return page.text, sections


def _write_section(page: MarkdownPage, section: _Section, lines: list[str]) -> None:
    address = _shown(section.reading.address)
    if lines:
        page.add(f"## {in_markdown(section.reading.title) or address}")
        page.add(*lines)
    if waiting := section.report().waiting:
        page.add(f"{waiting} more from {address} come with the next digest.")


def _line(entry: Entry) -> str:
    line = f"- {link(entry.title or '(untitled)', entry.link)}"
    return line if entry.published is None else f"{line}, {entry.published.date()}"


def _unlisted(reading: _Reading) -> tuple[Entry, ...]:
    """The feed's new entries and those that waited for this digest, newest first."""
    news = reading.findings.news
    new = news.new if news is not None else ()
    found = {entry.key for entry in new}
    waited = [entry for entry in reading.before.waiting if entry.key not in found]
    return tuple(sorted([*new, *waited], key=age, reverse=True))


def _shown(address: str) -> str:
    """Format an address for the digest: without its query, which may hold a subscriber's secret."""
    return in_markdown(plain_text(host_of(address) + urlsplit(address).path.rstrip("/")))


async def _post(ctx: RunContext[FeedDigestConfig], web: WebClient, webhook: SecretStr, digest: str) -> None:
    try:
        await post_text(ctx, web, webhook, digest)
    except FetchFailed as failure:
        raise DigestNotPosted(failure.reason) from None


def _remembered(
    ctx: RunContext[FeedDigestConfig], sections: list[_Section], known: Mapping[str, RememberedFeed]
) -> list[RememberedFeed]:
    """Merge the feeds of this run with those of other runs, so that runs with different feeds keep each other's."""
    current = {section.reading.before.key: section.remembered(ctx.started_at) for section in sections}
    others = [
        feed for key, feed in known.items() if key not in current and feed.asked_at > ctx.started_at - FORGET_AFTER
    ]
    feeds = [*current.values(), *sorted(others, key=lambda feed: feed.asked_at, reverse=True)]
    kept = within_limits(feeds)
    if len(kept) < len(feeds):
        ctx.log.warning("feeds_forgotten", feeds=len(feeds) - len(kept), remembered=len(kept))
    return kept
