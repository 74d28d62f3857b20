"""Cloud Scheduler on a developer's machine: sends the same requests, for each tick from now on."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from datetime import datetime

import structlog

from autopilot.core.clock import Clock
from autopilot.core.triggers.ticks import Tick, next_tick
from autopilot.development.local_app import LocalFunction
from autopilot.dispatch.deliveries import Deliver
from autopilot.models import Schedule

LONGEST_SLEEP_SECONDS = 30.0
"""A machine that was suspended notices the new time within this."""

_FIRST_DELAY_SECONDS, _MAX_DELAY_SECONDS, _MAX_DOUBLINGS = 10.0, 300.0, 5
"""The pauses between deliveries, as in the jobs that Terraform makes."""

log = structlog.get_logger(__name__)


class LocalScheduler:
    """Delivers ticks until it is cancelled. Ticks that were due before it started are not delivered.

    A schedule has at most one delivery under way; ticks that come due meanwhile are skipped.
    """

    def __init__(self, deliver: Deliver, clock: Clock) -> None:
        self._deliver = deliver
        self._clock = clock

    async def run(self, functions: list[LocalFunction]) -> None:
        """Deliver the ticks of every schedule; none of a workflow that is disabled."""
        async with asyncio.TaskGroup() as tasks:
            for function in functions:
                manifest = function.workflow.manifest
                for schedule in manifest.schedules if manifest.enabled else ():
                    tasks.create_task(self.keep(function.name, schedule))

    async def keep(self, function: str, schedule: Schedule) -> None:
        """Deliver the ticks of one schedule; ends when there will be no more."""
        while (tick := next_tick(schedule, self._clock.now())) is not None:
            await self._sleep_until(tick.at)
            await self._deliver_tick(function, tick)

    async def _sleep_until(self, time: datetime) -> None:
        while (left := (time - self._clock.now()).total_seconds()) > 0:
            await self._clock.sleep(min(left, LONGEST_SLEEP_SECONDS))

    async def _deliver_tick(self, function: str, tick: Tick) -> None:
        schedule = tick.schedule
        fields = {"function": function, "schedule": schedule.name, "scheduled_for": tick.at.isoformat()}
        log.info("schedule_tick", **fields)
        headers, body = tick_headers(function, tick), json.dumps(schedule.payload).encode()
        for delay in (*delays(schedule.retries), None):
            status = await self._deliver(f"/{function}", body, headers)
            if 200 <= status < 300:
                return
            log.warning("schedule_delivery_failed", **fields, status=status, again_in_seconds=delay)
            if delay is not None:
                await self._clock.sleep(delay)


def tick_headers(function: str, tick: Tick) -> Mapping[str, str]:
    """The headers of Cloud Scheduler's request for a tick."""
    return {
        "Content-Type": "application/json",
        "User-Agent": "Google-Cloud-Scheduler",
        "X-CloudScheduler": "true",
        "X-CloudScheduler-JobName": f"local-{function}-{tick.schedule.name}",
        "X-CloudScheduler-ScheduleTime": tick.at.isoformat(),
        "Autopilot-Schedule": tick.schedule.name,
    }


def delays(retries: int) -> Iterator[float]:
    """Yield the seconds to wait before each further delivery of a tick."""
    for number in range(retries):
        yield min(_FIRST_DELAY_SECONDS * 2 ** min(number, _MAX_DOUBLINGS), _MAX_DELAY_SECONDS)
