"""Parse RSS, Atom and JSON Feed from anybody into entries that are safe to show.

All that is done here is linear in the document's length, in Python and in small steps: it neither holds the interpreter
lock nor needs a process that can be killed.
"""

import hashlib
import re
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from functools import reduce
from urllib.parse import quote, urljoin, urlsplit

from functions._charsets import feed_text
from functions._feed_dates import parse_date
from functions._feed_document import RawEntry, read_document

MAX_ENTRIES = 500
"""The newest entries of a feed; the others are ignored. Of undated ones, nobody knows which: half from either end."""

KEY_LENGTH = 6
MAX_TITLE = 200
MAX_FIRST_WORDS = 80
MAX_LINK = 1000

_MAX_SOURCE = 10 * MAX_TITLE
"""The characters of a title or text that are read for what is shown of it."""

# Control, invisible and bidirectional characters; lone surrogates are not even JSON.
_UNSHOWABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]"
)
_KEPT_IN_LINKS = "/?#:;=&+,@%$!~-._"
# Discord sees one in an address, too. The address stays the same.
_MENTION_OF_ALL = re.compile(r"@(?=(?:all|channel|everyone|here)\b)", re.IGNORECASE)
_DOMAIN = re.compile(r"[A-Za-z0-9._:\[\]-]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a feed."""

    key: str
    """A digest, six characters long, of its id; without one, of its link; without that too, of its title and date, or
    else of its text. What several entries of the document share identifies none of them."""
    title: str
    """Plain text of at most 200 characters on one line; the first words of an entry without a title, or empty."""
    link: str | None
    """An http or https address in ASCII that can end neither a Markdown link nor an HTML attribute."""
    published: datetime | None


@dataclass(frozen=True, slots=True)
class Feed:
    """The title and the entries of a feed."""

    title: str
    entries: tuple[Entry, ...]
    """Newest first; those without a date come last, in the order of the document."""
    cut_at: int | None = None
    """The number of entries before the place where others were left out, if any were."""


def parse_feed(body: bytes, *, address: str, content_type: str) -> Feed:
    """Parse a feed.

    Args:
        address: where it came from; relative links are resolved against it.
        content_type: the server's header; it may name the encoding.

    Raises:
        FeedUnreadable: it is not a feed, is too broken to hold an entry, or has too much in it.
    """
    feed = read_document(feed_text(body, _charset(content_type)))
    # Entries with one key are one entry, said several times.
    found = dict(reversed([*_identified(feed.entries)]))
    dated = [(key, raw, parse_date(raw.date)) for key, raw in reversed(found.items())]
    dated.sort(key=lambda each: _sortable(each[2]), reverse=True)
    chosen, cut_at = dated, None
    if len(dated) > MAX_ENTRIES:
        cut_at = MAX_ENTRIES if dated[0][2] is not None else MAX_ENTRIES // 2
        chosen = [*dated[:cut_at], *dated[len(dated) - MAX_ENTRIES + cut_at :]]
    entries = tuple(_entry(*each, address) for each in chosen)
    return Feed(plain_text(feed.title.plain(_MAX_SOURCE)), entries, cut_at)


def _charset(content_type: str) -> str | None:
    header = Message()
    header["content-type"] = content_type[:200]
    charset = header.get_param("charset")
    return charset if isinstance(charset, str) else None


def age(entry: Entry) -> datetime:
    """A sort key that puts newer entries behind older ones, and those without a date before all."""
    return _sortable(entry.published)


def _sortable(published: datetime | None) -> datetime:
    return published or datetime.min.replace(tzinfo=UTC)


def _identified(entries: list[RawEntry]) -> Iterator[tuple[str, RawEntry]]:
    """Each entry with its key: a digest of the first of its identities that it has for itself."""
    digests = [tuple(short_digest(each) if each else "" for each in _identities(entry)) for entry in entries]
    # An entry that stands there twice, in every word, shares its identities with nobody.
    uses: list[Counter[str]] = [Counter(ranked) for ranked in zip(*dict.fromkeys(digests), strict=True)]
    for entry, ranked in zip(entries, digests, strict=True):
        own = (digest for digest, used in zip(ranked, uses, strict=True) if digest and used[digest] == 1)
        yield next(own, short_digest("\n".join(_identities(entry))))[:KEY_LENGTH], entry


def _identities(entry: RawEntry) -> tuple[str, ...]:
    """What may tell an entry from others, the best first; the last is all there is to read."""
    title, text = entry.title.value, entry.text.value
    dated = f"{title}\n{entry.date}" if title else ""
    return _without_tls(entry.identity), _without_tls(entry.link), dated, f"{title}\n{text}"


def _without_tls(identity: str) -> str:
    # Sites move to https one day, and some give both addresses in turn: their entries are the same ones.
    return f"http://{identity[8:]}" if identity.startswith("https://") else identity


def _entry(key: str, raw: RawEntry, published: datetime | None, address: str) -> Entry:
    title = plain_text(raw.title.plain(_MAX_SOURCE))
    return Entry(key, title or _first_words(raw.text.plain(_MAX_SOURCE)), safe_link(_resolved(raw, address)), published)


def _resolved(raw: RawEntry, address: str) -> str | None:
    if not raw.link:
        return None
    try:
        return reduce(urljoin, (*raw.bases, raw.link), address)
    except ValueError:
        return None


def _first_words(text: str) -> str:
    """The first words of ``text``, at most 80 characters of them."""
    text = plain_text(text)
    if len(text) <= MAX_FIRST_WORDS:
        return text
    words = text[:MAX_FIRST_WORDS].rpartition(" ")[0]
    return f"{words or text[: MAX_FIRST_WORDS - 1]}…"


def short_digest(text: str) -> str:
    """Hash ``text`` to 11 characters."""
    digest = hashlib.sha256(text.encode(errors="backslashreplace")).digest()[:8]
    return urlsafe_b64encode(digest).decode().rstrip("=")


def plain_text(value: str) -> str:
    """Reduce ``value`` to one line of at most 200 visible characters. Nothing in it is markup."""
    text = " ".join(_UNSHOWABLE.sub(" ", value[:_MAX_SOURCE]).split())
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
    link = _MENTION_OF_ALL.sub("%40", link)
    return link if len(link) <= MAX_LINK else None
