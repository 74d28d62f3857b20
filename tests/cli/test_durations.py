from datetime import timedelta

import pytest

from autopilot.cli.durations import duration_from, in_words


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
    assert in_words(timedelta(seconds=seconds)) == words
