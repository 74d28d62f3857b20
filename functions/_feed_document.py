"""What a feed's document says, whatever its format: RSS 0.9 to 2.0, Atom 0.3 and 1.0, JSON Feed.

XML need not be well-formed: an element ends at the latest with its entry, and a document that breaks off gives what
came before. Whatever the document, time and memory grow linearly with its length.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from functions._markup import Token, attributes, is_html, scan, text_of_html, unescaped

MAX_ENTRIES_READ = 20_000
MAX_TAGS = 500_000
MAX_ARRAYS_AND_OBJECTS = 200_000
MAX_ADDRESS = 2000
"""Nothing longer is taken for an address."""


class FeedUnreadable(Exception):
    """The bytes are not a feed. The message is for people and quotes none of the bytes."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text of a feed, and whether it is HTML."""

    value: str = ""
    is_html: bool = False

    def plain(self, limit: int) -> str:
        """The text without markup, read from its first ``limit`` characters."""
        value = self.value[:limit]
        return text_of_html(value) if self.is_html else value


@dataclass(frozen=True, slots=True)
class RawEntry:
    """One entry of a document. What it does not have is empty."""

    identity: str = ""
    """Its guid or id."""
    link: str = ""
    """As it is written there: an address, or one that is relative to ``bases``."""
    bases: tuple[str, ...] = ()
    """The addresses that the document gives for this, the outermost first; the next may be relative to it."""
    title: Text = Text()
    text: Text = Text()
    """Its summary, else its content."""
    date: str = ""
    """When it was published, else when it was updated, as it is written there."""


@dataclass(frozen=True, slots=True)
class RawFeed:
    title: Text
    entries: list[RawEntry]
    """In the order of the document."""


def read_document(text: str) -> RawFeed:
    """Read a feed's document.

    Raises:
        FeedUnreadable: it is not a feed, is broken before its first entry, or has too much in it.
    """
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        return _read_json(text)
    reader = _XmlReader()
    for number, token in enumerate(scan(text)):
        if number > MAX_TAGS:
            raise FeedUnreadable(f"it has more than {MAX_TAGS:,} tags and texts")
        reader.take(token)
    return reader.finished()


_BROKEN = "it is a broken RSS or Atom feed without a readable entry"


def _read_json(text: str) -> RawFeed:
    # Before it is parsed, which keeps every other thread waiting until it is done.
    if text.count("[") + text.count("{") > MAX_ARRAYS_AND_OBJECTS:
        raise FeedUnreadable(f"it has more than {MAX_ARRAYS_AND_OBJECTS:,} arrays and objects")
    try:
        # Not strict: line breaks and tabs stand unescaped in the texts of some feeds.
        feed = json.loads(text.lstrip("\ufeff"), strict=False)
    except (ValueError, RecursionError):
        raise FeedUnreadable("it is not JSON, though it begins like it") from None
    items, version = feed.get("items"), feed.get("version")
    if not isinstance(items, list) or not isinstance(version, str) or "//jsonfeed.org/version/" not in version:
        raise FeedUnreadable("it is JSON, but not a JSON Feed")
    if len(items) > MAX_ENTRIES_READ:
        raise FeedUnreadable(_TOO_MANY)
    entries = [_json_entry(item) for item in items if isinstance(item, dict)]
    return RawFeed(Text(_json_text(feed, "title")), entries)


_TOO_MANY = f"it has more than {MAX_ENTRIES_READ:,} entries"


def _json_entry(item: dict[str, Any]) -> RawEntry:
    text = _json_text(item, "summary", "content_text")
    return RawEntry(
        identity=_json_text(item, "id"),
        link=_json_text(item, "url", "external_url"),
        title=Text(_json_text(item, "title")),
        text=Text(text) if text else Text(_json_text(item, "content_html"), is_html=True),
        date=_json_text(item, "date_published", "date_modified"),
    )


def _json_text(item: dict[str, Any], *names: str) -> str:
    """The first of these members that is there; an id may be a number."""
    values = (item.get(name) for name in names)
    return next((str(value).strip() for value in values if isinstance(value, str | int | float) and value != ""), "")


_VOCABULARIES = {
    "http://www.w3.org/2005/atom": "",
    "http://purl.org/atom/ns": "",
    "http://purl.org/rss/1.0": "",
    "http://my.netscape.com/rdf/simple/0.9": "",
    "http://channel.netscape.com/rdf/simple/0.9": "",
    "http://www.w3.org/1999/02/22-rdf-syntax-ns": "rdf",
    "http://purl.org/dc/elements/1.1": "dc",
    "http://purl.org/dc/elements/1.0": "dc",
    "http://purl.org/dc/terms": "dcterms",
    "http://purl.org/rss/1.0/modules/content": "content",
    "http://search.yahoo.com/mrss": "media",
    "http://www.itunes.com/dtds/podcast-1.0.dtd": "itunes",
}
"""The namespaces that are read, and how their names begin here. Atom and RSS have names of their own in common only
where they mean the same."""

_MAX_PREFIXES = 100
_ROOTS = frozenset({"rss", "rdf", "feed", "channel"})
_NEVER_CLOSED = frozenset({"br", "hr", "img"})

# In each, the first that is there counts.
_IDENTITIES = ("guid", "id")
_TITLES = ("title", "dc:title", "media:title", "itunes:title")
_TEXTS = (
    "description",
    "summary",
    "content",
    "content:encoded",
    "dc:description",
    "itunes:summary",
    "media:description",
)
_DATES = (
    "pubdate",
    "published",
    "issued",
    "dc:date",
    "dcterms:issued",
    "created",
    "dcterms:created",
    "date",
    "updated",
    "modified",
    "dcterms:modified",
)
_WANTED = frozenset({*_IDENTITIES, *_TITLES, *_TEXTS, *_DATES, "link"})
_MAX_BASES = 2
"""Of the feed itself: its root's and its channel's."""


@dataclass(slots=True)
class _Element:
    """An element of the feed or of an entry that has not ended yet."""

    tag: str
    name: str
    attributes: dict[str, str]
    is_wanted: bool
    depth: int = 1
    tokens: list[Token] = field(default_factory=list)

    def text(self, *, of_atom: bool) -> Text:
        """Its content; ``of_atom`` decides what it is if it does not say so."""
        has_tags = any(token.kind not in {"text", "cdata"} for token in self.tokens)
        kind = self.attributes.get("type", "").lower()
        if has_tags or "xhtml" in kind:
            return Text("".join(map(_source, self.tokens)).strip(), is_html=True)
        value = "".join(unescaped(token.content) if token.kind == "text" else token.content for token in self.tokens)
        value = value.strip()
        if "html" in kind:
            return Text(value, is_html=True)
        if kind in {"text", "plain", "text/plain"} or (of_atom and not kind):
            return Text(value)
        if self.name not in _TITLES or is_html(value):
            return Text(value, is_html=True)
        # Of RSS nobody knows. Many escape a plain title twice.
        return Text(unescaped(value))


def _source(token: Token) -> str:
    if token.kind in {"text", "cdata"}:
        return token.content
    return (
        f"<{'/' if token.kind == 'end' else ''}{token.name.rpartition(':')[2]}{'/' if token.kind == 'empty' else ''}>"
    )


@dataclass(slots=True)
class _Entry:
    """An entry that has not ended yet."""

    tag: str
    prefixes: dict[str, str]
    bases: tuple[str, ...]
    about: str
    texts: dict[str, Text] = field(default_factory=dict)
    links: dict[int, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    """By rank, each with its bases."""

    @property
    def is_atom(self) -> bool:
        return self.tag.endswith("entry")

    def add(self, element: _Element) -> None:
        rank, address = _link(element) if element.name in {"link", "guid"} else (0, "")
        if 0 < len(address) <= MAX_ADDRESS:
            self.links.setdefault(rank, (address, self.bases + _base(element.attributes)))
        if element.name != "link":
            text = element.text(of_atom=self.is_atom)
            if text.value:
                self.texts.setdefault(element.name, text)

    def finished(self) -> RawEntry:
        link, bases = self.links[min(self.links)] if self.links else ("", ())
        return RawEntry(
            identity=self._first(_IDENTITIES).value or self.about,
            link=link,
            bases=bases,
            title=self._first(_TITLES),
            text=self._first(_TEXTS),
            date=self._first(_DATES).value,
        )

    def _first(self, names: Iterable[str]) -> Text:
        return next((self.texts[name] for name in names if name in self.texts), Text())


def _base(found: dict[str, str]) -> tuple[str, ...]:
    base = found.get("xml:base", "").strip()
    return (base,) if 0 < len(base) <= MAX_ADDRESS else ()


def _link(element: _Element) -> tuple[int, str]:
    """Where a link or a guid leads, or nothing, and its rank.

    The best first: the text of a link, the address of a page, that of another form of the entry, a guid.
    """
    text = element.text(of_atom=True).value
    if element.name == "guid":
        is_link = element.attributes.get("ispermalink", "").lower() != "false"
        return 3, text if is_link and text.startswith(("http://", "https://")) else ""
    if element.attributes.get("rel", "alternate").lower().rpartition("/")[2] != "alternate":
        return 0, ""
    address = element.attributes.get("href", "")
    if not address:
        return 0, text
    return (1 if "html" in element.attributes.get("type", "html") else 2), address


class _XmlReader:
    """Takes the tokens of a document one by one. It remembers where it is, and no tree."""

    def __init__(self) -> None:
        self._bases: tuple[str, ...] = ()
        # Also of a document that forgot to declare them.
        self._prefixes = {name: name for name in _VOCABULARIES.values()} | {"atom": "", "rss": ""}
        self._is_feed = False
        self._is_whole = False
        self._entry: _Entry | None = None
        self._element: _Element | None = None
        self._title = Text()
        self._entries: list[RawEntry] = []

    def take(self, token: Token) -> None:
        if token.kind in {"text", "cdata"}:
            if self._element is not None and self._element.is_wanted:
                self._element.tokens.append(token)
        elif token.kind == "end":
            self._end(token)
        elif self._element is None or not self._is_inside(self._element, token):
            self._start(token)

    def finished(self) -> RawFeed:
        """The whole feed. An element that breaks off is nothing, an entry that does is what it has."""
        if not self._is_feed:
            raise FeedUnreadable("it is not an RSS or Atom feed")
        if self._entry is not None:
            self._end_entry(self._entry)
        if not self._is_whole and not any(entry != RawEntry() for entry in self._entries):
            raise FeedUnreadable(_BROKEN)
        return RawFeed(self._title, self._entries)

    def _is_inside(self, element: _Element, token: Token) -> bool:
        """Whether a tag that starts is part of ``element``. An entry is part of no element of the feed itself."""
        if self._entry is None and self._begins_entry(token.name, self._prefixes):
            self._element = None
            return False
        if token.kind == "start" and token.name == element.tag:
            element.depth += 1
        if element.is_wanted:
            element.tokens.append(token)
        return True

    def _start(self, token: Token) -> None:
        if not self._is_feed and token.name == "html":
            raise FeedUnreadable("it is not an RSS or Atom feed")
        found = attributes(token)
        prefixes = self._declared(found, self._entry.prefixes if self._entry is not None else self._prefixes)
        prefix, _, local = token.name.rpartition(":")
        vocabulary = prefixes.get(prefix, "other")
        if self._entry is None and local in _ROOTS and vocabulary in {"", "rdf", "other"}:
            self._is_feed = True
            # Whatever namespace a feed claims to be of: its names are meant.
            self._prefixes = prefixes if vocabulary == "rdf" else prefixes | {prefix: ""}
            self._bases = (self._bases + _base(found))[:_MAX_BASES]
        elif self._entry is None and self._is_feed and self._begins_entry(token.name, prefixes):
            self._entry = _Entry(token.name, prefixes, self._bases + _base(found), found.get("rdf:about", ""))
            if token.kind == "empty":
                self._end_entry(self._entry)
        elif self._is_feed and local not in _NEVER_CLOSED:
            name = f"{vocabulary}:{local}" if vocabulary else local
            wanted = name in _WANTED if self._entry is not None else name in _TITLES
            self._element = _Element(token.name, name, found if wanted else {}, wanted)
            if token.kind == "empty":
                self._end_element(self._element)

    def _begins_entry(self, tag: str, prefixes: dict[str, str]) -> bool:
        prefix, _, local = tag.rpartition(":")
        return local in {"item", "entry"} and prefixes.get(prefix) == ""

    def _declared(self, found: dict[str, str], prefixes: dict[str, str]) -> dict[str, str]:
        """``prefixes``, and those that a tag declares."""
        declared = {
            name.partition(":")[2]: _VOCABULARIES.get(address.strip().lower().rstrip("/#"), "other")
            for name, address in found.items()
            if name == "xmlns" or name.startswith("xmlns:")
        }
        if not declared or len(prefixes) + len(declared) > _MAX_PREFIXES:
            return prefixes
        return prefixes | declared

    def _end(self, token: Token) -> None:
        element, entry = self._element, self._entry
        if element is not None:
            if token.name == element.tag:
                element.depth -= 1
                if element.depth == 0:
                    self._end_element(element)
            elif entry is not None and token.name == entry.tag:
                self._end_element(element)
                self._end_entry(entry)
            elif element.is_wanted:
                element.tokens.append(token)
        elif entry is not None:
            if token.name == entry.tag:
                self._end_entry(entry)
        elif token.name.rpartition(":")[2] in _ROOTS:
            self._is_whole = True

    def _end_element(self, element: _Element) -> None:
        self._element = None
        if not element.is_wanted:
            return
        if self._entry is not None:
            self._entry.add(element)
        elif not self._title.value:
            self._title = element.text(of_atom=False)

    def _end_entry(self, entry: _Entry) -> None:
        self._entry = None
        self._entries.append(entry.finished())
        if len(self._entries) > MAX_ENTRIES_READ:
            raise FeedUnreadable(_TOO_MANY)
