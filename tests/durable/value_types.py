"""Types of results, and values of them."""

import dataclasses
import enum
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel, computed_field, field_serializer
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import CoreSchema, core_schema
from typing_extensions import TypedDict

T = TypeVar("T")


class Shade(enum.Enum):
    DARK = "d"


class Level(enum.IntEnum):
    HIGH = 3


class State(enum.StrEnum):
    DONE = "done"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    at: datetime


class Movie(TypedDict, total=False):
    name: str
    poster: bytes


@dataclasses.dataclass
class Parcel:
    weight: Decimal
    inside: list["Parcel"] = dataclasses.field(default_factory=list)
    label: bytes = b""


@dataclasses.dataclass
class Insured(Parcel):
    value: int = 0


@pydantic_dataclass
class Stamped:
    on: date
    by: tuple[str, ...] = ()


class Item(BaseModel):
    name: str
    when: Any = None


class Special(Item):
    extra: int = 7


class Order(BaseModel):
    order_id: int = Field(validation_alias="orderId", serialization_alias="ORDER")
    items: list[Item] = []
    blob: bytes = b"\xff\x00"

    @computed_field  # type: ignore[prop-decorator] # as pydantic documents it
    @property
    def size(self) -> int:
        return len(self.items)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    tags: frozenset[str] = frozenset()


class Cat(BaseModel):
    kind: Literal["cat"] = Field(default="cat", alias="petKind")


class Dog(BaseModel):
    kind: Literal["dog"] = Field(default="dog", alias="petKind")
    tricks: set[str] = set()


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


class Page(BaseModel, Generic[T]):
    rows: list[T]


class Names(RootModel[dict[int, str]]):
    pass


class Counted(BaseModel):
    seen: int = 0
    _cache: dict[str, int] = PrivateAttr(default_factory=dict)


class Hidden(BaseModel):
    shown: int = 1
    secret: int = Field(default=0, exclude=True)


class InHex(BaseModel):
    model_config = ConfigDict(ser_json_bytes="hex", val_json_bytes="hex")

    raw: bytes


class Loud(BaseModel):
    text: str

    @field_serializer("text")
    def shout(self, text: str) -> str:
        return text.upper()


class Euros(BaseModel):
    cents: int

    @field_serializer("cents")
    def divide(self, cents: int) -> float:
        return 1 // 0


class Fragile(BaseModel):
    """Valid when it is made, and never again."""

    parts: int
    error: Any = Field(default=None, exclude=True)

    def __init__(self, **data: Any) -> None:
        if "error" not in data:
            raise ZeroDivisionError("no parts")
        super().__init__(**data)


class Money:
    """No model, and without an equality of its own."""

    def __init__(self, cents: int) -> None:
        self.cents = cents

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls(value),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda money: money.cents),
        )


WHEN = datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
