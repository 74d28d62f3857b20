"""Killing, stopping and pausing a workflow at every moment of a run, to see that it ends as if nothing had happened."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from structlog.testing import capture_logs

from autopilot.core.store import Store
from autopilot.models import WorkflowRun
from autopilot.testing.effects import World
from autopilot.testing.expectation import Judgement, failed_as_interrupted, outcome_of, plain
from autopilot.testing.harness import MakeWorkflow
from autopilot.testing.trial import AS_IT_IS, Bench, CrashPoint, Disturbance

T = TypeVar("T")

_POINTS_SHOWN = 15
"""Of how many points with errors a failing test shows them; one mistake is often at many."""


@dataclass(frozen=True, slots=True)
class CrashReport:
    """The runs of a crash matrix, one for each thing that was done to a run."""

    undisturbed: WorkflowRun
    points: tuple[CrashPoint, ...]
    """First one for each kill, in the order of the moments; then the others."""

    @property
    def errors(self) -> list[CrashPoint]:
        """The points at which something is wrong."""
        return [point for point in self.points if point.errors]

    def __str__(self) -> str:
        wrong = self.errors
        counts = Counter(point.how for point in self.points)
        done = ", ".join(f"{count} {how}" for how, count in counts.items())
        head = f"{self.undisturbed.workflow_id}: {len(self.points)} runs ({done}), {len(wrong)} with errors"
        shown = sorted(wrong, key=lambda point: point.how != AS_IT_IS)[:_POINTS_SHOWN] or self.points
        lines = [head, f"undisturbed: {outcome_of(self.undisturbed)}", *map(str, shown)]
        return "\n".join(lines if len(wrong) <= len(shown) else [*lines, f"... and {len(wrong) - len(shown)} more"])


class CrashMatrixFailed(AssertionError):
    """A run did not end as if nothing had been done to it; ``report`` has every point."""

    def __init__(self, report: CrashReport) -> None:
        super().__init__(str(report))
        self.report = report


async def crash_matrix(
    workflow: MakeWorkflow,
    payload: Any = None,
    *,
    store: Store | None = None,
    outcome: Callable[[WorkflowRun], Any] = outcome_of,
    effects: Callable[[], Any] | None = None,
    interrupted: Callable[[WorkflowRun], bool] = failed_as_interrupted,
    prepare: Callable[[], object] = lambda: None,
    second_kills: int = 50,
) -> CrashReport:
    """Run a workflow once undisturbed, and then again and again, doing something to its instances each time.

    The moments: before and after every step's body, before and after every commit. A run for each of these:

    - *killed* at one moment. While the dead instance's lease lasts, the same trigger executes nothing; after it, the
      trigger is delivered to cold instances until the run ends;
    - *killed* at a second moment too, of the delivery after the first kill: all pairs up to ``second_kills``, and so
      many of them, evenly spread, if there are more;
    - *shut down* at one moment, by SIGTERM;
    - *paused* at one moment: the instance stands still, its lease ends, others bring the run to its end, and it goes
      on. It must not change anything any more;
    - *run again, undisturbed*.

    Then:

    - it ended like the first run, of which the outcome was taken before anything else;
    - every step's result was recorded once, under the same keys, and every step was awaited;
    - the statistics count one run more, under its status;
    - no body was begun again whose result or final failure was recorded, and those that were under way were begun again
      once for each time that their instance was cut off;
    - no at-most-once body was begun twice. Where it was cut off, the run may end as ``interrupted`` says;
    - no effect happened more often than it may. An error names it, and the line of the author's code that had it;
    - the code did not go on after the end of its attempt, which is no ``Exception``: it must not be caught.

    The moments are those of the undisturbed run by their number. A workflow whose steps run at once may reach them in
    another order; each point of the report tells the moment at which something was done.

    Args:
        workflow: the workflow's class, or a function that makes an instance.
        payload: of every run.
        store: any store, for all runs; its leases are cut to nothing, since its time may not be ours to move. Default:
            a new store in memory for each run, with leases as they are.
        outcome: what must be equal. It may read the outside world too: then an effect that happens twice is a
            difference. Leave out what depends on the time or the number of attempts. It is copied at once.
        effects: what the outside world saw, such as ``lambda: shop.payments``: a list, a dict, a number, or an object
            with such. None of its entries may be there more often than in the undisturbed run, wherever it came from.
            Default: whatever the author's code can change outside of a call, in the variables of its modules, classes
            and closures; then what code outside of steps does must not happen more often, and a body that may be
            executed again may have its effects again.
        interrupted: whether a run in which an at-most-once step was cut off ended as it should.
        prepare: is called before each run, to put back what the workflow changed elsewhere.
        second_kills: the number of runs, at most, that are killed twice.

    Raises:
        CrashMatrixFailed: an AssertionError that shows every point at which something is wrong.
        ValueError: the undisturbed run did not end, ``outcome`` cannot be compared, or ``effects`` looked into.
        TypeError: ``workflow`` is an instance, or another argument no plain function.
    """
    judgement = Judgement(plain("outcome", outcome), plain("interrupted", interrupted))
    world = World(workflow, effects and plain("effects", effects))
    bench = Bench(workflow, payload, store, judgement, plain("prepare", prepare), world)
    with capture_logs():  # hundreds of runs: what a failing test shows is the report
        report = await _report(bench, second_kills)
    if report.errors:
        raise CrashMatrixFailed(report)
    return report


async def _report(bench: Bench, second_kills: int) -> CrashReport:
    expected = await bench.undisturbed()
    moments = range(len(expected.trace.moments))
    kills = [await bench.try_out(expected, Disturbance(kills=(number,))) for number in moments]
    pairs = [(number, second) for number, kill in enumerate(kills) for second in range(kill.resumed_moments)]
    others = [
        *(Disturbance(kills=pair) for pair in spread(pairs, second_kills)),
        *(Disturbance(shut_down_at=number) for number in moments),
        *(Disturbance(pause_at=number) for number in moments if " commit " in expected.trace.moments[number]),
        Disturbance(),
    ]
    trials = [*kills, *[await bench.try_out(expected, disturbance) for disturbance in others]]
    return CrashReport(expected.run, tuple(trial.point for trial in trials))


def spread(values: Sequence[T], limit: int) -> list[T]:
    """At most ``limit`` of the values, evenly spread, always the same."""
    if len(values) <= limit:
        return list(values)
    return [values[number * len(values) // limit] for number in range(limit)]
