"""Geometry of the dashboard's charts, which ``templates/_charts.html`` draws as SVG.

Drawn on the server and not by a library in the browser: the content security policy allows neither inline styles nor
scripts from another host, a page loads no 100 KiB to draw some bars, and a page without JavaScript has its charts.
In SVG ``y`` grows downwards: a greater value has a lesser ``y``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autopilot.api.schemas import Activity, ActivityReport
from autopilot.dashboard.formatting import duration
from autopilot.models import RunStatus, WorkflowRun

WIDTH, HEIGHT = 720.0, 150.0
"""The size of a chart's drawing area; it is scaled to the page."""

STRIP_RUNS = 30
STRIP_HEIGHT = 34.0
STRIP_STEP = 10.0

_STACKED = (RunStatus.SUCCESS, RunStatus.SKIPPED, RunStatus.CANCELLED, RunStatus.FAILED)
"""The parts of a bar, from the bottom."""


@dataclass(frozen=True, slots=True)
class Part:
    """The runs of one status in a bar."""

    status: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """The runs that ended in one hour or day."""

    x: float
    width: float
    parts: list[Part]
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A labelled line of the scale, or a label of the time axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class OutcomeChart:
    """Number of runs by outcome over time."""

    bars: list[Bar]
    scale: list[Mark]
    times: list[Mark]
    summary: str

    @property
    def is_empty(self) -> bool:
        return not self.bars


@dataclass(frozen=True, slots=True)
class Dot:
    """The percentiles of one hour or day."""

    x: float
    p50: float
    p95: float
    title: str


@dataclass(frozen=True, slots=True)
class DurationChart:
    """Durations of runs over time."""

    dots: list[Dot]
    p50: str
    """Path of the medians."""
    band: str
    """Path around the area between p50 and p95."""
    scale: list[Mark]
    times: list[Mark]
    summary: str

    @property
    def is_empty(self) -> bool:
        return not self.dots


@dataclass(frozen=True, slots=True)
class StripBar:
    """One run. The slower it was, the higher its bar, on a logarithmic scale."""

    run: WorkflowRun
    x: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Strip:
    """The latest runs, the newest on the right."""

    bars: list[StripBar]
    summary: str


@dataclass(frozen=True, slots=True)
class Trend:
    """A small line of medians, without a scale."""

    path: str
    last: tuple[float, float] | None
    value: str
    summary: str


def outcome_chart(report: ActivityReport) -> OutcomeChart:
    totals = [sum(bucket.by_status.values()) for bucket in report.buckets]
    top = nice_top(max(totals, default=0))
    step = WIDTH / len(report.buckets)
    gap = min(6.0, step * 0.25)
    bars = [
        Bar(number * step + gap / 2, step - gap, _parts(bucket, top), _title(bucket, report))
        for number, bucket in enumerate(report.buckets)
        if totals[number]
    ]
    counted = {status: sum(bucket.by_status.get(status, 0) for bucket in report.buckets) for status in _STACKED}
    outcomes = ", ".join(f"{number} {status.value}" for status, number in counted.items() if number)
    scale = [Mark(HEIGHT - HEIGHT * share, f"{top * share:g}") for share in (0.5, 1.0)]
    return OutcomeChart(
        bars, scale, _times(report), f"Runs that ended in the last {report.window}: {outcomes or 'none'}."
    )


def _parts(bucket: Activity, top: float) -> list[Part]:
    parts, bottom = [], HEIGHT
    for status in _STACKED:
        if number := bucket.by_status.get(status.value, 0):
            height = max(2.0, HEIGHT * number / top)
            bottom -= height
            parts.append(Part(status.value, bottom, height))
    return parts


def _title(bucket: Activity, report: ActivityReport) -> str:
    time = f"{bucket.start:%a %d %b}" + (f", {bucket.start:%H:%M} UTC" if report.size == "hour" else "")
    outcomes = ", ".join(f"{number} {status}" for status, number in bucket.by_status.items())
    slow = f"; p50 {duration(bucket.duration_ms['p50'])}" if bucket.duration_ms else ""
    return f"{time}: {outcomes}{slow}"


def _times(report: ActivityReport) -> list[Mark]:
    step = WIDTH / len(report.buckets)
    every = max(1, math.ceil(len(report.buckets) / 6))
    form = "%H:%M" if report.size == "hour" else "%d %b"
    return [
        Mark((number + 0.5) * step, bucket.start.strftime(form))
        for number, bucket in enumerate(report.buckets)
        if number % every == every // 2
    ]


def duration_chart(report: ActivityReport) -> DurationChart:
    timed = [(number, bucket) for number, bucket in enumerate(report.buckets) if bucket.duration_ms]
    top = nice_top(max((bucket.duration_ms["p95"] for _, bucket in timed), default=0))
    step = WIDTH / len(report.buckets)
    dots = [
        Dot(
            (number + 0.5) * step,
            HEIGHT - HEIGHT * bucket.duration_ms["p50"] / top,
            HEIGHT - HEIGHT * bucket.duration_ms["p95"] / top,
            f"{_title(bucket, report)}, p95 {duration(bucket.duration_ms['p95'])}, "
            f"max {duration(bucket.duration_ms['max'])}",
        )
        for number, bucket in timed
    ]
    upper = [(dot.x, dot.p95) for dot in dots]
    lower = [(dot.x, dot.p50) for dot in reversed(dots)]
    summary = "No durations."
    if timed:
        last = timed[-1][1].duration_ms
        summary = f"Latest: p50 {duration(last['p50'])}, p95 {duration(last['p95'])}."
    return DurationChart(
        dots=dots,
        p50=path([(dot.x, dot.p50) for dot in dots]),
        band=f"{path([*upper, *lower])}Z" if len(dots) > 1 else "",
        scale=[Mark(HEIGHT - HEIGHT * share, duration(top * share)) for share in (0.5, 1.0)],
        times=_times(report),
        summary=summary,
    )


def strip(runs: Sequence[WorkflowRun]) -> Strip:
    """The bars of the latest runs, which come newest first."""
    shown = list(reversed(runs[:STRIP_RUNS]))
    slowest = max((run.duration_ms or 0 for run in shown), default=0)
    first = STRIP_RUNS - len(shown)
    bars = []
    for number, run in enumerate(shown):
        share = math.log1p(run.duration_ms or 0) / math.log1p(slowest) if slowest else 1.0
        height = STRIP_HEIGHT * (0.35 + 0.65 * share)
        bars.append(StripBar(run, (first + number) * STRIP_STEP + 1, STRIP_HEIGHT - height, height))
    counted = {status: sum(run.status is status for run in shown) for status in RunStatus}
    statuses = ", ".join(f"{number} {status.value}" for status, number in counted.items() if number)
    return Strip(bars, f"Last {len(shown)} runs: {statuses}." if shown else "No runs yet.")


def trend(report: ActivityReport, *, width: float = 120.0, height: float = 34.0) -> Trend:
    """The line of the medians, up to the latest."""
    values = [(number, bucket.duration_ms["p50"]) for number, bucket in enumerate(report.buckets) if bucket.duration_ms]
    if not values:
        return Trend("", None, "", "No durations yet.")
    top = max(value for _, value in values) or 1
    across = max(1, len(report.buckets) - 1)
    points = [(4 + (width - 8) * number / across, height - 4 - (height - 8) * value / top) for number, value in values]
    latest = duration(values[-1][1])
    return Trend(path(points), points[-1], latest, f"p50 {latest} on the last day with runs.")


def path(points: Sequence[tuple[float, float]]) -> str:
    """The ``d`` of an SVG path through these points."""
    return "".join(f"{'L' if number else 'M'}{x:.1f} {y:.1f}" for number, (x, y) in enumerate(points))


def nice_top(value: float) -> float:
    """The least of 1, 2, 4, 5, 10, 20, 40, ... that is not less than ``value``."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * factor for factor in (1, 2, 4, 5, 10, 20) if power * factor >= value)
