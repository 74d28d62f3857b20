"""Reads of workflows and runs, shared by API v1 and the dashboard."""

import asyncio
from collections.abc import Coroutine, Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from autopilot.api.catalog import CatalogEntry
from autopilot.api.context import ApiContext
from autopilot.api.run_detail import run_detail, step_detail
from autopilot.api.schemas import (
    Activity,
    ActivityReport,
    NextTick,
    RunDetail,
    RunPage,
    StepDetail,
    WorkflowDetail,
    summary_of,
)
from autopilot.core.runs.activity import bucket_start
from autopilot.core.runs.history import success_rate
from autopilot.core.steps.keys import key_digest, readable_key
from autopilot.core.store import BucketSize, RunFilter
from autopilot.core.tasks import both
from autopilot.core.triggers.ticks import next_ticks
from autopilot.errors import RunNotFound, StepNotFound, WorkflowNotFound
from autopilot.models import RunStats, RunStatus, TriggerType, WorkflowRun

T = TypeVar("T")

HOURLY_UP_TO = timedelta(hours=48)
"""The longest window that is divided into hours; a longer one is divided into days."""


def _to_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("it is out of range in UTC") from None


QueryTime = Annotated[AwareDatetime, AfterValidator(_to_utc)]


class RunQuery(BaseModel):
    """The filters of a list of runs, as they stand in a URL."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: RunStatus | None = Field(default=None, description="Only runs in this status.")
    trigger: TriggerType | None = Field(default=None, description="Only runs of this kind of trigger.")
    since: QueryTime | None = Field(default=None, description="Started at or after.")
    until: QueryTime | None = Field(default=None, description="Started before.")

    @field_validator("until")
    @classmethod
    def _check_is_after_since(cls, until: datetime | None, info: ValidationInfo) -> datetime | None:
        since = info.data.get("since")
        if since is not None and until is not None and until <= since:
            raise ValueError("it must be after since")
        return until

    def filter(self, workflow: str | None) -> RunFilter:
        """The store's filter, for one workflow or all of them."""
        return RunFilter(
            workflow_id=workflow,
            status=self.status,
            trigger_type=self.trigger,
            since=self.since,
            until=self.until,
        )


async def find_workflow(context: ApiContext, name: str) -> CatalogEntry:
    """The workflow of this name, whether ``main.py`` defines it or only its runs are left.

    Raises:
        WorkflowNotFound: neither.
    """
    if (entry := context.catalog.get(name)) is not None:
        return entry
    if await _latest_run(context, name) is None:
        raise WorkflowNotFound(name)
    return CatalogEntry.without_code(name)


async def find_run(context: ApiContext, workflow: str, run_id: str) -> tuple[CatalogEntry, WorkflowRun]:
    """A run and its workflow.

    Raises:
        WorkflowNotFound, RunNotFound
    """
    entry = await find_workflow(context, workflow)
    run = await context.run_log().get_run(entry.name, run_id)
    if run is None:
        raise RunNotFound(entry.name, run_id)
    return entry, run


async def read_run(context: ApiContext, workflow: str, run_id: str) -> RunDetail:
    """A run with its attempts and steps.

    Raises:
        WorkflowNotFound, RunNotFound
    """
    entry, run = await find_run(context, workflow, run_id)
    steps = await context.archive().get_run_steps(entry.name, run_id)
    return run_detail(run, steps, context.settings, defined=entry.defined)


async def read_step(context: ApiContext, workflow: str, run_id: str, key: str) -> StepDetail:
    """One step of a run, with its whole result.

    Args:
        key: the step's key, its id, or its key as people read it; the first of these that fits a step counts.

    Raises:
        WorkflowNotFound, StepNotFound
    """
    entry = await find_workflow(context, workflow)
    steps = await context.archive().get_run_steps(entry.name, run_id)
    for name_of in (lambda step: step.key, lambda step: key_digest(step.key), lambda step: readable_key(step.key)):
        if (found := next((step for step in steps if name_of(step) == key), None)) is not None:
            return step_detail(found)
    raise StepNotFound(run_id[:128], key)


async def read_page(context: ApiContext, wanted: RunFilter, limit: int, start_after: str | None) -> RunPage:
    """One page of runs."""
    runs, cursor = await context.archive().find_runs(wanted, limit=limit, start_after=start_after)
    return RunPage(
        runs=[summary_of(run, defined=run.workflow_id in context.catalog) for run in runs], next_cursor=cursor
    )


async def read_workflow(context: ApiContext, entry: CatalogEntry) -> WorkflowDetail:
    """A workflow with its statistics."""
    stats, last_run = await both(context.run_log().get_stats(entry.name), _latest_run(context, entry.name))
    return workflow_detail(entry, stats, last_run, context.clock.now())


async def _latest_run(context: ApiContext, workflow: str) -> WorkflowRun | None:
    """The latest run of a workflow as lists have it, without the payload and result that no page of several shows."""
    runs, _ = await context.run_log().list_runs(workflow, limit=1)
    return runs[0] if runs else None


def workflow_detail(
    entry: CatalogEntry, stats: RunStats, last_run: WorkflowRun | None, now: datetime
) -> WorkflowDetail:
    """A workflow, put together from its code and its records."""
    manifest = entry.manifest
    ticks = [
        NextTick(schedule=tick.schedule.name, cron=tick.schedule.cron, time_zone=tick.schedule.time_zone, at=tick.at)
        for tick in next_ticks(manifest, now)
    ]
    last_version = None if last_run is None else last_run.version
    return WorkflowDetail(
        name=manifest.name,
        display_name=entry.title,
        description=manifest.description,
        version=manifest.version if entry.defined else last_version or "",
        tags=manifest.tags,
        enabled=manifest.enabled,
        defined=entry.defined,
        total_runs=stats["total"],
        success_rate=success_rate(stats),
        by_status=stats["by_status"],
        last_run=None if last_run is None else summary_of(last_run, defined=entry.defined),
        next_tick=next(iter(ticks), None),
        next_ticks=ticks,
        manifest=manifest if entry.defined else None,
        payload_schema=entry.payload_schema,
    )


async def read_activity(context: ApiContext, workflow: str, window: str) -> ActivityReport:
    """The runs that ended within ``window`` up to now, by the hour or by the day, without gaps."""
    length = window_length(window)
    size = BucketSize.HOUR if length <= HOURLY_UP_TO else BucketSize.DAY
    step = timedelta(hours=1) if size is BucketSize.HOUR else timedelta(days=1)
    until = bucket_start(context.clock.now(), size) + step
    since = until - max(1, length // step) * step
    ended = await context.archive().get_activity(workflow, since=since, until=until, size=size)
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
    """The length of a window such as ``"24h"`` or ``"7d"``."""
    number = int(window[:-1])
    return timedelta(hours=number) if window[-1] == "h" else timedelta(days=number)


async def read_all(reads: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of several reads, sent together. An error is raised once all of them have ended."""
    found = await asyncio.gather(*reads, return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return [each for each in found if not isinstance(each, BaseException)]
