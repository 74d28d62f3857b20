"""The time line's scale."""

from datetime import UTC, datetime, timedelta

from autopilot.dashboard.timeline import TimeScale

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_without_waits_time_is_even() -> None:
    scale = TimeScale([(at(0), at(4)), (at(4), at(10))])

    assert [round(scale(at(second)), 3) for second in (0, 2.5, 5, 10)] == [0.0, 0.25, 0.5, 1.0]
    assert scale.breaks == []


def test_a_long_wait_is_cut_short_and_told() -> None:
    scale = TimeScale([(at(0), at(10)), (at(3600), at(3610))])

    (cut,) = scale.breaks
    assert cut.length == "59 min 50 s"
    assert round(scale(at(10)), 3) == 0.48
    assert round(scale(at(3600)), 3) == 0.52
    assert scale(at(3610)) == 1.0


def test_places_never_go_back() -> None:
    scale = TimeScale([(at(0), at(1)), (at(500), at(501)), (at(2000), at(2001))])
    places = [scale(at(second)) for second in range(-10, 2100, 5)]

    assert places == sorted(places)
    assert 0 <= places[0] <= places[-1] <= 1


def test_what_took_no_time_can_be_seen() -> None:
    span = TimeScale([(at(0), at(0))]).span(at(0), at(0))

    assert span.width > 0
    assert span.x + span.width <= 100
