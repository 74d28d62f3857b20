import json
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import AnyUrl, BaseModel, ValidationError

from autopilot.dashboard import formatting
from autopilot.text import (
    duration_from,
    duration_text,
    relative_text,
    visible,
    visible_json,
    without_input_values,
)

NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "duration"),
    (
        ("45s", timedelta(seconds=45)),
        ("30m", timedelta(minutes=30)),
        ("2h", timedelta(hours=2)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(weeks=2)),
        ("1h30m", timedelta(minutes=90)),
        ("3660d", timedelta(days=3660)),
    ),
)
def test_a_duration_is_read_as_it_is_written(text: str, duration: timedelta) -> None:
    assert duration_from(text) == duration


@pytest.mark.parametrize("text", ("", "2", "h", "2x", "-2h", "2 h", "2h ", "1.5h", "٢h", "9999999h"))
def test_the_error_shows_how_a_duration_is_written(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid duration: write it like 30m, 2h, 7d or 1h30m"):
        duration_from(text)


@pytest.mark.parametrize("text", ("0s", "0h0m", "3661d", "999999w"))
def test_a_duration_is_longer_than_zero_and_at_most_ten_years(text: str) -> None:
    with pytest.raises(ValueError, match=f"'{text}' .* longer than zero and at most ten years"):
        duration_from(text)


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    (
        (0, "<1 ms"),
        (0.4, "0.4 ms"),
        (3, "3 ms"),
        (3.25, "3.2 ms"),
        (840, "840 ms"),
        (999.4, "999 ms"),
        (999.5, "1.0 s"),
        (2_400, "2.4 s"),
        (9_949, "9.9 s"),
        (9_950, "10 s"),
        (12_300, "12 s"),
        (59_900, "1 min"),
        (61_000, "1 min 1 s"),
        (185_000, "3 min 5 s"),
        (3_600_000, "1 h"),
        (3_605_000, "1 h"),
        (4_830_000, "1 h 20 min"),
        (86_400_000, "1 d"),
        (93_600_000, "1 d 2 h"),
        (100 * 86_400_000, "100 d"),
    ),
)
def test_the_command_and_the_dashboard_show_a_duration_in_its_two_greatest_units(
    milliseconds: float, words: str
) -> None:
    assert duration_text(milliseconds) == words
    assert formatting.duration(milliseconds) == words


@pytest.mark.parametrize(
    ("since", "words"),
    (
        (timedelta(0), "just now"),
        (timedelta(seconds=4), "just now"),
        (timedelta(seconds=-4), "now"),
        (timedelta(seconds=5), "5 s ago"),
        (timedelta(seconds=59.6), "1 min ago"),
        (timedelta(hours=2, minutes=50), "2 h ago"),
        (timedelta(days=9), "9 d ago"),
        (timedelta(hours=-2), "in 2 h"),
    ),
)
def test_a_time_is_shown_by_its_distance_in_the_greatest_unit(since: timedelta, words: str) -> None:
    assert relative_text(NOW - since, NOW) == words


HOSTILE = "a\x1b[2Jb\u202ec\u2066\u0085\x7f"


def test_control_and_bidirectional_characters_are_escaped() -> None:
    assert visible(HOSTILE) == r"a\x1b[2Jb\u202ec\u2066\x85\x7f"
    assert visible("tab\tline\nü😀") == "tab\tline\nü😀"


def test_json_with_escapes_means_the_same() -> None:
    escaped = visible_json(json.dumps({"text": HOSTILE}, ensure_ascii=False))

    assert escaped.isascii()
    assert json.loads(escaped) == {"text": HOSTILE}


class _Item(BaseModel):
    count: int
    url: AnyUrl


@pytest.mark.parametrize(
    "secret",
    (
        "s3cret",
        "a, input_type=s3cret",
        "input_value=s3cret",
        "x input_value=1, input_type=s3cret",
        "s3cret\nin two lines",
    ),
)
def test_the_values_that_pydantic_quotes_are_left_out(secret: str) -> None:
    with pytest.raises(ValidationError) as refused:
        _Item.model_validate({"count": secret, "url": secret})

    text = without_input_values(f"before\n{refused.value}\nafter")

    assert "s3cret" in str(refused.value)
    assert "s3cret" not in text
    assert (text[:7], text[-6:]) == ("before\n", "\nafter")
    assert "2 validation errors for _Item\ncount\n  Input should be a valid integer" in text
    assert text.count("input_type=str]") == 2
    assert "\nurl\n  Input should be a valid URL" in text


@pytest.mark.parametrize(
    "text", ("", "input_value=1", "input_type=int", "input_value=1 and input_value=2", "a, input_type=x")
)
def test_other_text_stays(text: str) -> None:
    assert without_input_values(text) == text


def test_a_text_made_of_marks_takes_linear_time() -> None:
    for text in ("input_value=" * 200_000, ", input_type=input_value=" * 100_000):
        assert len(without_input_values(text)) <= len(text)
