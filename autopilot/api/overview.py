"""What is told of a workflow at a glance, put together from its records."""

import asyncio
from collections.abc import Coroutine, Iterable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from autopilot.api.context import ApiContext, CatalogEntry
from autopilot.api.schemas import (
    Activity,
    ActivityReport,
    NextTick,
    WorkflowDetail,
    summary_of,
)
from autopilot.core.run_log import read_past
from autopilot.core.runs.activity import bucket_start
from autopilot.core.runs.history import success_rate
from autopilot.core.store import BucketSize
from autopilot.core.triggers.ticks import Tick, next_ticks
from autopilot.models import RunStats, WorkflowRun

T = TypeVar("T")

HOURLY_UP_TO = timedelta(hours=48)
"""The longest time that is told by the hour."""


async def all_of(reads: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What several reads give, sent together. An error is raised once all have ended."""
    found = await asyncio.gather(*reads, return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return [each for each in found if not isinstance(each, BaseException)]


def workflow_detail(
    entry: CatalogEntry, stats: RunStats, last_run: WorkflowRun | None, now: datetime
) -> WorkflowDetail:
    """What there is to know of a workflow, from its code and from its records."""
    manifest = entry.manifest
    ticks = [_next_tick(tick) for tick in next_ticks(manifest, now)]
    return WorkflowDetail(
        name=manifest.name,
        display_name=entry.title,
        description=manifest.description,
        version=manifest.version,
        tags=manifest.tags,
        enabled=manifest.enabled,
        total_runs=stats["total"],
        success_rate=success_rate(stats),
        by_status=stats["by_status"],
        last_run=None if last_run is None else summary_of(last_run),
        next_tick=next(iter(ticks), None),
        next_ticks=ticks,
        manifest=manifest,
        payload_schema=entry.payload_schema,
    )


async def read_workflow(context: ApiContext, entry: CatalogEntry) -> WorkflowDetail:
    """The same, with its records read now."""
    stats, last_run = await read_past(context.run_log(), entry.manifest.name)
    return workflow_detail(entry, stats, last_run, context.clock.now())


async def read_activity(context: ApiContext, workflow_id: str, window: str) -> ActivityReport:
    """What ended in the time up to now that ``window`` says, in hours or days, without gaps."""
    length = window_length(window)
    size = BucketSize.HOUR if length <= HOURLY_UP_TO else BucketSize.DAY
    step = timedelta(hours=1) if size is BucketSize.HOUR else timedelta(days=1)
    until = bucket_start(context.clock.now(), size) + step
    since = until - max(1, length // step) * step
    ended = await context.archive().get_activity(workflow_id, since=since, until=until, size=size)
    found = {bucket.start: bucket for bucket in ended}
    times = [since + number * step for number in range((until - since) // step)]
    return ActivityReport(
        window=window,
        size=size.value,
        since=since,
        until=until,
        buckets=[
            Activity(
                start=time,
                by_status=found[time].by_status if time in found else {},
                duration_ms=found[time].duration_ms if time in found else {},
            )
            for time in times
        ],
    )


def window_length(window: str) -> timedelta:
    """How long ``"24h"`` or ``"7d"`` is."""
    number = int(window[:-1])
    return timedelta(hours=number) if window[-1] == "h" else timedelta(days=number)


def _next_tick(tick: Tick) -> NextTick:
    schedule = tick.schedule
    return NextTick(schedule=schedule.name, cron=schedule.cron, time_zone=schedule.time_zone, at=tick.at)
