"""The emulator answers queries without their indexes, and keeps what has expired: these tests stand in for the cloud."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore_v1 import AsyncClient
from google.cloud.firestore_v1.types import StructuredQuery

from autopilot.storage.firestore import queries as firestore_queries
from autopilot.storage.firestore.documents import (
    ACTIVITY,
    COLLECTIONS,
    COUNTERS,
    RUNS,
    SESSIONS,
    STEPS,
    Collection,
    encode_run,
)
from autopilot.storage.firestore.indexes import CompositeIndex, FieldSetting, composite_indexes, field_settings
from autopilot.storage.firestore.queries import STORE_QUERIES, StoreQuery, bind_query
from tests.runs import MakeRun

ROOT = Path(__file__).parents[2]
PROVISIONED: dict[str, Any] = json.loads((ROOT / "terraform" / "workflows.auto.tfvars.json").read_text())["firestore"]

DIRECTIONS = {
    StructuredQuery.Direction.ASCENDING: "ASCENDING",
    StructuredQuery.Direction.DESCENDING: "DESCENDING",
}


def sent(query: StoreQuery) -> StructuredQuery:
    """The query as it goes over the wire."""
    client = AsyncClient(project="p", credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
    return bind_query(client, query, *("value" for _ in query.equal))._to_protobuf()


def filters_of(query: StructuredQuery) -> list[str]:
    if "where" not in query:
        return []
    if "field_filter" in query.where:
        return [query.where.field_filter.field.field_path]
    return [part.field_filter.field.field_path for part in query.where.composite_filter.filters]


@pytest.mark.parametrize("query", STORE_QUERIES, ids=str)
def test_every_query_has_the_index_that_firestore_asks_for(query: StoreQuery) -> None:
    wire = sent(query)
    order = [(by.field.field_path, DIRECTIONS[by.direction]) for by in wire.order_by]
    filtered = filters_of(wire)
    fields = {*filtered, *(field for field, _ in order)} - {"__name__"}
    collection = wire.from_[0].collection_id

    if not fields:
        served = order == [("__name__", "ASCENDING")]  # the order in which documents lie: it needs no index
    elif len(fields) == 1:
        served = any(
            setting["collection"] == collection and setting["field"] in fields and setting["orders"]
            for setting in PROVISIONED["fields"].values()
        )
    else:
        served = any(serves(index, collection, filtered, order) for index in PROVISIONED["indexes"].values())

    assert served, f"no index in terraform/workflows.auto.tfvars.json serves {query}"


def serves(index: dict[str, Any], collection: str, filtered: list[str], order: list[tuple[str, str]]) -> bool:
    """Whether an index has the compared fields first, in any order, and then exactly the order of the query."""
    fields = [(field["field_path"], field["order"]) for field in index["fields"]]
    if fields[-1][0] != "__name__":
        fields.append(("__name__", fields[-1][1]))
    ordered = (
        order
        if order and order[-1][0] == "__name__"
        else [*order, ("__name__", order[-1][1] if order else "ASCENDING")]
    )
    compared, rest = fields[: len(filtered)], fields[len(filtered) :]
    return index["collection"] == collection and {field for field, _ in compared} == set(filtered) and rest == ordered


def test_no_index_is_paid_for_that_no_query_reads() -> None:
    wanted = {
        (index.name, index.collection, tuple(index.fields))
        for query in STORE_QUERIES
        for index in composite_indexes([query])
    }
    provisioned = {
        (name, index["collection"], tuple((field["field_path"], field["order"]) for field in index["fields"]))
        for name, index in PROVISIONED["indexes"].items()
    }

    assert provisioned == wanted


def test_queries_are_made_of_definitions_only() -> None:
    assert set(STORE_QUERIES) == {value for value in vars(firestore_queries).values() if isinstance(value, StoreQuery)}
    asking = {"where", "order_by", "collection_group", "find_nearest"}
    calls = {
        file: {node.attr for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)}
        for file in (ROOT / "autopilot").rglob("*.py")
    }

    assert [file for file, called in calls.items() if called & asking] == [Path(firestore_queries.__file__)]


def test_a_run_says_in_its_document_when_it_expires(make_run: MakeRun) -> None:
    (runs,) = (collection for collection in COLLECTIONS if collection.name == RUNS)

    assert runs.expires_by in encode_run(make_run())


def test_all_collections_that_are_written_are_known_to_the_database() -> None:
    assert {collection.name for collection in COLLECTIONS} == {RUNS, STEPS, COUNTERS, ACTIVITY, SESSIONS}


NEWEST = (("at", "DESCENDING"), ("__name__", "DESCENDING"))


@pytest.mark.parametrize(
    ("equal", "order", "fields"),
    (
        (("a",), NEWEST, (("a", "ASCENDING"), ("at", "DESCENDING"))),
        (("a", "b"), (), (("a", "ASCENDING"), ("b", "ASCENDING"))),
        (("a",), (("at", "ASCENDING"),), (("a", "ASCENDING"), ("at", "ASCENDING"))),
        (
            ("a",),
            (("at", "DESCENDING"), ("__name__", "ASCENDING")),
            (("a", "ASCENDING"), ("at", "DESCENDING"), ("__name__", "ASCENDING")),
        ),
        (("a", "b"), (("__name__", "DESCENDING"),), (("a", "ASCENDING"), ("b", "DESCENDING"))),
    ),
)
def test_an_index_has_what_is_compared_and_then_the_order(equal: Any, order: Any, fields: Any) -> None:
    assert composite_indexes([StoreQuery(collection="c", equal=equal, order=order)]) == [CompositeIndex("c", fields)]


@pytest.mark.parametrize(
    ("equal", "order", "directions"),
    (
        ((), (("due", "ASCENDING"),), ("ASCENDING",)),
        ((), (("due", "DESCENDING"), ("__name__", "DESCENDING")), ("DESCENDING",)),
        (("due",), (), ("ASCENDING",)),
        (("due",), (("__name__", "DESCENDING"),), ("DESCENDING",)),
    ),
)
def test_a_query_of_one_field_needs_an_index_of_that_field_alone(equal: Any, order: Any, directions: Any) -> None:
    query = StoreQuery(collection="c", equal=equal, order=order)

    assert composite_indexes([query]) == []
    assert field_settings([Collection(name="c", expires_by="end")], [query]) == [
        FieldSetting(collection="c", field="*"),
        FieldSetting(collection="c", field="due", directions=directions),
        FieldSetting(collection="c", field="end", is_expiry=True),
    ]


def test_documents_are_read_by_their_id_without_any_index() -> None:
    query = StoreQuery(collection="c", equal=(), order=(("__name__", "ASCENDING"),))

    assert composite_indexes([query]) == []
    assert field_settings([Collection(name="c")], [query]) == [FieldSetting(collection="c", field="*")]
