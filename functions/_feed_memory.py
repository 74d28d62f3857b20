"""What a digest remembers for the next one: the entries that were listed, and those that wait. Its size is bounded."""

from collections.abc import Iterable
from datetime import timedelta
from itertools import takewhile

from pydantic import AwareDatetime, BaseModel, Field, field_validator

from functions._fair_share import fair_share, size_as_json
from functions._feed_parser import KEY_LENGTH, MAX_ENTRIES, Entry, Feed

MAX_MEMORY_BYTES = 176 * 1024
"""As JSON. 100 feeds of 100 entries each need 130 KB."""
MAX_SEEN = 2 * MAX_ENTRIES
"""Keys of one feed."""
SEEN_AFTERWARDS = 64
"""Keys of entries that a feed has no more: some feeds show an entry again."""
FORGET_AFTER = timedelta(days=90)


class RememberedFeed(BaseModel):
    """The state of a feed that the next run needs."""

    key: str = Field(description="A digest of its address.")
    seen: str | None = Field(
        default=None,
        description="Keys of entries that need no listing, without separators; None until it was read once.",
    )
    waiting: list[Entry] = Field(default=[], description="Entries that were found and not listed yet, newest first.")
    etag: str | None = None
    last_modified: str | None = None
    failing_since: AwareDatetime | None = None
    asked_at: AwareDatetime

    @field_validator("seen", mode="before")
    @classmethod
    def _from_list(cls, value: object) -> object:
        """Accept the list of longer digests that older versions recorded."""
        if isinstance(value, list) and all(isinstance(key, str) for key in value):
            return "".join(key[:KEY_LENGTH] for key in value)
        return value

    @property
    def seen_keys(self) -> list[str]:
        seen = self.seen or ""
        return [seen[start : start + KEY_LENGTH] for start in range(0, len(seen), KEY_LENGTH)]

    def seen_with(self, keys: Iterable[str], *, in_feed: int | None = None) -> str:
        """``seen`` with ``keys`` before the others.

        Args:
            in_feed: how many of them the feed has now: of the keys that it has no more, only some are kept. None if
                that is unknown.
        """
        before = self.seen_keys
        most = MAX_SEEN if in_feed is None else min(MAX_SEEN, max(in_feed + SEEN_AFTERWARDS, len(before)))
        return "".join([*dict.fromkeys([*keys, *before])][:most])


class FeedMemory(BaseModel):
    """The part of a report that the next run reads."""

    remembered: list[RememberedFeed]


def new_entries(feed: Feed, seen_keys: Iterable[str]) -> tuple[Entry, ...]:
    """The entries of ``feed`` that are new to those who know ``seen_keys``, newest first."""
    seen = set(seen_keys)
    entries, cut_at = feed.entries, feed.cut_at if feed.cut_at is not None else len(feed.entries)
    first = [entry for entry in entries[:cut_at] if entry.key not in seen]
    last = [entry for entry in entries[cut_at:] if entry.key not in seen]
    if feed.cut_at is not None and len(first) + len(last) < len(entries):
        # Next to what was left out, unseen entries are old: they were left out before, and others went away.
        if len(first) < cut_at:
            first = first[: len(first) - _run(reversed(entries[:cut_at]), seen)]
        if first or len(last) < len(entries) - cut_at:
            last = last[_run(entries[cut_at:], seen) :]
    if entries and entries[0].published is None and entries[0].key in seen and entries[-1].key not in seen:
        # Without dates, where the new ones are tells the order.
        return tuple(reversed([*first, *last]))
    return (*first, *last)


def _run(entries: Iterable[Entry], seen: set[str]) -> int:
    """The number of unseen entries before the first that was seen."""
    return sum(1 for _ in takewhile(lambda entry: entry.key not in seen, entries))


def within_limits(feeds: Iterable[RememberedFeed]) -> list[RememberedFeed]:
    """The first of ``feeds`` that fit into :data:`MAX_MEMORY_BYTES`, with as many waiting entries as there is room for.

    An entry that there is no room for is not marked as seen, and its feed is read again in any case: as long as it is
    in there, it is found again.
    """
    room = MAX_MEMORY_BYTES
    kept: list[RememberedFeed] = []
    for feed in feeds:
        size = _size(feed.model_copy(update={"waiting": []}))
        if size > room:
            break
        room -= size
        kept.append(feed)
    fitting = fair_share(room, [[_entry_size(entry) for entry in feed.waiting] for feed in kept])
    return [_with_first_waiting(feed, count) for feed, count in zip(kept, fitting, strict=True)]


def _with_first_waiting(feed: RememberedFeed, count: int) -> RememberedFeed:
    if count == len(feed.waiting):
        return feed
    return feed.model_copy(update={"waiting": feed.waiting[:count], "etag": None, "last_modified": None})


def _size(feed: RememberedFeed) -> int:
    return len(feed.model_dump_json().encode())


def _entry_size(entry: Entry) -> int:
    return size_as_json([entry.key, entry.title, entry.link]) + _NAMES_AND_DATE


_NAMES_AND_DATE = 80
