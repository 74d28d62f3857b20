"""Any sequence of calls, by any number of attempts at once, leaves in every store what the model says.

Starts, claims, steps, endings, retries, cancels and removals of a few runs; time that passes between them; attempts that
were superseded and go on writing; calls that are made again; and, in Firestore, commits whose answers get lost, and
calls of another process between a read and the commit that it leads to.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from autopilot.core.store import BucketSize, Lease, RunClaim, RunFilter, RunStart, StepRecord, Store
from autopilot.models import RunStatus, StepStatus, TriggerType, WorkflowRun
from autopilot.storage.firestore.store import FirestoreStore
from autopilot.storage.sqlite.store import SQLiteStore
from autopilot.testing import ManualClock
from tests.contract.calls import Call, Cancel, Claim, Delete, Record, Save, Start, agrees, answer_of
from tests.contract.model import OVER, UNFINISHED, Key, Model, facts_of, listed, percentiles
from tests.firestore_wire import Wire, lost

T = TypeVar("T")

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
SHARDS = {"digest": 0, "other": 3}
"""The workflows, with the number of documents that share their counters."""
KEYS: tuple[Key, ...] = (("digest", "a"), ("other", "a"))
UNSTARTED: Key = ("digest", "b")
"""A run that may be saved without having been started, as by a run log that is no journal."""

keys = st.sampled_from((*KEYS, *KEYS, UNSTARTED))
recent = st.sampled_from((0, 0, 0, 1, 2, 3))
"""A thing of a list, counted from its end: 0 is the last one."""
leases = st.sampled_from((0, 10, 0, 30)).map(lambda minutes: minutes * MINUTE)
retentions = st.sampled_from((None, 5, 60)).map(lambda minutes: None if minutes is None else minutes * MINUTE)
waits = st.sampled_from((None, -1, 0, 5, 60)).map(lambda minutes: None if minutes is None else minutes * MINUTE)
step_keys = st.sampled_from("xy")
step_statuses = st.sampled_from((StepStatus.SUCCESS, *StepStatus))
endings = st.sampled_from((RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.FAILED, RunStatus.CANCELLED))


class StandingClock(ManualClock):
    """A clock that only the test moves: a pause between two attempts of a call takes no time."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@dataclass
class Attempt:
    """An attempt at work: the last one, or one that does not know that it is not."""

    lease: Lease
    run: WorkflowRun
    """The run as this attempt knows it."""


class AnySequence(RuleBasedStateMachine):
    """Calls to one database, by several processes, each with a store of its own."""

    def __init__(self, open_stores: Callable[[StandingClock], list[Store]], wire: Wire | None = None) -> None:
        super().__init__()
        self.clock = StandingClock()
        self.model = Model(self.clock.now())
        self.stores = open_stores(self.clock)
        self.wire = wire
        self.loop = asyncio.Runner()
        self.number = 0
        self.attempts: list[Attempt] = []
        self.made: list[Call] = []
        self.found: list[Start] = []
        self.put_off: Call | None = None
        self.puts_off = False
        # Each store is open from the beginning: SQLite removes what has expired when a store is opened.
        self.positions = [(self.ask(store.get_last_position()), 0) for store in self.stores]

    def teardown(self) -> None:
        try:
            for workflow_id in SHARDS:
                self.ask(self.look_at_lists(self.stores[0], workflow_id, None))
                self.ask(self.look_at_activity(self.stores[0], workflow_id))
            self.ask(self.look_at_changes(self.stores[0], 100, *self.positions[0]))
        finally:
            for store in self.stores:
                store.close()
            self.loop.close()

    # How calls are made

    def ask(self, question: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(question)

    def do(self, call: Call, store: int) -> None:
        """Make a call, or put it off until the next one is under way."""
        if self.puts_off:
            self.puts_off, self.put_off = False, call
            return
        amid, self.put_off = self.put_off, None
        for each, answer in self.ask(self.answers(call, amid, self.stores[store % len(self.stores)])):
            expected = each.expected(self.model)
            assert agrees(answer, expected), f"{each}: {answer}, not {expected}"
            self.learn(each)
        for key in {call.key, amid.key} if amid is not None else {call.key}:
            self.look_at(key, self.stores[0])

    async def answers(self, call: Call, amid: Call | None, store: Store) -> list[tuple[Call, Any]]:
        """The answers to a call and to one that is made amid it, in the order in which they took effect.

        The other one is made before the commit of the call: so the call has to notice. Without a commit to wait for it
        is made afterwards.
        """
        other: list[tuple[Call, Any]] = []

        async def make_other() -> None:
            if amid is not None:
                other.append((amid, await answer_of(amid, self.stores[-1])))

        if self.wire is not None and amid is not None:
            self.wire.meanwhile = [make_other]
        answers = [(call, await answer_of(call, store))]
        if self.wire is not None:
            self.wire.meanwhile = []
        if other:
            return [*other, *answers]
        await make_other()
        return [*answers, *other]

    def learn(self, call: Call) -> None:
        """Remember what the caller knows now."""
        self.made.append(call)
        if isinstance(call, Start) and call.found is not None:
            if call.found.created:
                self.begin(Attempt(call.start.lease, call.found.run))
            else:
                self.found.append(call)
        if isinstance(call, Claim) and call.taken is not None:
            lease = Lease(
                workflow_id=call.key[0],
                run_id=call.key[1],
                attempt=call.taken.attempt,
                owner=call.claim.owner,
                incarnation=self.model.runs[call.key].incarnation or "",
            )
            self.begin(Attempt(lease, call.taken))
        if isinstance(call, Delete):
            # Its starts cannot come again: they would bring back the same incarnation.
            self.made = [each for each in self.made if each.key != call.key]

    def begin(self, attempt: Attempt) -> None:
        if all(known.lease != attempt.lease for known in self.attempts):  # not by a call that was made again
            self.attempts.append(attempt)

    def fresh(self) -> str:
        """A name that nothing had before."""
        self.number += 1
        return f"n{self.number}"

    def attempt_of(self, number: int) -> Attempt:
        return self.attempts[-1 - number % len(self.attempts)]

    def key_of(self, number: int, of: tuple[str, ...] = ()) -> Key:
        """The key of a run; of one in one of these statuses, if there is one."""
        there = self.model.runs
        keys = [key for key in sorted(there) if there[key].status in of] or sorted(there)
        return keys[number % len(keys)]

    def new_run(self, key: Key, status: RunStatus) -> WorkflowRun:
        return WorkflowRun(
            id=key[1],
            workflow_id=key[0],
            status=status,
            trigger_type=TriggerType.HTTP,
            trigger_data={"number": self.fresh()},
            started_at=self.clock.now(),
            completed_at=self.clock.now() if status in OVER else None,
        )

    # Calls

    @rule(
        key=keys,
        status=st.sampled_from((RunStatus.RUNNING,) * 4 + (RunStatus.PENDING, RunStatus.SKIPPED)),
        lease=leases,
        store=recent,
    )
    def start(self, key: Key, status: RunStatus, lease: timedelta, store: int) -> None:
        start = RunStart(
            run=self.new_run(key, status),
            owner=self.fresh(),
            incarnation=self.fresh(),
            lease_duration=lease,
            counter_shards=SHARDS[key[0]],
        )
        self.do(Start(start), store)

    @precondition(lambda self: self.model.runs)
    @rule(number=recent, lease=leases, store=recent)
    def claim(self, number: int, lease: timedelta, store: int) -> None:
        key = self.key_of(number)
        self.do(Claim(key, self.a_claim(key, lease)), store)

    @precondition(lambda self: self.model.runs)
    @rule(number=recent, lease=leases, after=st.sampled_from((None, 0, 0, -1)), store=recent)
    def retry(self, number: int, lease: timedelta, after: int | None, store: int) -> None:
        key = self.key_of(number, of=("failed", "cancelled"))
        self.do(Claim(key, self.a_claim(key, lease, after, is_retry=True)), store)

    @precondition(lambda self: self.found)
    @rule(number=recent, lease=leases, is_retry=st.booleans(), store=recent)
    def claim_what_was_found(self, number: int, lease: timedelta, store: int, *, is_retry: bool) -> None:
        found = self.found[-1 - number % len(self.found)]
        claim = self.a_claim(found.key, lease, is_retry=is_retry)
        self.do(Claim(found.key, claim, version=found.found.version), store)

    def a_claim(self, key: Key, lease: timedelta, after: int | None = None, *, is_retry: bool = False) -> RunClaim:
        kept = self.model.runs.get(key)
        return RunClaim(
            owner=self.fresh(),
            incarnation=self.fresh(),
            lease_duration=lease,
            begin_again=(self.fresh(),) if is_retry else None,
            after_attempt=None if after is None or kept is None else kept.attempt + after,
        )

    @precondition(lambda self: self.attempts)
    @rule(
        number=recent,
        steps=st.lists(st.tuples(step_keys, step_statuses), min_size=1, max_size=3),
        another_round=st.sampled_from((False, False, True)),
        store=recent,
    )
    def work(self, number: int, steps: list[tuple[str, StepStatus]], store: int, *, another_round: bool) -> None:
        if another_round:
            self.save(number, store, round=self.attempt_of(number).run.round + 1, failed_steps=(self.fresh(),))
        for key, status in steps:
            self.record(self.attempt_of(number), key, status, store)

    def record(self, attempt: Attempt, key: str, status: StepStatus, store: int) -> None:
        now = self.clock.now()
        step = StepRecord(
            key=key,
            status=status,
            attempt=attempt.lease.attempt,
            tries=1,
            started_at=now,
            ended_at=None if status is StepStatus.STARTED else now,
            result=f'"{self.fresh()}"' if status is StepStatus.SUCCESS else None,
            error=self.fresh() if status is StepStatus.FAILED else None,
            round=attempt.run.round,
        )
        self.do(Record(attempt.lease, step), store)

    @precondition(lambda self: self.attempts)
    @rule(
        number=recent,
        status=endings,
        retention=retentions,
        duration_ms=st.sampled_from((0, 7, 400, 90_000)),
        store=recent,
    )
    def end(self, number: int, status: RunStatus, retention: timedelta | None, duration_ms: int, store: int) -> None:
        now = self.clock.now()
        if status is RunStatus.CANCELLED and self.attempt_of(number).run.status is not RunStatus.RUNNING:
            status = RunStatus.FAILED  # an attempt that has given its run back is not told to end it
        self.save(
            number,
            store,
            status=status,
            completed_at=now,
            duration_ms=duration_ms,
            due_at=None,
            waiting_for=None,
            result=self.fresh() if status is RunStatus.SUCCESS else None,
            error=self.fresh() if status is RunStatus.FAILED else None,
            expires_at=None if retention is None else now + retention,
        )

    @precondition(lambda self: self.attempts)
    @rule(
        number=recent,
        status=st.sampled_from((RunStatus.PAUSED, RunStatus.SLEEPING, RunStatus.RUNNING)),
        wait=waits,
        store=recent,
    )
    def let_go(self, number: int, status: RunStatus, wait: timedelta | None, store: int) -> None:
        """An attempt suspends its run, or gives it back for another attempt, at once or in a while."""
        if status is RunStatus.RUNNING:
            wait = wait or timedelta(0)
        due_at = None if wait is None else self.clock.now() + wait
        self.save(number, store, status=status, due_at=due_at, waiting_for=self.fresh())

    def save(self, number: int, store: int, **changes: Any) -> None:
        attempt = self.attempt_of(number)
        attempt.run = attempt.run.model_copy(update=changes)
        kept = self.model.runs.get((attempt.lease.workflow_id, attempt.lease.run_id))
        is_there = kept is not None and kept.incarnation == attempt.lease.incarnation
        if is_there or (kept is not None and kept.run["started_at"] > attempt.run.started_at):
            self.do(Save(attempt.run), store)

    @precondition(lambda self: UNSTARTED not in self.model.runs and not self.puts_off and self.put_off is None)
    @rule(status=st.sampled_from((RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.RUNNING)), store=recent)
    def save_what_was_not_started(self, status: RunStatus, store: int) -> None:
        self.do(Save(self.new_run(UNSTARTED, status)), store)

    @precondition(lambda self: self.model.runs)
    @rule(number=recent, retention=retentions, store=recent)
    def cancel(self, number: int, retention: timedelta | None, store: int) -> None:
        self.do(Cancel(self.key_of(number, of=UNFINISHED), self.fresh(), retention), store)

    @precondition(lambda self: self.model.runs)
    @rule(number=recent, store=recent)
    def delete(self, number: int, store: int) -> None:
        self.do(Delete(self.key_of(number, of=OVER)), store)

    # What happens to calls

    @precondition(lambda self: self.made)
    @rule(number=recent, store=recent)
    def again(self, number: int, store: int) -> None:
        """A caller that got no answer makes a call again, in another process even, and maybe late."""
        call = self.made[-1 - number % len(self.made)]
        if not self.is_outdated(call):
            self.do(call, store)

    def is_outdated(self, call: Call) -> bool:
        """Whether the caller itself has written something newer: what comes of the older then is open."""
        kept = self.model.runs.get(call.key)
        if kept is None:
            return isinstance(call, Save)
        if isinstance(call, Start):  # once it has expired, it would bring back the same incarnation
            return call.found is not None and call.found.created and self.model.is_expired(kept)
        if isinstance(call, Record):
            return bool(call.step.round < kept.run["round"])
        return isinstance(call, Save) and call.run.attempt == kept.attempt and facts_of(call.run) != kept.run

    @precondition(lambda self: self.put_off is None)
    @rule()
    def amid_the_next(self) -> None:
        """The next call is made while the one after it is under way."""
        self.puts_off = True

    @precondition(lambda self: self.wire is not None)
    @rule(applied=st.booleans())
    def lose(self, *, applied: bool) -> None:
        """The answer to the next commit is lost, and the store asks again."""
        assert self.wire is not None
        left = [lost(applied=applied)]
        self.wire.next_fault = lambda: left.pop() if left else None

    @rule(minutes=st.sampled_from((5, 5, 20, 70, 1500)))
    def pass_time(self, minutes: int) -> None:
        self.pass_until(self.clock.now() + minutes * MINUTE)

    @precondition(lambda self: self.model.to_come())
    @rule(number=recent)
    def pass_time_until_something_is_due(self, number: int) -> None:
        """To the very moment at which a lease or a wait ends, or a run expires."""
        times = self.model.to_come()
        self.pass_until(times[number % len(times)])

    def pass_until(self, time: datetime) -> None:
        self.clock.advance(time - self.clock.now())
        self.model.now = time

    # What is there

    def look_at(self, key: Key, store: Store) -> None:
        """One run, its steps, and the statistics of its workflow."""
        kept = self.model.runs.get(key)
        run = self.ask(store.get_run(*key))
        assert (None if run is None else facts_of(run)) == (None if kept is None else kept.run)
        assert self.ask(store.get_run_steps(*key)) == self.model.steps(key)
        stats = self.ask(store.get_stats(key[0]))
        counted = self.model.by_status(key[0])
        assert (stats["by_status"], stats["successful"]) == (dict(counted), counted["success"])
        assert stats["total"] == counted.total() - counted["skipped"]

    @rule(
        workflow_id=st.sampled_from((*SHARDS,)),
        status=st.sampled_from((None, *RunStatus)),
        limit=st.integers(1, 3),
        position=recent,
        store=recent,
    )
    def look(self, workflow_id: str, status: RunStatus | None, limit: int, position: int, store: int) -> None:
        """What a store tells of a workflow, and what has changed since a position."""
        asked = self.stores[store % len(self.stores)]
        self.ask(self.look_at_lists(asked, workflow_id, status))
        self.ask(self.look_at_activity(asked, workflow_id))
        self.ask(self.look_at_changes(asked, limit, *self.positions[-1 - position % len(self.positions)]))
        self.positions.append((self.ask(asked.get_last_position()), self.model.changes))

    async def look_at_lists(self, store: Store, workflow_id: str, status: RunStatus | None) -> None:
        found: list[WorkflowRun] = []
        cursor: str | None = None
        while cursor is not None or not found:
            page, cursor = await store.list_runs(workflow_id, limit=1, start_after=cursor, status=status)
            found += page
            if not page:
                break
        assert [facts_of(run) for run in found] == [*map(listed, self.model.newest(workflow_id, status))]
        latest = await store.get_latest_run(workflow_id)
        assert ([] if latest is None else [facts_of(latest)]) == self.model.newest(workflow_id)[:1]
        paused = [facts_of(run) for run in await store.get_paused_runs()]
        assert by_id(paused) == by_id(map(listed, self.model.newest(status="paused")))
        everything, _ = await store.find_runs(RunFilter())
        assert by_id(map(facts_of, everything)) == by_id(map(listed, self.model.newest()))

    async def look_at_activity(self, store: Store, workflow_id: str) -> None:
        since, until = ManualClock().now() - DAY, self.clock.now() + DAY
        for size in BucketSize:
            found = await store.get_activity(workflow_id, since=since, until=until, size=size)
            expected = self.model.activity(workflow_id, by_day=size is BucketSize.DAY)
            assert [bucket.start for bucket in found] == sorted(expected)
            for bucket in found:
                ended = expected[bucket.start]
                assert bucket.by_status == dict(Counter(each.status for each in ended))
                assert bucket.duration_ms == pytest.approx(percentiles(ended), rel=0.1)

    async def look_at_changes(self, store: Store, limit: int, position: str, change: int) -> None:
        read: list[WorkflowRun] = []
        while news := await store.read_changes(position, limit=limit):
            read += [each.run for each in news]
            position = news[-1].position
        assert [facts_of(run) for run in read] == [*map(listed, self.model.changed_after(change))]


def by_id(runs: Any) -> list[dict[str, Any]]:
    return sorted(runs, key=lambda run: (run["workflow_id"], run["id"]))


def run_any_sequence(machine: Callable[[], AnySequence], *, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,  # type: ignore[arg-type]  # a factory will do
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            print_blob=True,
            suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much),
        ),
    )


def in_memory() -> AnySequence:
    return AnySequence(lambda clock: [SQLiteStore(":memory:", clock=clock)])


@pytest.fixture
def in_a_file(tmp_path: Path) -> Callable[[], AnySequence]:
    """Two processes that share a file."""

    def make() -> AnySequence:
        path = tmp_path / f"{uuid4().hex}.db"
        return AnySequence(lambda clock: [SQLiteStore(path, clock=clock) for _ in range(2)])

    return make


@pytest.fixture
def in_firestore(firestore_emulator: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], AnySequence]:
    """Two processes, and a server whose time is the test's."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator)

    def make() -> AnySequence:
        wire = Wire(project=f"test-{uuid4().hex[:20]}")

        def open_stores(clock: StandingClock) -> list[Store]:
            ticks = 0

            def server_time() -> Any:
                nonlocal ticks
                ticks += 1  # no two commits have the same time
                return clock.now() + timedelta(microseconds=ticks)

            wire.server_time = server_time
            return [FirestoreStore(connect=wire.connect, clock=clock, settled=timedelta(0)) for _ in range(2)]

        return AnySequence(open_stores, wire)

    return make


def an_attempt_cancels_its_run(runs: AnySequence) -> None:
    """It can be removed once the lease would have ended, not later."""
    runs.start(KEYS[0], RunStatus.RUNNING, 10 * MINUTE, 0)
    runs.pass_time(5)
    runs.end(0, RunStatus.CANCELLED, None, 7, 0)
    runs.delete(0, 0)
    runs.pass_time(5)
    runs.delete(0, 0)


def a_run_is_removed_twice_at_once(runs: AnySequence) -> None:
    runs.save_what_was_not_started(RunStatus.SUCCESS, 0)
    runs.amid_the_next()
    runs.delete(0, 0)
    runs.delete(0, 0)


def a_run_is_removed_elsewhere_and_saved_anew(runs: AnySequence) -> None:
    runs.save_what_was_not_started(RunStatus.RUNNING, 0)
    runs.cancel(0, None, 0)
    runs.delete(0, 1)
    runs.save_what_was_not_started(RunStatus.SUCCESS, 0)


def a_run_that_took_no_time_ends_after_one_that_did(runs: AnySequence) -> None:
    runs.start(KEYS[0], RunStatus.RUNNING, 10 * MINUTE, 0)
    runs.end(0, RunStatus.SUCCESS, None, 400, 0)
    runs.start(UNSTARTED, RunStatus.SKIPPED, 10 * MINUTE, 0)


def a_step_succeeds_in_each_round(runs: AnySequence) -> None:
    runs.start(KEYS[0], RunStatus.RUNNING, 10 * MINUTE, 0)
    for another_round in (False, True):
        for _ in range(2):
            runs.work(0, [("x", StepStatus.SUCCESS)], 0, another_round=another_round)


FOUND = (
    an_attempt_cancels_its_run,
    a_run_is_removed_twice_at_once,
    a_run_is_removed_elsewhere_and_saved_anew,
    a_run_that_took_no_time_ends_after_one_that_did,
    a_step_succeeds_in_each_round,
)


@pytest.mark.parametrize("sequence", FOUND)
def test_what_generated_sequences_have_found_stays_right_in_sqlite(sequence: Callable[[AnySequence], None]) -> None:
    runs = in_memory()
    sequence(runs)
    runs.teardown()


@pytest.mark.emulator
@pytest.mark.parametrize("sequence", FOUND)
def test_what_generated_sequences_have_found_stays_right_in_firestore(
    in_firestore: Callable[[], AnySequence], sequence: Callable[[AnySequence], None]
) -> None:
    runs = in_firestore()
    sequence(runs)
    runs.teardown()


@pytest.mark.slow
def test_any_sequence_leaves_in_sqlite_what_the_model_says() -> None:
    run_any_sequence(in_memory, examples=100, steps=30)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_any_longer_sequence_does_so_too(in_a_file: Callable[[], AnySequence]) -> None:
    run_any_sequence(in_a_file, examples=50, steps=40)


@pytest.mark.slow
@pytest.mark.emulator
@pytest.mark.timeout(600)
def test_any_sequence_leaves_in_firestore_what_the_model_says(in_firestore: Callable[[], AnySequence]) -> None:
    run_any_sequence(in_firestore, examples=40, steps=30)
