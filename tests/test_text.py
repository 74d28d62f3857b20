from datetime import timedelta

import pytest

from autopilot.dashboard import formatting
from autopilot.text import duration_from, duration_text, in_units


@pytest.mark.parametrize(
    ("text", "duration"),
    (
        ("45s", timedelta(seconds=45)),
        ("30m", timedelta(minutes=30)),
        ("2h", timedelta(hours=2)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(weeks=2)),
        ("1h30m", timedelta(minutes=90)),
    ),
)
def test_a_duration_is_read_as_it_is_written(text: str, duration: timedelta) -> None:
    assert duration_from(text) == duration


@pytest.mark.parametrize("text", ("", "2", "h", "2x", "-2h", "2 h", "2h ", "1.5h", "٢h", "0s", "9999999h", "999999w"))
def test_what_is_no_duration_says_how_one_is_written(text: str) -> None:
    with pytest.raises(ValueError, match=r"30m, 2h, 7d|longer than nothing"):
        duration_from(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    (
        (0, "0 s"),
        (5, "5 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (4830, "1 h 20 min"),
        (86400, "1 d"),
        (93600, "1 d 2 h"),
    ),
)
def test_a_duration_is_told_in_its_two_greatest_units(seconds: int, words: str) -> None:
    assert in_units(timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    (
        (0, "<1 ms"),
        (0.4, "0.4 ms"),
        (3.25, "3.2 ms"),
        (840, "840 ms"),
        (2400, "2.4 s"),
        (12_300, "12 s"),
        (59_900, "1 min"),
        (185_000, "3 min 5 s"),
    ),
)
def test_the_command_and_the_dashboard_say_the_same_of_what_took_long(milliseconds: float, words: str) -> None:
    assert duration_text(milliseconds) == formatting.duration(milliseconds) == words
