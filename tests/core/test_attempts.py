"""What a run remembers of its attempts."""

from datetime import timedelta

import pytest

from autopilot import BaseWorkflow, RunContext, RunStatus, TriggerType, WorkflowManifest
from autopilot.base_workflow import engine_of
from autopilot.core.runs.transitions import ATTEMPTS_KEPT, cancelled, claimed
from autopilot.core.store import Store
from autopilot.models import RunAttempt
from autopilot.testing import ManualClock
from tests.equipment import equipped
from tests.runs import MakeRun


class Sum(BaseWorkflow):
    manifest = WorkflowManifest(name="digest")

    async def execute(self, ctx: RunContext, payload: dict[str, bool]) -> str:
        if payload.get("fails"):
            raise ValueError("as it was told")
        return "done"


async def test_a_run_remembers_its_attempt_and_the_revision_that_it_ran_in(
    default_store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K_REVISION", "digest-00007-abc")

    run = await equipped(Sum(), clock=clock).run(TriggerType.HTTP, {})

    assert run.attempts == (
        RunAttempt(
            number=1,
            started_at=clock.now(),
            ended_at=clock.now(),
            ending=RunStatus.SUCCESS,
            revision="digest-00007-abc",
        ),
    )
    assert await default_store.get_run("digest", run.id) == run


async def test_a_retry_is_another_attempt_with_its_own_revision(
    default_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await Sum().run(TriggerType.HTTP, {"fails": True})
    monkeypatch.setenv("K_REVISION", "the fix")

    outcome = await engine_of(Sum()).retry(run.id)

    assert [(attempt.number, attempt.ending, attempt.revision) for attempt in outcome.run.attempts] == [
        (1, RunStatus.FAILED, None),
        (2, RunStatus.FAILED, "the fix"),
    ]
    assert await default_store.get_run("digest", run.id) == outcome.run


async def test_a_run_that_was_skipped_has_no_attempt(default_store: Store, clock: ManualClock) -> None:
    class Disabled(Sum):
        manifest = WorkflowManifest(name="digest", enabled=False)

    run = await equipped(Disabled(), clock=clock).run(TriggerType.HTTP, {})

    assert (run.status, run.attempts) == (RunStatus.SKIPPED, ())


def test_an_attempt_that_was_cut_off_has_no_end(make_run: MakeRun, clock: ManualClock) -> None:
    run = make_run(status=RunStatus.RUNNING, attempts=(RunAttempt(number=1, started_at=clock.now()),))

    taken = claimed(run, now=clock.now(), due_at=clock.now(), revision=None)

    assert [(attempt.number, attempt.ending) for attempt in taken.attempts] == [(1, None), (2, None)]


def test_a_cancellation_ends_the_attempt_that_is_under_way_and_no_other(make_run: MakeRun, clock: ManualClock) -> None:
    begun = RunAttempt(number=1, started_at=clock.now())
    released = begun.model_copy(update={"ended_at": clock.now(), "ending": "released"})
    now = clock.now() + timedelta(minutes=1)

    held, free = [
        cancelled(make_run(status=RunStatus.RUNNING, attempts=(attempt,)), now=now, retention=None)
        for attempt in (begun, released)
    ]

    assert held.attempts == (begun.model_copy(update={"ended_at": now, "ending": RunStatus.CANCELLED}),)
    assert free.attempts == (released,)


def test_the_last_attempts_are_kept(make_run: MakeRun, clock: ManualClock) -> None:
    run = make_run(status=RunStatus.RUNNING)
    for _ in range(ATTEMPTS_KEPT + 5):
        run = claimed(run, now=clock.now(), due_at=clock.now(), revision=None)

    assert [attempt.number for attempt in run.attempts] == list(range(run.attempt - ATTEMPTS_KEPT + 1, run.attempt + 1))
