"""A payload means to a resume what it meant to the first attempt: it is recorded as it was sent."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Generic, Optional, TypeVar
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings, strategies as st
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    computed_field,
    field_validator,
    model_validator,
)
from typing_extensions import TypedDict

from autopilot import BaseWorkflow, Retry, RunContext, RunStatus, TriggerType, WorkflowManifest
from autopilot.errors import PayloadInvalid, WorkflowInvalid
from autopilot.testing import Harness, InstanceKilled
from tests.fakes import InMemoryRunLog

T = TypeVar("T")
calls: list[Any] = []


def counted(value: Any) -> Any:
    calls.append(value)
    return value


class Charge(BaseModel):
    user: str = Field(validation_alias="userId")
    cents: int = 0
    city: str = Field(default="", validation_alias=AliasPath("address", "city"))
    phone: str = Field(default="", validation_alias=AliasChoices("phone", "tel"), serialization_alias="PHONE")
    token: UUID = Field(default_factory=uuid4)
    seen: Annotated[int, BeforeValidator(counted)] = 0

    @field_validator("cents", mode="before")
    @classmethod
    def from_units(cls, units: int) -> int:
        return units * 100

    @model_validator(mode="before")
    @classmethod
    def unwrap(cls, data: Any) -> Any:
        return data.get("data", data)


SENT = {"data": {"userId": "ada", "cents": 12, "address": {"city": "Köln"}, "tel": "1", "seen": 5}}


class Charging(BaseWorkflow[Charge, Any]):
    manifest = WorkflowManifest(name="charging", retry=Retry(attempts=2))
    given: ClassVar[list[Charge]] = []
    fails = 0

    async def execute(self, ctx: RunContext, payload: Charge) -> Any:
        self.given.append(payload.model_copy())
        payload.cents = -1
        await ctx.step("it", lambda: 1)
        if type(self).fails:
            type(self).fails -= 1
            raise ValueError("no")
        return payload.cents


@pytest.fixture(autouse=True)
def _afresh() -> None:
    calls.clear()
    Charging.given.clear()
    Charging.fails = 0


async def test_it_is_recorded_as_it_was_sent_and_validated_once_for_each_attempt() -> None:
    harness = Harness(Charging)
    with pytest.raises(InstanceKilled):
        await harness.run(SENT, identity="x", kill_at="before commit end")
    assert calls == [5]
    harness.expire_lease()
    run = await harness.run(SENT, identity="x")

    assert run.status is RunStatus.SUCCESS, run.error
    assert run.trigger_data == SENT
    first, second = Charging.given
    assert (first.user, first.cents, first.city, first.phone, first.seen) == ("ada", 1200, "Köln", "1", 5)
    assert first.model_copy(update={"token": second.token}) == second


async def test_a_resume_validates_it_once() -> None:
    harness = Harness(Charging)
    with pytest.raises(InstanceKilled):
        await harness.run(SENT, identity="x", kill_at="after body it")
    (run,) = await harness.runs()
    harness.expire_lease()
    calls.clear()
    await harness.resume(run.id)

    assert calls == [5]
    assert [charge.cents for charge in Charging.given] == [1200, 1200]


async def test_each_execution_of_a_retry_in_place_gets_a_payload_of_its_own() -> None:
    Charging.fails = 1
    run = await Harness(Charging).run(SENT)

    assert (run.status, run.attempt) == ("success", 1)
    assert calls == [5, 5]
    assert [charge.cents for charge in Charging.given] == [1200, 1200]


async def test_what_was_recorded_can_be_sent_again() -> None:
    harness = Harness(Charging)
    first = await harness.run(SENT)
    second = await harness.run(first.trigger_data)

    assert second.status == "success"
    assert second.trigger_data == SENT
    assert [charge.cents for charge in Charging.given] == [1200, 1200]


async def test_a_payload_that_newer_code_refuses_fails_the_run_that_is_resumed() -> None:
    class Wanted(BaseModel):
        model_config = ConfigDict(extra="ignore")

        number: int

    def workflow(payload: Any) -> type[BaseWorkflow]:
        class Changing(BaseWorkflow[payload, None]):
            manifest = WorkflowManifest(name="changing")

            async def execute(self, ctx: RunContext, payload: Any) -> None:
                await ctx.step("it", lambda: 1)

        return Changing

    harness = Harness(workflow(dict[str, Any]))
    with pytest.raises(InstanceKilled):
        await harness.run({"text": "x"}, identity="x", kill_at="after body it")
    harness.expire_lease()
    (run,) = await harness.runs()
    run = await Harness(workflow(Wanted), store=harness.store, clock=harness.clock).resume(run.id)

    assert (run.status, run.error_type) == ("failed", "PayloadInvalid")


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text("ab\ud7ff"),
        lambda part: st.lists(part) | st.dictionaries(st.text("ab"), part),
    )
)
async def test_any_json_is_recorded_as_it_was_sent(value: Any) -> None:
    class Anything(BaseWorkflow):
        manifest = WorkflowManifest(name="anything")

        async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> Any:
            return payload["value"]

    run = await Harness(Anything).run({"value": value})

    assert (run.trigger_data, run.result) == ({"value": value}, value)


def workflow_of(payload: Any, result: Any = Any) -> Callable[[], BaseWorkflow[Any, Any]]:
    class Workflow(BaseWorkflow[payload, result]):
        manifest = WorkflowManifest(name="made")

        async def execute(self, ctx: RunContext, payload: Any) -> Any:
            return None

    return lambda: Workflow(run_log=InMemoryRunLog())


async def accepts(payload_type: Any, payload: Any) -> bool:
    try:
        await workflow_of(payload_type)().run(TriggerType.MANUAL, payload)
    except PayloadInvalid as error:
        kinds = {detail["type"] for detail in error.details}
        assert kinds <= {"extra_forbidden", "unexpected_keyword_argument"}, "any other is a fault of the test"
        return False
    return True


class Closed(BaseModel):
    x: int = 0


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    inner: Closed = Closed()


class Careless(BaseModel):
    model_config = ConfigDict(extra="ignore")

    inner: Closed = Closed()


class Mixed(BaseModel):
    inner: Closed = Closed()
    free: Open = Open()
    careless: Careless = Careless()
    many: list[dict[str, Closed]] = []
    either: Closed | None = None
    again: Optional["Mixed"] = None
    type: Closed = Closed()


@dataclasses.dataclass
class Plain:
    x: int = 0


class Typed(TypedDict, total=False):
    x: int


class Kinds(BaseModel):
    plain: Plain = Plain()
    typed: Typed = {}


async def test_each_class_that_says_nothing_of_unknown_fields_refuses_them_and_one_that_does_is_heeded() -> None:
    misspelt = {"x": 1, "y": 2}

    assert not await accepts(Closed, misspelt)
    assert not await accepts(Mixed, {"inner": misspelt})
    assert not await accepts(Mixed, {"many": [{"a": misspelt}]})
    assert not await accepts(Mixed, {"either": misspelt})
    assert not await accepts(Mixed, {"type": misspelt})
    assert not await accepts(Mixed, {"again": {"again": {"inner": misspelt}}})
    assert not await accepts(Mixed, {"free": {"inner": misspelt}})
    assert not await accepts(Kinds, {"plain": misspelt})
    assert not await accepts(Kinds, {"typed": misspelt})
    assert not await accepts(Plain, misspelt)
    assert not await accepts(Typed, misspelt)
    assert not await accepts(Annotated[Closed, "x"], misspelt)
    assert await accepts(Mixed, {"free": {"y": 1}, "again": {"free": {"y": 1}}})
    assert await accepts(Mixed, {"careless": {"y": 1}})


async def test_a_payload_type_that_says_itself_what_to_do_leaves_its_parts_as_they_are() -> None:
    assert await accepts(Careless, {"y": 1, "inner": {"y": 1}})
    assert await accepts(Open, {"y": 1, "inner": {"y": 1}})


async def test_a_validator_that_fails_in_any_way_refuses_the_payload_and_does_not_quote_it() -> None:
    def divide(value: int) -> float:
        raise ZeroDivisionError(f"s3cret {value}")

    class Divided(BaseModel):
        x: Annotated[int, BeforeValidator(divide)]

    with pytest.raises(PayloadInvalid) as caught:
        await workflow_of(Divided)().run(TriggerType.MANUAL, {"x": 0})

    assert str(caught.value).endswith(": a validator of the payload type raised ZeroDivisionError")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


class Card(BaseModel):
    number: SecretStr


class Wallet(BaseModel):
    cards: list[dict[str, Card]] = []


class Chain(BaseModel):
    next: Optional["Chain"] = None
    pin: Secret[int] | None = None


class Pin(Secret[int]):
    pass


@dataclasses.dataclass
class Login:
    user: str
    password: Annotated[SecretBytes, Field(min_length=1)]


class Header(TypedDict):
    token: SecretStr


class Boxed(BaseModel, Generic[T]):
    content: T


class Shown(BaseModel):
    key: Annotated[SecretStr, PlainSerializer(lambda secret: secret.get_secret_value())]


class Many(RootModel[list[Pin]]):
    pass


class OpenToSecrets(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, SecretStr]


class Derived(BaseModel):
    @computed_field  # type: ignore[prop-decorator] # as pydantic documents it
    @property
    def token(self) -> SecretStr:
        return SecretStr("made of nothing")


@pytest.mark.parametrize(
    ("secret_type", "field"),
    (
        (Card, "number"),
        (Wallet, "cards.number"),
        (Chain, "pin"),
        (Login, "password"),
        (Header, "token"),
        (Boxed[tuple[int, Card]], "content.number"),
        (Boxed[Pin], "content"),
        (Boxed[Login | Header], "content.password"),
        (Shown, "key"),
        (Many, "it"),
        (OpenToSecrets, "it"),
        (Derived, "token"),
        (dict[str, SecretStr], "it"),
    ),
    ids=lambda part: part if isinstance(part, str) else str(part).rpartition(".")[2],
)
@pytest.mark.parametrize("role", ("payload", "result"))
def test_a_class_with_a_secret_in_it_is_refused_when_it_is_made(secret_type: Any, field: str, role: str) -> None:
    make = workflow_of(secret_type) if role == "payload" else workflow_of(dict[str, Any], secret_type)

    with pytest.raises(WorkflowInvalid) as caught:
        make()

    assert f"{role} type" in str(caught.value)
    assert f": {field} is a secret" in str(caught.value)
    assert "Config" in str(caught.value)


class Report(BaseModel):
    report_id: int = Field(serialization_alias="reportId")
    raw: bytes = b"\xff"
    ratio: float = 0.5


async def result_of(result_type: Any, value: Any) -> Any:
    class Workflow(BaseWorkflow[dict[str, Any], result_type]):
        manifest = WorkflowManifest(name="made")

        async def execute(self, ctx: RunContext, payload: Any) -> Any:
            return value

    run = await Harness(Workflow).run()
    assert run.status == "success" or run.error_type == "ResultInvalid"
    return run.error or run.result


async def test_the_result_of_a_run_is_for_its_readers_as_its_type_says() -> None:
    shown = {"reportId": 1, "raw": "_w==", "ratio": 0.5}

    assert await result_of(Report, Report(report_id=1)) == shown
    assert await result_of(dict[str, list[Report]], {"a": [Report(report_id=1)]}) == {"a": [shown]}
    assert await result_of(Any, Report(report_id=1)) == shown
    assert await result_of(bytes, b"\xff") == "_w=="


async def test_one_that_cannot_be_written_says_where_and_what_to_do() -> None:
    def divide(value: Any) -> Any:
        return 1 // 0

    class Broken(BaseModel):
        x: Annotated[int, PlainSerializer(divide)] = 0

    assert await result_of(Any, {"a": [{"when": {1}}]}) == (
        "the result cannot be recorded: result.a[0].when: Object of type set is not JSON serializable; "
        "declare its type: class ...(BaseWorkflow[Payload, Result])"
    )
    assert "result.a[1].ratio: Out of range" in await result_of(
        dict[str, list[Report]], {"a": [Report(report_id=1), Report(report_id=2, ratio=float("nan"))]}
    )
    assert "result[0]: ZeroDivisionError" in await result_of(list[Broken], [Broken()])
    assert "result.report_id: Input should be a valid integer" in await result_of(Report, {"report_id": "x"})
