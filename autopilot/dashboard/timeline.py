"""The timeline of a run: its attempts and steps on one time scale, with long waits cut short."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from autopilot.api.schemas import AttemptDetail, RunDetail, StepDetail, milliseconds
from autopilot.core.steps.keys import readable_key
from autopilot.dashboard.formatting import duration
from autopilot.models import RunStatus, StepStatus, WorkflowRun

STEPS_PER_PAGE = 200

_BREAK_WIDTH = 0.04
"""The share of the width that a cut takes."""

_MAX_BREAKS = 6
_DENSITY_BARS = 160
_LEAST_WIDTH = 0.25
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Break:
    """A cut in the scale: a long time in which nothing happened."""

    x: float
    width: float
    length: str


@dataclass(frozen=True, slots=True)
class Span:
    """A time span, in percent of the width."""

    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Row:
    """A step in the timeline."""

    step: StepDetail
    span: Span
    """From its first try to its end."""
    tries: list[Span]
    """Each of its tries that ended, if it had several."""
    depth: int
    name: str
    """The last part of its key, within the step or item that it belongs to."""
    is_cause: bool


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """An attempt in the timeline."""

    attempt: AttemptDetail
    span: Span


@dataclass(frozen=True, slots=True)
class InProgress:
    """The time since the last recorded step of a running attempt."""

    span: Span
    length: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """Everything that the run page draws."""

    attempts: list[AttemptRow]
    rows: list[Row]
    in_progress: InProgress | None
    breaks: list[Break]
    ticks: list[tuple[float, str]]
    density: list[tuple[float, float, float, bool]]
    """Bars that count the steps on all pages by start: x, width, height, has failures. Empty if there is one page."""
    total: int
    page: int
    pages: int
    failed: int
    only_failed: bool


class TimeScale:
    """Maps times to positions from 0 to 1. Long times in which nothing happens are cut short."""

    def __init__(self, spans: Iterable[tuple[datetime, datetime]]) -> None:
        merged = _merged(spans)
        self.start, self.end = merged[0][0], merged[-1][1]
        whole = self.end - self.start
        busy = sum((end - start for start, end in merged), timedelta())
        gaps = [(end, after) for (_, end), (after, _) in pairwise(merged)]
        long = sorted((gap for gap in gaps if gap[1] - gap[0] > max(busy, whole / 10)), key=_length)[-_MAX_BREAKS:]
        self._cuts = sorted(long)
        kept = whole - sum((_length(cut) for cut in self._cuts), timedelta())
        self._per_second = (1 - _BREAK_WIDTH * len(self._cuts)) / max(kept.total_seconds(), 1e-6)

    def __call__(self, time: datetime) -> float:
        """The position of ``time``; within a cut, in proportion."""
        place, since = 0.0, self.start
        for begin, end in self._cuts:
            if time <= begin:
                break
            place += (begin - since).total_seconds() * self._per_second
            inside = min(time, end) - begin
            place += _BREAK_WIDTH * (inside / (end - begin))
            since = end
            if time <= end:
                return place
        return min(1.0, max(0.0, place + (time - since).total_seconds() * self._per_second))

    def span(self, start: datetime, end: datetime) -> Span:
        """The span from ``start`` to ``end``, wide enough to be seen."""
        x, width = 100 * self(start), 100 * (self(max(start, end)) - self(start))
        width = max(_LEAST_WIDTH, width)
        return Span(round(min(x, 100 - width), 3), round(width, 3))

    @property
    def breaks(self) -> list[Break]:
        """The cuts, in the order of time."""
        return [
            Break(round(100 * self(begin), 3), 100 * _BREAK_WIDTH, duration(milliseconds(end - begin)))
            for begin, end in self._cuts
        ]

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Labels of the axis: positions in percent, and the time since the start."""
        if self._cuts:
            return [(0.0, "0"), (100.0, duration((self.end - self.start) / _MILLISECOND))]
        whole = self.end - self.start
        return [(100 * part / 4, duration(whole * part / 4 / _MILLISECOND) if part else "0") for part in range(5)]


def timeline(detail: RunDetail, now: datetime, *, page: int | None, only_failed: bool) -> Timeline:
    """The timeline of a run. ``page`` None is the page with the step at which the run failed, or else the first."""
    run, steps = detail.run, detail.steps
    end = run.completed_at or max(now, run.started_at)
    ends = {step.key: _end_of(step, end) for step in steps}
    scale = TimeScale(
        [
            *((attempt.started_at, attempt.ended_at or end) for attempt in detail.attempts),
            *((step.started_at, ends[step.key]) for step in steps),
            (run.started_at, run.started_at),
            (end, end),
        ]
    )
    failed = [step for step in steps if step.status in {StepStatus.FAILED, StepStatus.INTERRUPTED}]
    shown = failed if only_failed else steps
    pages = max(1, -(-len(shown) // STEPS_PER_PAGE))
    cause = next((number for number, step in enumerate(shown) if step.key == detail.failed_step), 0)
    page = min(pages, max(1, page if page is not None else cause // STEPS_PER_PAGE + 1))
    first = (page - 1) * STEPS_PER_PAGE
    return Timeline(
        attempts=[AttemptRow(a, scale.span(a.started_at, a.ended_at or end)) for a in detail.attempts],
        rows=[
            Row(
                step=step,
                span=scale.span(step.started_at, ends[step.key]),
                depth=min(4, step.key.count("/")),
                tries=[scale.span(each.started_at, each.ended_at) for each in step.history if step.tries > 1],
                name=readable_key(step.key.rpartition("/")[2]),
                is_cause=step.key == detail.failed_step,
            )
            for step in shown[first : first + STEPS_PER_PAGE]
        ],
        in_progress=_in_progress(run, ends.values(), scale, end) if page == pages else None,
        breaks=scale.breaks,
        ticks=scale.ticks,
        density=_density(steps, scale) if pages > 1 else [],
        total=len(steps),
        page=page,
        pages=pages,
        failed=len(failed),
        only_failed=only_failed,
    )


def _in_progress(run: WorkflowRun, ends: Iterable[datetime], scale: TimeScale, now: datetime) -> InProgress | None:
    if run.status is not RunStatus.RUNNING:
        return None
    since = max(ends, default=run.started_at)
    return InProgress(scale.span(since, now), duration(milliseconds(now - since)))


def _end_of(step: StepDetail, end: datetime) -> datetime:
    if step.ended_at is not None:
        return step.ended_at
    return max(step.started_at, end)


def _density(steps: list[StepDetail], scale: TimeScale) -> list[tuple[float, float, float, bool]]:
    counts, failures = [0] * _DENSITY_BARS, [False] * _DENSITY_BARS
    for step in steps:
        slot = min(_DENSITY_BARS - 1, int(scale(step.started_at) * _DENSITY_BARS))
        counts[slot] += 1
        failures[slot] |= step.status in {StepStatus.FAILED, StepStatus.INTERRUPTED}
    most, width = max(counts), 100 / _DENSITY_BARS
    return [
        (round(number * width, 3), round(width * 0.8, 3), round(100 * count / most, 2), failures[number])
        for number, count in enumerate(counts)
        if count
    ]


def _merged(spans: Iterable[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    merged: list[tuple[datetime, datetime]] = []
    for start, end in sorted((start, max(start, end)) for start, end in spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _length(span: tuple[datetime, datetime]) -> timedelta:
    return span[1] - span[0]
