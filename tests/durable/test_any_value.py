"""Any type of result: it comes back from a step as it was, or is refused before it is recorded."""

import dataclasses
import re
from collections import deque
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from pydantic import (
    AfterValidator,
    create_model,
)

from autopilot import RunContext
from autopilot.testing import Harness
from tests.durable.scripts import returned, scripted
from tests.durable.value_types import (
    WHEN,
    Item,
    Level,
    Movie,
    Order,
    Rights,
    Shade,
    Special,
)

# Any type of these parts comes back; a type with one of the others in it comes back or is refused.

FAITHFUL: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(),
    str: st.text(st.characters(exclude_categories=["Cs"])),
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bytes: st.binary(),
    Decimal: st.decimals(allow_nan=False, allow_infinity=False),
    date: st.dates(),
    datetime: st.datetimes(timezones=st.none() | st.just(UTC)),
    timedelta: st.timedeltas(),
    UUID: st.uuids(),
    Shade: st.sampled_from(Shade),
    Level: st.sampled_from(Level),
    Rights: st.sampled_from([Rights.READ, Rights.READ | Rights.WRITE]),
    Item: st.builds(Item, name=st.just("x"), when=st.integers() | st.none()),
    Order: st.builds(lambda number: Order.model_validate({"orderId": number}), st.integers()),
    Movie: st.fixed_dictionaries({}, optional={"name": st.just("M"), "poster": st.binary()}),
}
DOUBTFUL: dict[Any, st.SearchStrategy[Any]] = {
    Any: st.one_of(
        st.none(), st.integers(), st.dates(), st.binary(), st.floats(), st.text(), st.just(Special(name="x"))
    ),
    float: st.floats(),
    str: st.text(),
    Item: st.sampled_from([Special(name="x"), Item(name="x", when=WHEN)]),
    date | str: st.dates() | st.sampled_from(["2026-01-01", "x"]),
    dict[int | str, int]: st.dictionaries(st.sampled_from([1, "1", 2, "b"]), st.integers()),
    Annotated[int, AfterValidator(lambda number: min(number, 5))]: st.integers(),
    re.Pattern[str]: st.sampled_from([re.compile("a"), re.compile("a", re.MULTILINE)]),
}
LIST: Any = list
TUPLE: Any = tuple
DICT: Any = dict
DEQUE: Any = deque
KEYS: tuple[Any, ...] = (int, str, bytes, date, UUID, Shade)


def fielded(kind: Callable[[str, list[tuple[str, Any]]], Any], part: Any, values: Any) -> tuple[Any, Any]:
    declared = kind("Made", [("a_b", part), ("c", LIST[part])])
    return declared, st.builds(lambda one, many: declared(a_b=one, c=many), values, st.lists(values, max_size=2))


def made_model(name: str, fields: list[tuple[str, Any]]) -> Any:
    return create_model(name, **{field: (declared, ...) for field, declared in fields})  # type: ignore[call-overload]


@st.composite
def typed_values(draw: st.DrawFn, leaves: dict[Any, st.SearchStrategy[Any]]) -> tuple[Any, Any]:
    """A type, made of these leaves, and a value of it."""
    declared, values = draw(st.sampled_from(list(leaves.items())))
    for _ in range(draw(st.integers(0, 3))):
        part = declared
        match draw(st.sampled_from(("list", "tuple", "pair", "dict", "optional", "deque", "model", "dataclass"))):
            case "list":
                declared, values = LIST[part], st.lists(values, max_size=3)
            case "tuple":
                declared, values = TUPLE[part, ...], st.lists(values, max_size=3).map(tuple)
            case "pair":
                declared, values = TUPLE[part, int], st.tuples(values, st.integers())
            case "dict":
                key = draw(st.sampled_from(KEYS))
                declared, values = DICT[key, part], st.dictionaries(FAITHFUL[key], values, max_size=3)
            case "optional":
                declared, values = part | None if part is not Any else Any, st.none() | values
            case "deque":
                declared, values = DEQUE[part], st.lists(values, max_size=3).map(deque)
            case "model":
                declared, values = fielded(made_model, part, values)
            case "dataclass":
                declared, values = fielded(dataclasses.make_dataclass, part, values)
    return declared, draw(values)


A_HUNDRED = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.slow
@A_HUNDRED
@given(typed_values(FAITHFUL))
async def test_any_type_of_faithful_parts_comes_back_equal(typed: tuple[Any, Any]) -> None:
    declared, value = typed

    assert await returned(declared, value) == [value, value]


@pytest.mark.slow
@A_HUNDRED
@given(typed_values(DOUBTFUL))
async def test_any_type_comes_back_equal_or_is_refused_with_its_place(typed: tuple[Any, Any]) -> None:
    declared, value = typed
    found = []

    async def execute(ctx: RunContext) -> None:
        found.append(await ctx.step("it", lambda: value, returns=declared))

    harness = Harness(scripted(execute))
    run = await harness.run()

    assert harness.executions(run.id) == {"it": 1}
    if run.status == "success":
        assert found == [value]
    else:
        assert (found, run.error_type) == ([], "ResultInvalid")
        assert (await harness.steps(run.id))["it"].result is None
        assert "; " in (run.error or "")
