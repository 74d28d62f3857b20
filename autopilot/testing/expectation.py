"""The undisturbed run of a workflow, and everything in which a disturbed one must be like it."""

import copy
import inspect
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from autopilot.core.steps.keys import is_within
from autopilot.errors import StepNotAwaited
from autopilot.models import RunStatus, StepStatus, WorkflowRun
from autopilot.testing.effects import Effects, Observation, excess
from autopilot.testing.instance import Trace

P = ParamSpec("P")
T = TypeVar("T")


def outcome_of(run: WorkflowRun) -> Any:
    """Status, result and error type of a run: the same whatever happened to its instances."""
    return run.status.value, run.result, run.error_type


def failed_as_interrupted(run: WorkflowRun) -> bool:
    """Return True if the run failed because an at-most-once step was interrupted."""
    return run.status is RunStatus.FAILED and run.error_type in {"StepInterrupted", "MapFailed"}


def plain(name: str, function: Callable[P, T]) -> Callable[P, T]:
    """An author's function, of which an argument's name is ``name``; what is to be awaited would never be.

    Raises:
        TypeError: it is no function; or later, it was called and is asynchronous.
    """
    if not callable(function):
        raise TypeError(f"{name}: it must be a function, not a {type(function).__name__}")

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        answer = function(*args, **kwargs)
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            raise TypeError(f"{name}: it must be a plain function, not an asynchronous one")
        return answer

    return call


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

    def errors_of_ending(
        self, run: WorkflowRun, outcome: Any, *, interrupted: Collection[str], is_other_path: bool
    ) -> list[str]:
        """What is wrong with how a run ended.

        Args:
            interrupted: the at-most-once steps that were cut off in it.
            is_other_path: there are such, and it ended as it should then.
        """
        if outcome == self.outcome or is_other_path:
            return []
        error = f" ({run.error})" if run.error else ""
        ended = f"it ended as {outcome!r}{error}, not as {self.outcome!r}"
        return [f"{ended}{_way_out(interrupted)}"]

    def errors_of_steps(self, run_id: str, trace: Trace, *, is_same_path: bool) -> list[str]:
        """What is wrong with the records of a run's steps.

        Args:
            is_same_path: it ended like the undisturbed run, without anything having been cut off for good.
        """
        errors = [
            f"step {key}: its result was recorded {count} times"
            for (_, key), statuses in trace.steps.items()
            if (count := statuses.count(StepStatus.SUCCESS)) > 1 and "retry" not in trace.commits
        ]
        return [*errors, *self.errors_of_keys(run_id, trace)] if is_same_path else errors

    def errors_of_keys(self, run_id: str, trace: Trace) -> list[str]:
        """The steps whose result only one of two runs recorded, which ended alike."""
        left_out = self._items_left_out(run_id, trace)
        return [
            f"step {key}: its result was recorded in only one of the two runs"
            for key in sorted(recorded(trace, run_id) ^ recorded(self.trace, self.run.id))
            if not left_out(key)
        ]

    def errors_of_bodies(self, run_id: str, trace: Trace, cuts: Sequence[Trace], *, is_other_path: bool) -> list[str]:
        """What is wrong with how often bodies were begun.

        Args:
            cuts: everything that had happened when each of the instances was cut off, in order.
            is_other_path: steps may be begun that the undisturbed run had no reason to begin.
        """
        errors, left_out = [], self._items_left_out(run_id, trace)
        for key, count in sorted((bodies_of(trace, run_id) - self.bodies).items()):
            if not self.bodies[key] and (is_other_path or left_out(key)):
                allowed = count if _is_begun_before_its_end(key, run_id, trace, cuts) else count - 1
            else:
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

    def _items_left_out(self, run_id: str, trace: Trace) -> Callable[[str], bool]:
        """Whether a key is that of a fan-out that left items out in one of two runs, or of an item of such.

        Once it has enough of them, it is a matter of time which ones it left out.
        """
        keys = recorded(trace, run_id) | recorded(self.trace, self.run.id)
        fan_outs = keys - self.bodies.keys() - bodies_of(trace, run_id).keys()  # their own records have no body
        return lambda key: any(key == fan_out or key.startswith(f"{fan_out}[") for fan_out in fan_outs)

    def too_often(self, found: Effects, *, is_other_path: bool) -> Effects:
        """The effects that happened more often than in the undisturbed run."""
        if is_other_path:  # it may do what the undisturbed run had no reason to do
            found = Counter({effect: count for effect, count in found.items() if effect in self.effects})
        return excess(self.effects, found)


def bodies_of(trace: Trace, run_id: str) -> Counter[str]:
    """How often each body of a run was begun, by the steps' full keys."""
    return Counter({key: count for (run, key), count in trace.bodies.items() if run == run_id})


def recorded(trace: Trace, run_id: str) -> frozenset[str]:
    """The keys of the steps of a run whose results were recorded."""
    return frozenset(
        key for (run, key), statuses in trace.steps.items() if run == run_id and StepStatus.SUCCESS in statuses
    )


def cut_off(trace: Trace) -> list[str]:
    """The keys of the at-most-once steps that were begun and have no ending."""
    return [key for (_, key), statuses in trace.steps.items() if statuses[-1] is StepStatus.STARTED]


def errors_of_awaiting(run: WorkflowRun, trace: Trace, seen: Observation) -> list[str]:
    """The steps that ``execute`` or a body asked for and never awaited, with the places at which they did."""
    forgetful = list(trace.not_awaited)
    if run.error_type == StepNotAwaited.__name__ and run.error:
        forgetful.append(run.error)
    if not forgetful:
        return []
    left = [
        f"step {key} was never awaited: it is asked for at {place}"
        for key, place in seen.asked.items()
        if (run.id, key) not in trace.steps
    ]
    return left or [f"a step was never awaited: {error}" for error in dict.fromkeys(forgetful)]


def errors_of_catching(seen: Observation) -> list[str]:
    """The line that caught the end of an attempt, if one did and the code went on."""
    return [f"the code caught the end of its attempt and went on, at {seen.caught}"] if seen.caught else []


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


def _way_out(interrupted: Collection[str]) -> str:
    if not interrupted:
        return ""
    steps = ", ".join(sorted(interrupted))
    return f"; at_most_once steps were cut off in it ({steps}): if it is to end so then, say so with interrupted="


def _is_begun_before_its_end(key: str, run_id: str, trace: Trace, cuts: Iterable[Trace]) -> bool:
    """Whether no instance began a body that one before it had brought to its end."""
    return not any(
        trace.bodies[run_id, key] > cut.bodies[run_id, key]
        for cut in cuts
        if key in recorded(cut, run_id) | _failed(cut)
    )


def _cut_short(key: str, run_id: str, cuts: Iterable[Trace]) -> int:
    """How often a body was begun in instances that did not live to record its end."""
    count, before = 0, 0
    for cut in cuts:
        if key not in recorded(cut, run_id) | _failed(cut):
            count += cut.bodies[run_id, key] - before
        before = cut.bodies[run_id, key]
    return count
