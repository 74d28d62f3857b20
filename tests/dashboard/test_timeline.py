"""The time line's scale."""

from datetime import UTC, datetime, timedelta

import pytest

from autopilot.api.run_detail import run_detail
from autopilot.core.store import StepRecord
from autopilot.dashboard.charts import nice_top
from autopilot.dashboard.timeline import Timeline, TimeScale, timeline
from autopilot.models import RunAttempt, RunStatus, StepStatus, TriggerType, WorkflowRun
from autopilot.settings import load_settings

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


def timeline_of(*steps: tuple[str, float, float, StepStatus], now: float, only_failed: bool = False) -> Timeline:
    """Of a running run with these steps: key, begin, end and status."""
    run = WorkflowRun(
        id="a", workflow_id="shop", status=RunStatus.RUNNING, trigger_type=TriggerType.HTTP, started_at=NOON
    )
    records = [
        StepRecord(key=key, status=status, attempt=1, tries=1, started_at=at(begin), ended_at=at(end))
        for key, begin, end, status in steps
    ]
    detail = run_detail(run, records, load_settings({}), defined=True)
    return timeline(detail, at(now), page=None, only_failed=only_failed)


def test_what_is_in_progress_began_when_the_last_step_ended() -> None:
    shown = timeline_of(("a", 0, 2, StepStatus.SUCCESS), ("b", 2, 4, StepStatus.SUCCESS), now=10)

    assert shown.in_progress is not None
    assert shown.in_progress.length == "6.0 s"
    assert (shown.in_progress.span.x, shown.in_progress.span.width) == (40, 60)


def test_interrupted_steps_are_among_the_failed_ones() -> None:
    statuses = (StepStatus.SUCCESS, StepStatus.FAILED, StepStatus.INTERRUPTED)
    steps = [(status.value, 0.0, 1.0, status) for status in statuses]

    shown = timeline_of(*steps, now=1, only_failed=True)

    assert ([row.name for row in shown.rows], shown.failed) == (["failed", "interrupted"], 2)


def test_where_more_steps_began_the_bar_is_higher() -> None:
    early = [(f"early {number}", 0.0, 1.0, StepStatus.SUCCESS) for number in range(300)]
    late = [(f"late {number}", 99.9, 100.0, StepStatus.FAILED) for number in range(30)]

    shown = timeline_of(*early, *late, ("between", 1, 99.9, StepStatus.SUCCESS), now=100)

    assert [(round(x), height, failed) for x, _, height, failed in shown.density] == [
        (0, 100, False),
        (1, 0.33, False),
        (99, 10, True),
    ]


@pytest.mark.parametrize(
    ("value", "top"), ((0, 1), (1, 1), (1.5, 2), (3, 4), (4.1, 5), (6, 10), (21, 40), (99, 100), (101, 200), (0.3, 0.4))
)
def test_a_scale_ends_at_a_round_number_that_nothing_exceeds(value: float, top: float) -> None:
    assert nice_top(value) == pytest.approx(top)


def test_the_bar_of_an_attempt_ends_with_the_attempt() -> None:
    run = WorkflowRun(
        id="a",
        workflow_id="shop",
        status=RunStatus.SUCCESS,
        trigger_type=TriggerType.HTTP,
        started_at=NOON,
        completed_at=at(10),
        attempt=2,
        attempts=(
            RunAttempt(number=1, started_at=at(0), ended_at=at(4), ending="released"),
            RunAttempt(number=2, started_at=at(5), ended_at=at(10), ending=RunStatus.SUCCESS),
        ),
    )

    shown = timeline(run_detail(run, [], load_settings({}), defined=True), at(10), page=None, only_failed=False)

    assert [(row.span.x, row.span.width) for row in shown.attempts] == [(0, 40), (50, 50)]
