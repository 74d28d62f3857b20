"""When ``autopilot dev`` starts a child again that ended by itself."""

from datetime import timedelta

from autopilot.development.reloader import Restarts
from autopilot.testing import ManualClock

KILLED, COULD_NOT_SERVE = -9, 1


def test_a_child_that_was_killed_is_started_again() -> None:
    assert Restarts(ManualClock()).allow(KILLED)


def test_a_bundle_that_cannot_be_imported_is_not() -> None:
    assert not Restarts(ManualClock()).allow(COULD_NOT_SERVE)


def test_a_third_young_death_in_a_row_is_the_last() -> None:
    restarts = Restarts(ManualClock())

    assert [restarts.allow(KILLED) for _ in range(3)] == [True, True, False]


def test_a_child_that_lived_for_a_minute_is_not_a_young_death() -> None:
    clock = ManualClock()
    restarts = Restarts(clock)

    allowed = []
    for seconds in (59, 59, 60, 59, 59, 59):
        restarts.started()
        clock.advance(timedelta(seconds=seconds))
        allowed.append(restarts.allow(KILLED))

    assert allowed == [True, True, True, True, True, False]


def test_a_changed_file_starts_the_count_again() -> None:
    restarts = Restarts(ManualClock())

    first = [restarts.allow(KILLED) for _ in range(2)]
    restarts.forget()

    assert first + [restarts.allow(KILLED) for _ in range(3)] == [True, True, True, True, False]
