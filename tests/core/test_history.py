"""The history against a model: a run log that counts, and instances that lose sight of it."""

import gc
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import FunctionType, ModuleType
from typing import Any

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from autopilot import RunStatus, WorkflowRun
from autopilot.core.runs.history import RECENT_RUNS, UNSAVED_BYTES, UNSAVED_RUNS, RunHistory, success_rate
from autopilot.core.runs.limits import PAYLOAD_LIMIT, RESULT_LIMIT
from autopilot.core.runs.transitions import stats_of
from autopilot.models import TriggerType
from autopilot.testing import ManualClock
from tests.runs import run_factory, without_values

ENDINGS = (RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.SKIPPED, RunStatus.CANCELLED, RunStatus.PAUSED)


class HistoryBesideARunLog(RuleBasedStateMachine):
    """One history, the run log beside it, and other instances that write to the run log too.

    ``view`` says under which status each run should count here: those of the last hydration, and those since.
    """

    begun = Bundle("begun")
    ended = Bundle("ended")

    @initialize()
    def start(self) -> None:
        self.history = RunHistory()
        self.stored: dict[str, RunStatus] = {}
        self.view: dict[str, RunStatus] = {}
        self.others = 0
        self.runs = 0
        self.known: list[WorkflowRun] = []

    def make_run(self, status: RunStatus) -> WorkflowRun:
        self.runs += 1
        return WorkflowRun(
            id=f"run-{self.runs}",
            workflow_id="digest",
            status=status,
            trigger_type=TriggerType.HTTP,
            started_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.runs),
        )

    @rule(status=st.sampled_from(ENDINGS))
    def another_instance_has_a_run(self, status: RunStatus) -> None:
        self.others += 1
        self.stored[f"other-{self.others}"] = status

    @rule(target=begun, recorded=st.sampled_from((RunStatus.RUNNING, None)))
    def a_run_begins(self, recorded: RunStatus | None) -> WorkflowRun:
        run = self.make_run(RunStatus.RUNNING)
        self.history.begin(run, recorded=recorded)
        if recorded is not None:
            self.stored[run.id] = recorded
        return run

    @rule(target=begun)
    def a_run_that_another_instance_created_is_resumed(self) -> WorkflowRun:
        run = self.make_run(RunStatus.RUNNING)
        self.stored[run.id] = run.status
        self.view[run.id] = run.status
        self.resync()
        self.history.begin(run, recorded=run.status, counted=run.status)
        return run

    @rule(target=ended, run=consumes(begun), status=st.sampled_from(ENDINGS))
    def a_run_ends(self, run: WorkflowRun, status: RunStatus) -> WorkflowRun:
        over = run.model_copy(update={"status": status})
        self.history.settle(over, saved=False)
        self.view[over.id] = status
        self.known.append(over)
        return over

    @rule(run=consumes(ended))
    def a_run_is_saved(self, run: WorkflowRun) -> None:
        self.stored[run.id] = run.status
        self.history.settle(run, saved=True)

    @rule(run=consumes(ended))
    def a_run_was_taken_over(self, run: WorkflowRun) -> None:
        self.history.withdraw(run)
        self.known.remove(run)
        self.view.pop(run.id)
        if run.id in self.stored:
            self.stored[run.id] = RunStatus.SUCCESS
        self.resync()

    @rule()
    def resync(self) -> None:
        """Hydrate: from here on the view is what is stored, and this instance's runs as they ended."""
        self.history.hydrate(stats_of(Counter(self.stored.values())), None)
        unsaved = {run.id: run.status for run in self.history.unsaved()}
        self.view = self.stored | unsaved

    @invariant()
    def it_counts_each_run_once(self) -> None:
        assert self.history.stats == stats_of(Counter(self.view.values()))

    @invariant()
    def it_lists_its_own_runs_newest_first(self) -> None:
        assert self.history.recent_runs == self.known[::-1][:RECENT_RUNS]


TestHistoryBesideARunLog = HistoryBesideARunLog.TestCase
TestHistoryBesideARunLog.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_more_unsaved_runs_than_can_be_kept_are_given_up_oldest_first() -> None:
    make_run, history = run_factory(ManualClock()), RunHistory()
    runs = [make_run() for _ in range(UNSAVED_RUNS + 2)]
    for run in runs:
        history.begin(run, recorded=None)

    dropped = [history.settle(run, saved=False) for run in runs]

    assert dropped == [*([[]] * UNSAVED_RUNS), [runs[0]], [runs[1]]]
    assert list(history.unsaved()) == runs[2:]


def large(run: WorkflowRun) -> WorkflowRun:
    """``run`` at the limits of its payload and of its result, with values of every kind of JSON."""
    payload = {"text": "é" * (PAYLOAD_LIMIT // 2 - 100), "nested": [{"a": [None, True, -1.5, 2**70]}]}
    return run.model_copy(update={"trigger_data": payload, "result": ["x" * (RESULT_LIMIT - 100), {"b": "ü"}]})


def reachable_from(history: RunHistory) -> set[int]:
    """The ids of all objects that the history keeps alive."""
    found: set[int] = set()
    left: list[Any] = [vars(history)]
    while left:
        one = left.pop()
        if id(one) not in found and not isinstance(one, type | ModuleType | FunctionType):
            found.add(id(one))
            left += gc.get_referents(one)
    return found


@pytest.mark.parametrize("ending", ("saved", "not saved, then saved", "superseded", "not saved, then superseded"))
@pytest.mark.parametrize("status", (RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.RUNNING))
def test_nothing_is_kept_of_payloads_and_results(ending: str, status: RunStatus) -> None:
    history, run = RunHistory(), large(run_factory(ManualClock())(status=RunStatus.RUNNING))
    over = run.model_copy(update={"status": status})
    history.begin(run, recorded=run.status)
    if ending.startswith("not saved"):
        history.settle(over, saved=False)
    if ending.endswith("superseded"):
        history.withdraw(over)
    else:
        history.settle(over, saved=True)

    kept = reachable_from(history)
    assert id(over.id) in kept or "superseded" in ending
    assert not {id(run.trigger_data), id(run.result), id(run.trigger_data["text"]), id(run.result[0])} & kept
    assert history.recent_runs == ([] if "superseded" in ending else [without_values(over)])
    assert list(history.unsaved()) == []


def test_nothing_is_kept_of_the_payload_and_result_of_the_run_that_was_hydrated() -> None:
    history, latest = RunHistory(), large(run_factory(ManualClock())())

    history.hydrate(stats_of({}), latest)

    assert history.last_run == without_values(latest)
    assert not {id(latest.trigger_data), id(latest.result)} & reachable_from(history)


def test_a_run_that_could_not_be_saved_is_kept_whole_as_text() -> None:
    history, run = RunHistory(), large(run_factory(ManualClock())())
    history.begin(run, recorded=None)

    history.settle(run, saved=False)

    assert list(history.unsaved()) == [run] == [history.under_way(run.id)]
    assert history.recent_runs == [without_values(run)]
    assert not {id(run.trigger_data), id(run.result)} & reachable_from(history)


def test_unsaved_runs_that_are_too_large_together_are_given_up_oldest_first() -> None:
    make_run, history = run_factory(ManualClock()), RunHistory()
    runs = [large(make_run()) for _ in range(60)]
    dropped = []
    for run in runs:
        history.begin(run, recorded=None)
        dropped += history.settle(run, saved=False)

    kept = list(history.unsaved())
    sizes = [len(run.model_dump_json(include={"trigger_data", "result"}).encode()) for run in kept]
    assert [run.id for run in (*dropped, *kept)] == [run.id for run in runs]
    assert kept == runs[len(dropped) :]
    assert UNSAVED_BYTES - max(sizes) < sum(sizes) <= UNSAVED_BYTES + 100 * len(kept)


def test_a_run_is_under_way_until_the_run_log_has_its_ending() -> None:
    make_run, history = run_factory(ManualClock()), RunHistory()
    run = make_run(status=RunStatus.RUNNING)
    assert history.under_way(run.id) is None

    history.begin(run, recorded=None)
    assert history.under_way(run.id) == run
    over = run.model_copy(update={"status": RunStatus.FAILED})
    history.settle(over, saved=False)
    assert history.under_way(run.id) == over
    history.settle(over, saved=True)

    assert history.under_way(run.id) is None


def test_the_last_run_is_the_one_that_started_last_hydrated_or_own() -> None:
    make_run, history = run_factory(ManualClock()), RunHistory()
    older, old, new = make_run(), make_run(), make_run()
    history.hydrate(stats_of({}), old)
    for run in (older, new):
        assert history.last_run == old
        history.begin(run, recorded=None)
        history.settle(run, saved=True)

    assert history.last_run == new


def test_success_rate_is_in_percent_to_one_decimal() -> None:
    assert success_rate({"total": 0, "successful": 0}) == 0.0
    assert success_rate({"total": 3, "successful": 2}) == 66.7
    assert success_rate({"total": 1000, "successful": 999}) == 99.9


@pytest.mark.parametrize("has_ended", (False, True))
@pytest.mark.parametrize(
    "settle",
    (
        lambda history, run: history.settle(run, saved=True),
        lambda history, run: history.settle(run, saved=False),
        lambda history, run: history.withdraw(run),
    ),
    ids=("saved", "not saved", "superseded"),
)
def test_what_an_earlier_attempt_of_the_same_instance_comes_to_changes_nothing(
    *, has_ended: bool, settle: Callable[[RunHistory, WorkflowRun], object]
) -> None:
    history = RunHistory()
    first = run_factory(ManualClock())(status=RunStatus.RUNNING)
    history.begin(first, recorded=RunStatus.RUNNING)
    late = first.model_copy(update={"status": RunStatus.FAILED})
    if has_ended:
        history.settle(late, saved=False)
    second = first.model_copy(update={"attempt": 2})
    history.begin(second, recorded=RunStatus.RUNNING, counted=RunStatus.RUNNING)

    settle(history, late)
    over = second.model_copy(update={"status": RunStatus.SUCCESS})
    history.settle(over, saved=True)

    assert history.stats == {"total": 1, "successful": 1, "by_status": {"success": 1}}
    assert history.recent_runs == [over]
    assert list(history.unsaved()) == []


def test_a_run_that_two_invocations_try_to_save_at_once_is_saved_once_it_is() -> None:
    history = RunHistory()
    run = run_factory(ManualClock())()
    history.begin(run, recorded=None)
    history.settle(run, saved=False)

    history.settle(run, saved=True)
    history.settle(run, saved=False)

    assert list(history.unsaved()) == []
