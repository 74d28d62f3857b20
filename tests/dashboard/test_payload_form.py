"""Forms made of schemas."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel, TypeAdapter

from autopilot.dashboard.payload_form import PREFIX, form_fields, payload_of


class Inner(BaseModel):
    a: int


class Everything(BaseModel):
    text: str
    maybe: str | None = None
    whole: int = 3
    part: float = 0.5
    yes: bool = True
    choice: Literal["a", "b"] = "a"
    lines: list[str] = []
    inner: Inner | None = None
    anything: Any = None


def fields_of(model: type[BaseModel]) -> dict[str, str]:
    return {field.name: field.kind for field in form_fields(model.model_json_schema()) or []}


def test_each_type_has_its_field() -> None:
    assert fields_of(Everything) == {
        "text": "text",
        "maybe": "text",
        "whole": "integer",
        "part": "number",
        "yes": "boolean",
        "choice": "choice",
        "lines": "lines",
        "inner": "json",
        "anything": "json",
    }


def test_what_is_filled_in_is_a_payload_of_its_type() -> None:
    fields = form_fields(Everything.model_json_schema())
    assert fields is not None
    form = {"text": "t", "whole": "4", "part": "1e2", "choice": '"b"', "lines": "x\r\n\r\n y", "inner": '{"a": 1}'}

    payload, faults = payload_of(fields, {PREFIX + name: value for name, value in form.items()})

    assert faults == {}
    assert Everything.model_validate(payload) == Everything(
        text="t", whole=4, part=100, yes=False, choice="b", lines=["x", "y"], inner=Inner(a=1)
    )


@pytest.mark.parametrize(("name", "value"), (("whole", "1.5"), ("part", "much"), ("inner", "{"), ("inner", "[" * 9999)))
def test_what_cannot_be_read_is_told_at_its_field(name: str, value: str) -> None:
    _, faults = payload_of(form_fields(Everything.model_json_schema()) or [], {PREFIX + name: value})

    assert set(faults) == {name}


def test_a_payload_that_is_any_object_is_written_as_json() -> None:
    assert form_fields(TypeAdapter(dict[str, Any]).json_schema()) is None


def test_a_run_s_payload_fills_the_form_in_again() -> None:
    fields = form_fields(Everything.model_json_schema(), {"text": "again", "lines": ["x", "y"], "yes": False})

    held = {field.name: field.value for field in fields or []}
    assert (held["text"], held["lines"], held["yes"], held["whole"]) == ("again", "x\ny", "false", "3")
