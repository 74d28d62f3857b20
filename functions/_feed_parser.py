"""Parse RSS and Atom from anybody into entries that are safe to show."""

import hashlib
import html
import io
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import feedparser

MAX_ENTRIES = 200
"""The newest entries of a feed; the others are ignored."""

MAX_TITLE = 200
MAX_LINK = 1000

_TAG = re.compile(r"<[^<>]{0,2000}>")
# Control, invisible and bidirectional characters; lone surrogates are not even JSON.
_UNSHOWABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]"
)
_KEPT_IN_LINKS = "/?#:;=&+,@%$!~-._"
_DOMAIN = re.compile(r"[A-Za-z0-9._:\[\]-]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a feed."""

    key: str
    """A digest of its id; without one, of its link; without that too, of its title and date."""
    title: str
    """Plain text of at most 200 characters on one line; empty if there is none."""
    link: str | None
    """An http or https address in ASCII that can end neither a Markdown link nor an HTML attribute."""
    published: datetime | None


class FeedUnreadable(Exception):
    """The bytes are not a feed. The message is for people and quotes none of the bytes."""


@dataclass(frozen=True, slots=True)
class Feed:
    """The title and the entries of a feed."""

    title: str
    entries: tuple[Entry, ...]
    """Newest first, at most 200; those without a date come last, in the order of the feed."""


def parse_feed(body: bytes, *, address: str, content_type: str) -> Feed:
    """Parse a feed.

    Args:
        address: where it came from; relative links are resolved against it.
        content_type: the server's header; it may name the encoding.

    Raises:
        FeedUnreadable: it is not RSS or Atom, or it is too broken to hold an entry.
    """
    try:
        parsed: Any = feedparser.parse(
            io.BytesIO(body),  # a stream: feedparser opens bytes and strings as files and addresses
            response_headers={"content-location": address, "content-type": content_type},
            resolve_relative_uris=False,  # of HTML inside entries, which is not shown
            sanitize_html=False,  # no HTML is shown; plain_text() removes it
        )
    except _PARSER_FAILURES as error:
        raise FeedUnreadable(_BROKEN) from error
    if not parsed.get("version"):
        raise FeedUnreadable("it is not an RSS or Atom feed")
    if parsed.bozo and not parsed.entries and not isinstance(parsed.bozo_exception, _HARMLESS):
        raise FeedUnreadable(_BROKEN)
    entries: dict[str, Entry] = {}
    for raw in parsed.entries:
        entry = _entry(raw)
        entries.setdefault(entry.key, entry)
    newest_first = sorted(entries.values(), key=_age, reverse=True)
    return Feed(plain_text(parsed.feed.get("title")), tuple(newest_first[:MAX_ENTRIES]))


_PARSER_FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""Errors of feedparser in a broken feed: a character beyond the last one, a place outside of any entry."""

_BROKEN = "it is a broken RSS or Atom feed without a readable entry"

_HARMLESS = (feedparser.CharacterEncodingOverride, feedparser.NonXMLContentType)
"""Complaints of feedparser about a document that it could read."""


def _age(entry: Entry) -> datetime:
    return entry.published or datetime.min.replace(tzinfo=UTC)


def _entry(raw: Any) -> Entry:
    title, link = plain_text(raw.get("title")), safe_link(raw.get("link"))
    # With dict's own get: feedparser's falls back from one date to the other, with a warning.
    published = _time(dict.get(raw, "published_parsed") or dict.get(raw, "updated_parsed"))
    identity = raw.get("id") or raw.get("link") or f"{title}\n{published}"
    return Entry(short_digest(str(identity)), title, link, published)


def _time(parts: Any) -> datetime | None:
    try:
        year, month, day, hour, minute, second = parts[:6]
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def short_digest(text: str) -> str:
    """Hash ``text`` to 11 characters."""
    digest = hashlib.sha256(text.encode(errors="backslashreplace")).digest()[:8]
    return urlsafe_b64encode(digest).decode().rstrip("=")


def plain_text(value: object) -> str:
    """Reduce ``value`` to one line of at most 200 visible characters, without HTML tags."""
    text = html.unescape(_TAG.sub(" ", str(value or "")[: 10 * MAX_TITLE]))
    text = " ".join(_UNSHOWABLE.sub(" ", text).split())
    return text if len(text) <= MAX_TITLE else f"{text[: MAX_TITLE - 1]}…"


def safe_link(value: object) -> str | None:
    """Return ``value`` if it is a web address that can be shown as a link, else None: credentials in it would deceive."""
    if not isinstance(value, str) or len(value) > MAX_LINK:
        return None
    try:
        parts = urlsplit(value.strip())
        netloc = parts.netloc.encode("idna").decode() if not parts.netloc.isascii() else parts.netloc
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or _DOMAIN.fullmatch(netloc) is None:
        return None
    rest = parts.path + (f"?{parts.query}" if parts.query else "") + (f"#{parts.fragment}" if parts.fragment else "")
    link = f"{parts.scheme}://{netloc}{quote(rest, safe=_KEPT_IN_LINKS, errors='replace')}"
    return link if len(link) <= MAX_LINK else None
