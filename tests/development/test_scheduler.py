"""Schedules on a developer's machine: when they tick, what is sent, how often it is sent again."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

from autopilot import BaseWorkflow, RunContext, Schedule, WorkflowManifest
from autopilot.development.local_app import LocalFunction
from autopilot.development.scheduler import LONGEST_SLEEP_SECONDS, LocalScheduler, delays
from autopilot.function.trigger import identify
from autopilot.models import TriggerType
from autopilot.testing import ManualClock

NIGHTLY = Schedule(name="nightly", cron="30 2 * * *", time_zone="Europe/Berlin", payload={"deep": [1]}, retries=2)


class Function:
    """Answers with the statuses that it is given, in turn, and ends the test when there are none left."""

    def __init__(self, clock: ManualClock, *statuses: int) -> None:
        self._clock = clock
        self._statuses = list(statuses)
        self.requests: list[tuple[datetime, str, bytes, Mapping[str, str]]] = []

    async def __call__(self, path: str, body: bytes, headers: Mapping[str, str]) -> int:
        if not self._statuses:
            raise asyncio.CancelledError
        self.requests.append((self._clock.now(), path, body, headers))
        return self._statuses.pop(0)

    @property
    def times(self) -> list[datetime]:
        return [time for time, *_ in self.requests]


async def keep(clock: ManualClock, schedule: Schedule, *statuses: int) -> Function:
    function = Function(clock, *statuses)
    with pytest.raises(asyncio.CancelledError):
        await LocalScheduler(function, clock).keep("digest", schedule)
    return function


def served(name: str, *schedules: Schedule, enabled: bool = True) -> LocalFunction:
    class Work(BaseWorkflow):
        manifest = WorkflowManifest(name=name, schedules=schedules, enabled=enabled)

        async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> None: ...

    return LocalFunction(f"{name}_function", Work(), PlainTextResponse("served"))


async def test_every_schedule_of_every_workflow_ticks_but_none_of_a_disabled_one() -> None:
    clock = ManualClock(datetime(2026, 3, 1, tzinfo=UTC))
    function = Function(clock, *[200] * 8)
    hourly, half_hourly = Schedule(name="hourly", cron="0 * * * *"), Schedule(name="half", cron="*/30 * * * *")
    functions = [
        served("on", hourly, half_hourly),
        served("off", Schedule(cron="* * * * *"), enabled=False),
        served("other", hourly),
        served("unscheduled"),
    ]

    await LocalScheduler(function, clock).run(functions)

    sent = {(path, headers["Autopilot-Schedule"]) for _, path, _, headers in function.requests}
    assert sent == {("/on_function", "hourly"), ("/on_function", "half"), ("/other_function", "hourly")}


async def test_a_tick_comes_in_its_time_zone_over_a_change_of_the_clocks() -> None:
    function = await keep(ManualClock(datetime(2026, 3, 27, 12, tzinfo=UTC)), NIGHTLY, 200, 200, 200)

    # On March 29 there is no 02:30 in Berlin.
    assert [time.date().day for time in function.times] == [28, 29, 30]
    assert (function.times[0], function.times[2]) == (at(28, 1, 30), at(30, 0, 30))


async def test_a_tick_is_the_trigger_that_cloud_scheduler_would_send() -> None:
    function = await keep(ManualClock(datetime(2026, 3, 1, tzinfo=UTC)), NIGHTLY, 200)

    _, path, body, headers = function.requests[0]
    kind, trigger = identify(Headers(headers), function.times[0])
    assert (path, body, kind) == ("/digest", b'{"deep": [1]}', TriggerType.SCHEDULE)
    assert (trigger.schedule, trigger.scheduled_for) == ("nightly", at(1, 1, 30))
    assert trigger.identity == "schedule\nlocal-digest-nightly\n2026-03-01T01:30:00+00:00"


async def test_a_failed_delivery_comes_again_and_is_the_same_trigger() -> None:
    function = await keep(ManualClock(datetime(2026, 3, 1, tzinfo=UTC)), NIGHTLY, 500, 503, 200, 200)

    first, again, third, next_day = function.times
    assert (again - first, third - again) == (timedelta(seconds=10), timedelta(seconds=20))
    assert next_day == at(2, 1, 30)
    assert function.requests[0][3] == function.requests[2][3]


async def test_a_tick_is_given_up_after_its_last_delivery() -> None:
    function = await keep(ManualClock(datetime(2026, 3, 1, tzinfo=UTC)), NIGHTLY, 500, 500, 500, 200)

    assert function.times[3] == at(2, 1, 30)


async def test_ticks_that_pass_during_a_delivery_are_left_out() -> None:
    clock = ManualClock(datetime(2026, 3, 1, tzinfo=UTC))
    function = Function(clock, 200, 200)

    async def slow(path: str, body: bytes, headers: Mapping[str, str]) -> int:
        status = await function(path, body, headers)
        clock.advance(timedelta(minutes=3, seconds=30))
        return status

    with pytest.raises(asyncio.CancelledError):
        await LocalScheduler(slow, clock).keep("digest", Schedule(cron="* * * * *"))

    assert function.times == [at(1, 0, 1), at(1, 0, 5)]


async def test_a_machine_that_slept_finds_out_soon() -> None:
    clock = ManualClock(datetime(2026, 3, 1, tzinfo=UTC))

    await keep(clock, NIGHTLY, 200)

    assert max(clock.slept) == LONGEST_SLEEP_SECONDS


def test_the_pauses_between_deliveries_double_up_to_five_minutes() -> None:
    assert list(delays(8)) == [10, 20, 40, 80, 160, 300, 300, 300]


def at(day: int, hour: int, minute: int) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)
