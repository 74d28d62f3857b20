"""The indexes and settings that the database needs for the store's queries, derived from the queries and the layout.

Firestore finds documents through indexes only. By default it keeps two for each field of each document, at the cost of
every write. Here only what a query of the store reads is indexed::

    equal: workflow, status      order: started_at DESC, __name__ DESC
    ─────────────────────────    ─────────────────────────────────────
    workflow ASC, status ASC,    started_at DESC                        one composite index

An index lists the fields that are compared with ``==`` first (their direction does not matter: ascending), then the
fields of the order with their directions. ``__name__`` is part of every index and goes the way of the field before it;
it is named only where a query wants it the other way. A query of a single field is served by an index of that field.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from autopilot.storage.firestore.documents import COLLECTIONS, Collection
from autopilot.storage.firestore.queries import STORE_QUERIES, Direction, StoreQuery

ANY_FIELD = "*"
"""Firestore's name for all fields of a collection group that have no setting of their own."""

_NAME = "__name__"


@dataclass(frozen=True, slots=True)
class CompositeIndex:
    """An index of several fields of the documents in one collection."""

    collection: str
    fields: tuple[tuple[str, Direction], ...]

    @property
    def name(self) -> str:
        """Its unique name: ``runs--workflow--started_at-desc``."""
        parts = [field if direction == "ASCENDING" else f"{field}-desc" for field, direction in self.fields]
        return "--".join([self.collection, *parts])


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSetting:
    """The index settings of one field of a collection group, and whether documents expire by it."""

    collection: str
    field: str
    directions: tuple[Direction, ...] = ()
    is_expiry: bool = False

    @property
    def name(self) -> str:
        """Its unique name: ``runs.expires_at``."""
        return f"{self.collection}.{self.field}"


def composite_indexes(queries: Iterable[StoreQuery] = STORE_QUERIES) -> list[CompositeIndex]:
    """The composite indexes without which Firestore refuses one of ``queries``, by name."""
    needed = {CompositeIndex(query.collection, fields) for query in queries if len(fields := _index_fields(query)) > 1}
    return sorted(needed, key=lambda index: index.name)


def field_settings(
    collections: Sequence[Collection] = COLLECTIONS, queries: Sequence[StoreQuery] = STORE_QUERIES
) -> list[FieldSetting]:
    """The settings of single fields: indexes only where a query of one field reads them, and expiry."""
    settings = {}
    for collection in collections:
        wanted: dict[str, set[Direction]] = {ANY_FIELD: set()}
        if collection.expires_by is not None:
            wanted[collection.expires_by] = set()
        for query in queries:
            if query.collection == collection.name and len(fields := _index_fields(query)) == 1:
                wanted.setdefault(fields[0][0], set()).add(fields[0][1])
        for field, directions in wanted.items():
            setting = FieldSetting(
                collection=collection.name,
                field=field,
                directions=tuple(sorted(directions)),
                is_expiry=field == collection.expires_by,
            )
            settings[setting.name] = setting
    return [settings[name] for name in sorted(settings)]


def _index_fields(query: StoreQuery) -> tuple[tuple[str, Direction], ...]:
    compared: list[tuple[str, Direction]] = [(field, "ASCENDING") for field in query.equal]
    fields = [*compared, *query.order]
    if not fields or fields[-1][0] != _NAME:
        return tuple(fields)
    _, direction = fields.pop()
    if fields == compared and fields:
        fields[-1] = (fields[-1][0], direction)  # a field that is compared goes either way: take __name__ along
    elif fields and fields[-1][1] != direction:
        fields.append((_NAME, direction))
    return tuple(fields)
