"""The undisturbed run of a workflow, and everything in which a disturbed one must be like it."""

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from autopilot.core.steps.keys import is_within
from autopilot.errors import StepNotAwaited
from autopilot.models import RunStatus, StepStatus, WorkflowRun
from autopilot.testing.effects import Effects, Observation, excess
from autopilot.testing.instance import Trace


def outcome_of(run: WorkflowRun) -> Any:
    """Status, result and error type of a run: the same whatever happened to its instances."""
    return run.status.value, run.result, run.error_type


def failed_as_interrupted(run: WorkflowRun) -> bool:
    """Return True if the run failed because an at-most-once step was interrupted."""
    return run.status is RunStatus.FAILED and run.error_type in {"StepInterrupted", "MapFailed"}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a test says of its workflow's runs."""

    outcome: Callable[[WorkflowRun], Any]
    """What must be equal in all of them."""
    interrupted: Callable[[WorkflowRun], bool]
    """Whether a run in which an at-most-once step was cut off ended as it should."""

    def snapshot(self, run: WorkflowRun) -> Any:
        """The outcome as it is now, which nothing changes later.

        Raises:
            ValueError: it does not compare as equal to its copy.
        """
        found = self.outcome(run)
        kept = copy.deepcopy(found)
        if kept != found:
            raise ValueError(f"outcome: it must give values that can be compared, not {found!r}")
        return kept


@dataclass(frozen=True, slots=True)
class Expectation:
    """A run to which nothing was done, with all that was seen of it."""

    run: WorkflowRun
    trace: Trace
    outcome: Any
    effects: Effects

    @property
    def bodies(self) -> Counter[str]:
        """How often each body was begun."""
        return bodies_of(self.trace, self.run.id)

    def errors_of_ending(self, run: WorkflowRun, outcome: Any, *, is_other_path: bool) -> list[str]:
        """What is wrong with how a run ended.

        Args:
            is_other_path: an at-most-once step was cut off in it, and it ended as it should then.
        """
        if outcome == self.outcome or is_other_path:
            return []
        error = f" ({run.error})" if run.error else ""
        return [f"it ended as {outcome!r}{error}, not as {self.outcome!r}"]

    def errors_of_steps(self, trace: Trace, *, is_same_path: bool) -> list[str]:
        """What is wrong with the records of a run's steps.

        Args:
            is_same_path: it ended like the undisturbed run, without anything having been cut off for good.
        """
        errors = [
            f"step {key}: its result was recorded {count} times"
            for (_, key), statuses in trace.steps.items()
            if (count := statuses.count(StepStatus.SUCCESS)) > 1 and "retry" not in trace.commits
        ]
        if is_same_path:
            errors += [
                f"step {key}: its result was recorded in only one of the two runs"
                for key in sorted(recorded(trace) ^ recorded(self.trace))
            ]
        return errors

    def errors_of_bodies(self, run_id: str, trace: Trace, cuts: Sequence[Trace]) -> list[str]:
        """What is wrong with how often bodies were begun.

        Args:
            cuts: everything that had happened when each of the instances was cut off, in order.
        """
        errors = []
        for key, count in sorted((bodies_of(trace, run_id) - self.bodies).items()):
            allowed = _cut_short(key, run_id, cuts)
            if count > allowed:
                errors.append(f"step {key}: its body was begun {count} times more; {allowed} would be right")
        for cut in cuts:
            errors += [
                f"step {key}: it may be begun at most once, and was begun again"
                for key in cut_off(cut)
                if trace.bodies[run_id, key] > cut.bodies[run_id, key]
            ]
        return list(dict.fromkeys(errors))

    def too_often(self, found: Effects, *, is_other_path: bool) -> Effects:
        """The effects that happened more often than in the undisturbed run."""
        if is_other_path:  # it may do what the undisturbed run had no reason to do
            found = Counter({effect: count for effect, count in found.items() if effect in self.effects})
        return excess(self.effects, found)


def bodies_of(trace: Trace, run_id: str) -> Counter[str]:
    """How often each body of a run was begun, by the steps' full keys."""
    return Counter({key: count for (run, key), count in trace.bodies.items() if run == run_id})


def recorded(trace: Trace) -> frozenset[str]:
    """The keys of the steps whose results were recorded."""
    return frozenset(key for (_, key), statuses in trace.steps.items() if StepStatus.SUCCESS in statuses)


def cut_off(trace: Trace) -> list[str]:
    """The keys of the at-most-once steps that were begun and have no ending."""
    return [key for (_, key), statuses in trace.steps.items() if statuses[-1] is StepStatus.STARTED]


def errors_of_awaiting(run: WorkflowRun, trace: Trace, seen: Observation) -> list[str]:
    """The steps that the run asked for and never awaited, with the places at which it did."""
    if run.error_type != StepNotAwaited.__name__:
        return []
    left = [
        f"step {key} was never awaited: it is asked for at {place}"
        for key, place in seen.asked.items()
        if (run.id, key) not in trace.steps
    ]
    return left or [f"a step was never awaited: {run.error}"]


def effect_errors(over: Effects, expected: Effects, seen: Observation) -> list[str]:
    """One line for each effect that happened too often: how often, and the lines of code that had it."""
    return [
        f"{effect}: happened {expected[effect] + count} times, {expected[effect]} would be right: "
        f"{seen.places_of(effect) or 'in none of the lines that could be followed'}"
        for effect, count in sorted(over.items())
    ]


def _failed(trace: Trace) -> frozenset[str]:
    """The keys of the steps that failed for good.

    Not of those within another: when the body around them is executed again, its ``retry`` may try them again. Nor of a
    run that its manifest's ``retry`` has begun again.
    """
    if "retry" in trace.commits:
        return frozenset()
    last = {key: statuses[-1] for (_, key), statuses in trace.steps.items() if not is_within(key)}
    return frozenset(key for key, status in last.items() if status is StepStatus.FAILED)


def _cut_short(key: str, run_id: str, cuts: Iterable[Trace]) -> int:
    """How often a body was begun in instances that did not live to record its end."""
    count, before = 0, 0
    for cut in cuts:
        if key not in recorded(cut) | _failed(cut):
            count += cut.bodies[run_id, key] - before
        before = cut.bodies[run_id, key]
    return count
