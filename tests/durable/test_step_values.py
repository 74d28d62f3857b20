"""What goes into the record of a step comes out of it as it was, or is refused before it is recorded."""

import ipaddress
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pydantic import (
    AfterValidator,
    BeforeValidator,
    HttpUrl,
    PlainSerializer,
    SecretStr,
    SerializeAsAny,
    StringConstraints,
)

from autopilot import Retry, RunContext
from autopilot.core.store import Store
from autopilot.models import StepStatus
from autopilot.testing import Harness, InstanceKilled, ManualClock
from tests.durable.scripts import returned, scripted
from tests.durable.value_types import (
    WHEN,
    Cat,
    Counted,
    Dog,
    Euros,
    Fragile,
    Hidden,
    InHex,
    Insured,
    Item,
    Level,
    Loud,
    Money,
    Movie,
    Names,
    Order,
    Page,
    Parcel,
    Pet,
    Point,
    Rights,
    Shade,
    Special,
    Stamped,
    State,
    Strict,
)
from tests.log_events import Events, named

BERLIN = ZoneInfo("Europe/Berlin")
UNTYPED = None


async def refused(returns: Any, value: Any) -> str:
    """Why a result was refused: at once, with nothing recorded as a success, and never executed again."""

    async def execute(ctx: RunContext) -> None:
        await ctx.step("it", lambda: value, returns=returns, semantics="at_most_once", retry=Retry(attempts=3))

    harness = Harness(scripted(execute, retry=Retry(attempts=3)))
    run = await harness.run()

    assert (run.status, run.error_type) == ("failed", "ResultInvalid")
    assert harness.executions(run.id) == {"it": 1}
    step = (await harness.steps(run.id))["it"]
    assert (step.status, step.result) == (StepStatus.FAILED, None)
    return run.error or ""


def numbered(cases: Sequence[tuple[Any, ...]]) -> list[str]:
    """Ids of cases, the same in each process: of a set or an object there is no such text."""
    return [f"{number} {type(case[1]).__name__}" for number, case in enumerate(cases)]


COMES_BACK: tuple[tuple[Any, Any], ...] = (
    (UNTYPED, None),
    (UNTYPED, [1, 2.5, "ä", True, {"a": [], "b": {}}]),
    (UNTYPED, 2**80),
    (int, 10**1000),
    (int, -(2**63)),
    (float, -0.1),
    (complex, 1 + 2j),
    (bool | int | float | str, True),
    (bool | int | float | str, 1),
    (bool | int | float | str, 1.0),
    (bool | int | float | str, "1"),
    (int | str | None, None),
    (str, "\0 \N{GRINNING FACE} \u2028"),
    (bytes, b"\xff\x00"),
    (dict[bytes, set[bytes]], {b"\xff": {b"\xfe", b""}}),
    (date, date(9999, 12, 31)),
    (date | datetime, date(2026, 1, 1)),
    (date | datetime, datetime(2026, 1, 1)),  # noqa: DTZ001 - a naive one is a case
    (datetime, WHEN),
    (datetime, datetime(2026, 7, 1, 12, tzinfo=BERLIN)),
    (datetime, datetime(2026, 7, 1, tzinfo=timezone(timedelta(hours=-3, minutes=30)))),
    (time, time(1, 2, 3, 4)),
    (timedelta, timedelta(days=-1, microseconds=1)),
    (Decimal, Decimal("1.10")),
    (UUID, UUID(int=7)),
    (Path, Path("/a/b")),
    (ipaddress.IPv4Network, ipaddress.IPv4Network("10.0.0.0/8")),
    (HttpUrl, HttpUrl("https://example.com/?q=1")),
    (re.Pattern[str], re.compile("a+")),
    (Shade, Shade.DARK),
    (Level, Level.HIGH),
    (State, State.DONE),
    (Rights, Rights.READ | Rights.WRITE),
    (Literal["a", 2], 2),
    (dict[int, str], {1: "a", -1: "b"}),
    (dict[UUID, list[date]], {UUID(int=1): [date(2026, 1, 1)]}),
    (set[int], {3, 1, 2}),
    (frozenset[tuple[int, date]], frozenset({(1, date(2026, 1, 1))})),
    (deque[int], deque([1, 2])),
    (defaultdict[str, list[int]], defaultdict(list, {"a": [1]})),
    (OrderedDict[str, int], OrderedDict(b=1, a=2)),
    (Counter[str], Counter("aab")),
    (tuple[int, ...], ()),
    (tuple[int, Decimal, str], (1, Decimal(2), "3")),
    (Point, Point(1, WHEN)),
    (Movie, {"name": "M", "poster": b"\xff"}),
    (Movie, {}),
    (Parcel, Parcel(Decimal("0.10"), [Parcel(Decimal(2))], b"\xff")),
    (Stamped, Stamped(date(2026, 1, 1), ("a",))),
    (Order, Order.model_validate({"orderId": 3, "items": [{"name": "tea"}]})),
    (list[Order], [Order.model_validate({"orderId": 3})]),
    (Strict, Strict(tags=frozenset("abc"))),
    (Pet, Dog(tricks={"sit"})),
    (list[Pet], [Cat(), Dog()]),
    (Page[Parcel], Page[Parcel](rows=[Parcel(Decimal(1))])),
    (Names, Names({1: "a"})),
    (Item | Special, Special(name="x")),
    (Hidden, Hidden()),
    (InHex, InHex(raw=b"\xff")),
    (Annotated[int, AfterValidator(abs)], 3),
    (Annotated[str, StringConstraints(strip_whitespace=True)], "a"),
    (Iterable[int], [1, 2]),
)


@pytest.mark.parametrize(("returns", "value"), COMES_BACK, ids=numbered(COMES_BACK))
async def test_a_value_comes_back_as_it_was(returns: Any, value: Any) -> None:
    for found in await returned(returns, value):
        assert found == value
        assert type(found) is type(value)


async def test_it_does_in_every_store(store: Store) -> None:
    value = Order.model_validate({"orderId": 3, "items": [{"name": "\N{GRINNING FACE}"}]})
    found = []

    async def execute(ctx: RunContext) -> None:
        found.append(await ctx.step("it", lambda: [value], returns=list[Order]))
        if len(found) == 1:
            raise ValueError("once")

    harness = Harness(scripted(execute), store=store, clock=ManualClock(datetime.now(UTC)))
    run = await harness.retry((await harness.run()).id)

    assert (run.status, found) == ("success", [[value], [value]])
    assert harness.executions(run.id) == {"it": 1}


async def test_sequences_come_back_as_the_kind_that_their_type_names() -> None:
    assert await returned(UNTYPED, (1, [2, (3,)])) == [[1, [2, [3]]]] * 2
    assert await returned(Sequence[int], (1, 2)) == [[1, 2]] * 2
    assert await returned(tuple[int, ...], [1, 2]) == [(1, 2)] * 2


async def test_plain_data_comes_back_as_the_model_that_is_declared() -> None:
    sent = {"orderId": "3", "items": [{"name": "tea", "unknown": 1}]}

    assert await returned(Order, sent) == [Order.model_validate(sent)] * 2


async def test_an_hour_that_a_clock_repeats_comes_back_as_the_same_one() -> None:
    second_time = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN)

    for found in await returned(datetime, second_time):
        assert found.astimezone(UTC) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


async def test_private_attributes_are_no_data() -> None:
    counted = Counted(seen=3)
    counted._cache["a"] = 1

    assert [found.seen for found in await returned(Counted, counted)] == [3, 3]


async def test_an_object_without_an_equality_comes_back_with_its_attributes() -> None:
    assert [vars(found) for found in await returned(list[Money], [Money(5)]) for found in found] == [{"cents": 5}] * 2


def with_currency(money: Money) -> Money:
    money.currency = "EUR"  # type: ignore[attr-defined] # that is the case
    return money


def as_written(value: Any, **fields: Any) -> Any:
    """A model whose fields were never validated."""
    return type(value).model_construct(**fields)


IS_REFUSED: tuple[tuple[Any, Any, str, str], ...] = (
    # what is declared, the value, its place, a word of the reason
    (UNTYPED, {"items": [1, 2, {"when": WHEN}]}, "result.items[2].when: ", "type datetime is not JSON"),
    (UNTYPED, {"a b": [b"x"]}, "result['a b'][0]: ", "type bytes is not JSON"),
    (UNTYPED, {"ids": {1, 2}}, "result.ids: ", "type set is not JSON"),
    (UNTYPED, [Item(name="x")], "result[0]: ", "type Item is not JSON"),
    (UNTYPED, [1, float("nan")], "result[1]: ", "not JSON compliant"),
    (UNTYPED, ["\ud800"], "result[0]: ", "lone surrogate"),
    (UNTYPED, {1: "a", "1": "b"}, "", "their keys become the same"),
    (UNTYPED, {"a": {1: "a"}}, "result.a: ", "its key 1 reads back as something else"),
    (UNTYPED, [Point(1, WHEN)._replace(at="x")], "result[0]: ", "Point reads back as list"),  # type: ignore[arg-type]
    (UNTYPED, [State.DONE], "result[0]: ", "State reads back as str"),
    (UNTYPED, Level.HIGH, "", "Level reads back as int"),
    (UNTYPED, object(), "", "type object is not JSON"),
    (UNTYPED, Decimal(1), "", "type Decimal is not JSON"),
    (UNTYPED, iter([1]), "", "type list_iterator is not JSON"),
    (float | None, float("inf"), "", "not JSON compliant"),
    (list[float], [1.0, float("nan")], "result[1]: ", "not JSON compliant"),
    (dict[int, str], {1: "a", "1": "b"}, "", "2 entries read back as 1"),
    (dict[int | str, str], {1: "a", "1": "b"}, "", "2 entries read back as 1"),
    (set[int], {1, "1"}, "", "2 elements read back as 1"),
    (dict[tuple[int, int], int], {(1, 2): 3}, "result", "cannot be read back"),
    (int, "many", "", "valid integer"),
    (Order, {"orderId": 1, "items": [{"name": 5}]}, "result.items[0].name: ", "valid string"),
    (Item, Special(name="x"), "", "Special reads back as Item"),
    (list[Item], [Item(name="x"), Special(name="y")], "result[1]: ", "loses what Item does not have"),
    (SerializeAsAny[Item], Special(name="x"), "", "Special reads back as Item"),
    (Page[Item], Page[Item](rows=[Special(name="x")]), "result.rows[0]: ", "Special reads back as Item"),
    (Parcel, Parcel(Decimal(1), [Insured(Decimal(1))]), "result.inside[0]: ", "Insured reads back as Parcel"),
    (Item, Item(name="x", when=[WHEN]), "result.when[0]: ", "datetime reads back as str"),
    (Item, Item(name="x", when=b"x"), "result.when: ", "bytes reads back as str"),
    (Item, Item(name="x", when=range(2)), "result.when: ", "Unable to serialize unknown type"),
    (dict[str, Any], {"a": {"b": WHEN}}, "result.a.b: ", "datetime reads back as str"),
    (Item, as_written(Item(name=""), name=5, when=None), "result.name: ", "valid string"),
    (Hidden, Hidden(secret=5), "result.secret: ", "this int reads back as another"),
    (list[Loud], [Loud(text="a")], "result[0].text: ", "this str reads back as another"),
    (list[Euros], [Euros(cents=1)], "result[0]: ", "ZeroDivisionError: integer division"),
    (dict[str, Fragile], {"a": Fragile(parts=1, error=None)}, "result.a: ", "ZeroDivisionError: no parts"),
    (re.Pattern[str], re.compile("a", re.IGNORECASE), "", "this Pattern reads back as another"),
    (SecretStr, SecretStr("hush"), "", "this SecretStr reads back as another"),
    (UUID | str, str(UUID(int=1)), "", "str reads back as UUID"),
    (datetime, datetime(1800, 1, 1, tzinfo=BERLIN), "", "this datetime reads back as another"),
    (Money, with_currency(Money(5)), "result.currency: ", "it is lost"),
    (Annotated[int, BeforeValidator(lambda cents: cents * 100)], 12, "", "another int of this int"),
    (Annotated[str, StringConstraints(to_lower=True)], "ABC", "", "another str of this str"),
    (Annotated[str, PlainSerializer(str.upper)], "abc", "", "this str reads back as another"),
)


@pytest.mark.parametrize(("returns", "value", "place", "reason"), IS_REFUSED, ids=numbered(IS_REFUSED))
async def test_one_that_would_come_back_as_something_else_is_refused_before_it_is_recorded(
    returns: Any, value: Any, place: str, reason: str
) -> None:
    error = await refused(returns, value)

    assert error.startswith(f"the result cannot be recorded: {place}")
    assert reason in error


@pytest.mark.parametrize(
    ("returns", "value", "way_out"),
    (
        (UNTYPED, WHEN, "declare the type: annotate the function's return, or pass returns=..."),
        (Item, Special(name="x"), "declare another type with returns=..."),
        (UNTYPED, float("nan"), "return something that JSON can hold"),
    ),
    ids=("untyped", "typed", "not JSON"),
)
async def test_a_refusal_says_what_to_do(returns: Any, value: Any, way_out: str) -> None:
    assert (await refused(returns, value)).endswith(way_out)


@pytest.mark.parametrize(
    "raised", (ZeroDivisionError("0"), RecursionError("deep"), SystemExit(3), GeneratorExit(), KeyError("k")), ids=repr
)
@pytest.mark.parametrize("moment", ("writing", "reading"))
async def test_whatever_validators_and_serializers_raise_is_a_result_that_cannot_be_recorded(
    raised: BaseException, moment: str
) -> None:
    def fail(value: Any) -> Any:
        raise raised

    def fail_on_text(value: Any) -> Any:
        return fail(value) if isinstance(value, str) else value

    declared: Any = Annotated[date, BeforeValidator(fail_on_text) if moment == "reading" else PlainSerializer(fail)]

    assert type(raised).__name__ in await refused(declared, date(2026, 1, 1)) or isinstance(raised, ValueError)


async def test_the_error_that_was_raised_is_logged_with_its_traceback(events: Events) -> None:
    async def execute(ctx: RunContext) -> None:
        await ctx.step("it", lambda: Euros(cents=1), returns=Euros)

    run = await Harness(scripted(execute)).run()

    assert run.error_type == "ResultInvalid"
    (line,) = named(events, "step_failed")
    assert "ZeroDivisionError" in line["exception"]


async def test_a_record_that_does_not_fit_the_type_any_more_is_unreadable() -> None:
    types: list[Any] = [int]

    async def execute(ctx: RunContext) -> None:
        await ctx.step("it", lambda: 5, returns=types[0])

    def explode(value: Any) -> Any:
        return 1 // 0

    for later in (dict[str, int], Annotated[int, BeforeValidator(explode)]):
        types[0] = int
        harness = Harness(scripted(execute))
        with pytest.raises(InstanceKilled):
            await harness.run(identity="x", kill_at="before commit end")
        harness.expire_lease()
        types[0] = later
        run = await harness.run(identity="x")

        assert (run.status, run.error_type) == ("failed", "StepResultUnreadable")
        assert "what attempt 1 recorded does not fit the type it has now" in (run.error or "")
