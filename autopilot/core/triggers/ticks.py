"""When a manifest's schedules tick."""

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim

from autopilot.models import Schedule, WorkflowManifest


@dataclass(frozen=True, slots=True)
class Tick:
    """One time at which a schedule triggers its workflow."""

    schedule: Schedule
    at: datetime


def next_ticks(manifest: WorkflowManifest, now: datetime) -> list[Tick]:
    """The first tick after ``now`` of each schedule, the soonest first; none of a workflow that is disabled."""
    if not manifest.enabled:
        return []
    ticks = (next_tick(schedule, now) for schedule in manifest.schedules)
    return sorted((tick for tick in ticks if tick is not None), key=lambda tick: tick.at)


def next_tick(schedule: Schedule, now: datetime) -> Tick | None:
    """The first tick after ``now``; None: there is none any more."""
    at = next(CronSim(schedule.cron, now.astimezone(ZoneInfo(schedule.time_zone))), None)
    return None if at is None else Tick(schedule, at.astimezone(UTC))
