"""Trying again: steps and runs, in place and within the deadline."""

from datetime import timedelta

import pytest

from autopilot import NonRetryable, Retry, RunContext
from autopilot.testing import Harness, ManualClock
from tests.durable.scripts import scripted


class Flaky:
    """Raises ``error`` the first ``failures`` times."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures = failures
        self.error = error

    def __call__(self) -> str:
        if self.failures:
            self.failures -= 1
            raise self.error
        return "done"


async def run_of(flaky: Flaky, retry: Retry, **manifest: object) -> tuple[Harness, str, str | None, int]:
    async def execute(ctx: RunContext) -> str:
        return await ctx.step("it", flaky, retry=retry)

    harness = Harness(scripted(execute, **manifest))
    run = await harness.run()
    return harness, run.status, run.error_type, harness.executions(run.id)["it"]


@pytest.mark.parametrize(("failures", "status", "tries"), ((0, "success", 1), (2, "success", 3), (3, "failed", 3)))
async def test_a_step_is_tried_as_often_as_its_policy_says(failures: int, status: str, tries: int) -> None:
    _, ended, _, tried = await run_of(Flaky(failures, OSError("down")), Retry(attempts=3))

    assert (ended, tried) == (status, tries)


async def test_the_pauses_grow_up_to_their_limit_and_are_drawn_at_random_below_it() -> None:
    retry = Retry(attempts=8, first_delay=timedelta(seconds=1), multiplier=3, max_delay=timedelta(seconds=20))
    harness, *_ = await run_of(Flaky(7, OSError("down")), retry)

    longest = (1, 3, 9, 20, 20, 20, 20)
    assert len(harness.clock.slept) == 7
    assert all(0 <= slept <= limit for slept, limit in zip(harness.clock.slept, longest, strict=True))
    assert len(set(harness.clock.slept)) == 7


@pytest.mark.parametrize(
    ("error", "not_on"),
    (
        (NonRetryable("no"), ()),
        (type("Refused", (NonRetryable, OSError), {})("no"), ()),
        (FileNotFoundError("no"), ("OSError",)),
        (OSError("no"), ("OSError", "ValueError")),
    ),
)
async def test_what_is_final_is_not_tried_again(error: Exception, not_on: tuple[str, ...]) -> None:
    _, status, error_type, tried = await run_of(Flaky(9, error), Retry(attempts=5, not_on=not_on))

    assert (status, error_type, tried) == ("failed", type(error).__name__, 1)


async def test_a_pause_that_would_end_after_the_deadline_is_not_begun() -> None:
    retry = Retry(attempts=100, first_delay=timedelta(hours=1), max_delay=timedelta(hours=1))

    harness, status, error_type, tried = await run_of(Flaky(99, OSError("down")), retry, timeout_seconds=10)

    assert (status, error_type) == ("failed", "OSError")
    assert (tried, harness.clock.slept) == (1, [])


async def test_retries_end_before_the_deadline() -> None:
    retry = Retry(attempts=100, first_delay=timedelta(seconds=3), max_delay=timedelta(seconds=3))
    began = ManualClock().monotonic()

    harness, status, _, tried = await run_of(Flaky(99, OSError("down")), retry, timeout_seconds=10)

    assert status == "failed"
    assert 1 < tried < 100
    assert harness.clock.monotonic() - began < 8  # a fifth of the time is kept for writing the ending


async def test_a_run_is_tried_again_in_place_and_keeps_what_is_recorded() -> None:
    failing = Flaky(2, OSError("down"))

    async def execute(ctx: RunContext) -> str:
        await ctx.step("a", lambda: 1)
        return failing()

    harness = Harness(scripted(execute, retry=Retry(attempts=3)))
    run = await harness.run()

    assert (run.status, run.attempt, run.result) == ("success", 1, "done")
    assert harness.executions(run.id) == {"a": 1}
    assert harness.trace.commits == ["start", "step a success", "retry", "retry", "end"]
    assert (await harness.stats())["by_status"] == {"success": 1}


@pytest.mark.parametrize("error", (NonRetryable("no"), ValueError("no")))
async def test_a_run_that_failed_for_good_is_not_tried_again(error: Exception) -> None:
    failing = Flaky(1, error)

    async def execute(ctx: RunContext) -> str:
        return failing()

    run = await Harness(scripted(execute, retry=Retry(attempts=3, not_on=("ValueError",)))).run()

    assert (run.status, run.error_type) == ("failed", type(error).__name__)


async def test_an_interrupted_step_is_not_tried_again_by_the_run() -> None:
    executions = []

    async def execute(ctx: RunContext) -> None:
        executions.append(ctx.attempt)
        await ctx.step("it", lambda: 1, semantics="at_most_once")

    harness = Harness(scripted(execute, retry=Retry(attempts=5)))
    with pytest.raises(BaseException, match="killed after body"):
        await harness.run(identity="x", kill_at="after body it")
    harness.expire_lease()
    run = await harness.run(identity="x")

    assert (run.status, run.error_type, executions) == ("failed", "StepInterrupted", [1, 2])


async def test_a_setup_that_raises_fails_the_run_without_waiting_for_retries() -> None:
    async def execute(ctx: RunContext) -> None: ...

    class Unready(scripted(execute, retry=Retry(attempts=5))):  # type: ignore[misc]
        async def setup(self) -> None:
            raise OSError("not ready")

    harness = Harness(Unready)
    run = await harness.run()

    assert (run.status, run.error_type, harness.clock.slept) == ("failed", "OSError", [])
