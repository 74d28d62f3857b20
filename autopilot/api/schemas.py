"""What API v1 answers, as types: the one source for the server, its OpenAPI document and its clients."""

from datetime import timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from autopilot.models import (
    RunId,
    RunStatus,
    StepStatus,
    TriggerType,
    UtcDatetime,
    WorkflowManifest,
    WorkflowName,
    WorkflowRun,
)

PAGE_SIZE = 50
MAX_PAGE_SIZE = 200


class _Answer(BaseModel):
    # A client of an older version goes on when a newer server tells more.
    model_config = ConfigDict(frozen=True, extra="ignore")


class ErrorBody(_Answer):
    code: str = Field(description="For programs.")
    message: str = Field(description="For people.")
    details: Any = Field(default=None, description="Field errors, or whatever else the code comes with.")


class ErrorAnswer(_Answer):
    """The one shape of errors."""

    error: ErrorBody


class HealthReport(_Answer):
    status: Literal["ok", "store_unavailable"]
    version: str = Field(description="Of Autopilot.")
    environment: str
    store: str
    error: str | None = Field(default=None, description="Why the store does not answer.")


class RunSummary(_Answer):
    """A run in a list: everything but its payload and its result."""

    id: RunId
    workflow_id: WorkflowName
    status: RunStatus
    trigger_type: TriggerType
    started_at: UtcDatetime
    completed_at: UtcDatetime | None = None
    duration_ms: int | None = None
    error: str | None = None
    error_type: str | None = None
    attempt: int = 1
    due_at: UtcDatetime | None = None
    waiting_for: str | None = None
    version: str | None = None
    rerun_of: RunId | None = None


class RunPage(_Answer):
    runs: list[RunSummary]
    next_cursor: str | None = Field(description="``start_after`` of the next page; None exactly when nothing follows.")


class StepDetail(_Answer):
    key: str
    status: StepStatus
    attempt: int = Field(description="The run's attempt that recorded it.")
    tries: int
    started_at: UtcDatetime
    ended_at: UtcDatetime | None = None
    duration_ms: int | None = None
    result: Any = None
    result_omitted: bool = Field(
        default=False, description="The results of a run are given up to 1 MiB; this one is had by its own call."
    )
    error: str | None = None
    error_type: str | None = None


class AttemptDetail(_Answer):
    """One invocation's hold on the run."""

    number: int
    started_at: UtcDatetime
    ended_at: UtcDatetime | None = Field(
        default=None, description="None: it is at work. Of one that was cut off, the last that was heard of it."
    )
    outcome: str = Field(description="What it left the run as: a status, `released` for another, or `cut off`.")
    revision: str | None = Field(default=None, description="Of the service that it ran in.")
    reopened: bool = Field(default=False, description="A person's retry began it.")


class RunDetail(_Answer):
    run: WorkflowRun
    attempts: list[AttemptDetail]
    steps: list[StepDetail]
    failed_step: str | None = Field(description="The key of the step at which the run failed.")
    actions: list[str] = Field(description="What can be asked of it now: retry, rerun, cancel, delete.")
    log_query: str = Field(description="The query that finds its lines in Cloud Logging.")
    log_url: str | None = Field(description="The same as a link; None outside the cloud.")


class NextTick(_Answer):
    schedule: str
    cron: str
    time_zone: str
    at: UtcDatetime


class WorkflowDetail(_Answer):
    name: WorkflowName
    display_name: str
    description: str
    version: str
    tags: tuple[str, ...]
    enabled: bool
    total_runs: int = Field(description="Every run but the skipped ones.")
    success_rate: float = Field(description="Percent, one decimal.")
    by_status: dict[str, int]
    last_run: RunSummary | None
    next_tick: NextTick | None = Field(description="The next of all its schedules; None without any, or disabled.")
    next_ticks: list[NextTick] = Field(description="Of each schedule, the soonest first.")
    manifest: WorkflowManifest
    payload_schema: dict[str, Any] = Field(description="JSON Schema.")


class WorkflowPage(_Answer):
    workflows: list[WorkflowDetail]


class Activity(_Answer):
    """What ended in one hour or day."""

    start: UtcDatetime
    by_status: dict[str, int]
    duration_ms: dict[str, int] = Field(
        description="``p50``, ``p95``, ``max`` of the runs that succeeded or failed; empty with none. Within 10 %."
    )


class ActivityReport(_Answer):
    window: str
    size: Literal["hour", "day"]
    since: UtcDatetime
    until: UtcDatetime
    buckets: list[Activity] = Field(description="Every hour or day of the window, in the order of time.")


class RunAccepted(_Answer):
    """What came of an action."""

    run_id: RunId
    workflow_id: WorkflowName
    location: str = Field(description="The run's path in this API.")
    status: RunStatus | None = Field(description="None: the function had not answered yet when the wait was over.")
    replayed: bool = Field(default=False, description="The run was over before: this is its record.")


def summary_of(run: WorkflowRun) -> RunSummary:
    return RunSummary.model_construct(**{name: getattr(run, name) for name in RunSummary.model_fields})


def milliseconds(duration: timedelta) -> int:
    return max(0, duration // timedelta(milliseconds=1))
