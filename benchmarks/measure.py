"""Measurements of things side by side, as one table."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median

Measurement = Callable[[], Awaitable[float]]
"""Does something once and returns its duration in seconds."""


@dataclass(frozen=True, slots=True)
class Samples:
    """The durations of one thing."""

    name: str
    seconds: list[float]

    @property
    def median_ms(self) -> float:
        return median(self.seconds) * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the table: a measurement and, where there is one, what ran beside it."""

    measured: Samples
    beside: Samples | None = None
    most_ms: float | None = None
    """The aim for the median."""
    most_times: float | None = None
    """The aim for the ratio to what ran beside it."""

    @property
    def ratio(self) -> float | None:
        return None if self.beside is None else self.measured.median_ms / self.beside.median_ms

    @property
    def aim(self) -> str:
        if self.most_ms is not None:
            return _verdict(f"{self.most_ms:g} ms", met=self.measured.median_ms <= self.most_ms)
        if self.most_times is not None and self.ratio is not None:
            return _verdict(f"{self.most_times:.2g}x", met=self.ratio <= self.most_times)
        return ""


def timed(action: Callable[[], Awaitable[object]]) -> Measurement:
    """Make a measurement of the whole of ``action``."""

    async def measure() -> float:
        began = time.perf_counter()
        await action()
        return time.perf_counter() - began

    return measure


async def interleave(rounds: int, /, *, warm_up: int, **measurements: Measurement) -> list[Samples]:
    """Measure in turns (A, B, A, B, ...), so that other load on the machine affects all of them alike.

    The underscores of a name are spaces in the table. The first ``warm_up`` rounds are not kept.
    """
    taken: dict[str, list[float]] = {name: [] for name in measurements}
    for _ in range(warm_up + rounds):
        for name, measure in measurements.items():
            taken[name].append(await measure())
    return [Samples(name.replace("_", " "), seconds[warm_up:]) for name, seconds in taken.items()]


def table(lines: list[Line]) -> str:
    """Format the lines in columns."""
    rows = [("measured", "n", "median", "beside it", "n", "median", "ratio", "aim")]
    rows += [
        (
            *_cells(line.measured),
            *(_cells(line.beside) if line.beside else ("", "", "")),
            "" if line.ratio is None else f"{line.ratio:.2f}x",
            line.aim,
        )
        for line in lines
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    is_text = (True, False, False, True, False, False, False, True)
    return "\n".join(
        "  ".join(
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(row, widths, is_text, strict=True)
        ).rstrip()
        for row in rows
    )


def _cells(samples: Samples) -> tuple[str, str, str]:
    return samples.name, str(len(samples.seconds)), f"{samples.median_ms:.3f} ms"


def _verdict(most: str, *, met: bool) -> str:
    return f"at most {most}: {'met' if met else 'MISSED'}"
