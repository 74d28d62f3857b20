"""Models of API v1's answers, shared by the server, its OpenAPI document and its clients."""

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
    # An older client ignores fields that a newer server adds.
    model_config = ConfigDict(frozen=True, extra="ignore")


class ErrorBody(_Answer):
    code: str = Field(description="For programs.")
    message: str = Field(description="For people.")
    details: Any = Field(default=None, description="Field errors, or whatever else the code comes with.")


class ErrorAnswer(_Answer):
    """The JSON shape of every error."""

    error: ErrorBody


class HealthReport(_Answer):
    status: Literal["ok", "store_unavailable"]
    version: str = Field(description="Of Autopilot.")
    environment: str
    store: str
    error: str | None = Field(default=None, description="Why the store does not answer.")


class RunSummary(_Answer):
    """A run in a list, without its payload and result."""

    id: RunId
    workflow_id: WorkflowName
    status: RunStatus
    trigger_type: TriggerType
    started_at: UtcDatetime
    completed_at: UtcDatetime | None = None
    duration_ms: int | None = None
    error: str | None = None
    error_type: str | None = None
    attempt: int = Field(default=1, description="The number of its latest attempt.")
    attempts: int = Field(default=1, description="How many attempts it has had.")
    due_at: UtcDatetime | None = None
    waiting_for: str | None = None
    version: str | None = None
    rerun_of: RunId | None = None
    defined: bool = Field(default=True, description="False: main.py no longer defines its workflow.")


class RunPage(_Answer):
    runs: list[RunSummary]
    next_cursor: str | None = Field(description="``start_after`` of the next page; None exactly when nothing follows.")


class TryDetail(_Answer):
    """One execution of a step's body."""

    started_at: UtcDatetime
    ended_at: UtcDatetime
    duration_ms: int
    error: str | None = Field(default=None, description="At most 1 KiB of it. None: the body returned.")
    error_type: str | None = None


class StepDetail(_Answer):
    id: str = Field(default="", description="Stands for the key, however long that is: 24 hexadecimal digits.")
    key: str
    readable_key: str | None = Field(
        default=None, description="The key without escapes, where it has any: `fetch[https://example.com/a]`."
    )
    status: StepStatus
    attempt: int = Field(description="The attempt that recorded it.")
    round: int = Field(default=1, description="The round of the run in which it was recorded: each retry begins one.")
    tries: int = Field(description="How often its body was begun.")
    started_at: UtcDatetime = Field(description="When its first try began, of those in `history`.")
    ended_at: UtcDatetime | None = None
    duration_ms: int | None = Field(default=None, description="From its first try to its end.")
    history: list[TryDetail] = Field(
        default=[], description="Its last 10 tries that ended, oldest first. A try that was cut off is not among them."
    )
    result: Any = None
    result_omitted: bool = Field(
        default=False, description="A run comes with at most 1 MiB of results; read this one by its own call."
    )
    error: str | None = None
    error_type: str | None = None

    @property
    def title(self) -> str:
        """The key as people read it."""
        return self.readable_key or self.key


class AttemptDetail(_Answer):
    """One invocation's hold on the run."""

    number: int
    started_at: UtcDatetime
    ended_at: UtcDatetime | None = Field(
        default=None, description="None: in progress. Of one that was cut off, its last recorded sign of life."
    )
    outcome: str = Field(
        description="The status it left the run in; `released`: it gave the run back to be continued; `cut off`: it died."
    )
    revision: str | None = Field(default=None, description="The revision of the service it ran in.")
    reopened: bool = Field(default=False, description="It was started by a person's retry.")


class RetryPlan(_Answer):
    """The recorded steps that a retry would begin again, by their readable keys. All others keep their results."""

    begins_again: list[str] = Field(
        description="What failed the run, and what its code began after that failure. Empty: no recorded step."
    )
    after: list[str] = Field(description="Those of them that ran after the failure, such as a compensation.")
    interrupted: list[str] = Field(
        description="Those of them that may already have taken effect: a retry needs them in `again_interrupted`."
    )


class RunDetail(_Answer):
    run: WorkflowRun
    attempts: list[AttemptDetail] = Field(description="Its last 20 attempts, oldest first.")
    attempts_total: int = Field(default=1, description="How many attempts it has had.")
    steps: list[StepDetail]
    failed_step: str | None = Field(description="The key of the step at which it failed.")
    retry: RetryPlan | None = Field(
        default=None, description="The effect of a retry. None: the run did not fail and was not cancelled."
    )
    defined: bool = Field(default=True, description="False: main.py no longer defines its workflow.")
    actions: list[str] = Field(description="Actions that are possible now: retry, rerun, cancel, delete.")
    disabled_actions: dict[str, str] = Field(
        default_factory=dict, description="Actions that the run's status allows but that are not possible, and why."
    )
    log_query: str = Field(description="The query for its lines in Cloud Logging.")
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
    defined: bool = Field(default=True, description="False: main.py no longer defines it; its runs are still here.")
    total_runs: int = Field(description="All runs but the skipped ones.")
    success_rate: float = Field(description="Percent, one decimal.")
    by_status: dict[str, int]
    last_run: RunSummary | None
    next_tick: NextTick | None = Field(description="The next scheduled run; None without a schedule, or disabled.")
    next_ticks: list[NextTick] = Field(description="The next run of each schedule, the soonest first.")
    manifest: WorkflowManifest | None = Field(description="None: main.py no longer defines it.")
    payload_schema: dict[str, Any] = Field(description="JSON Schema.")


class WorkflowPage(_Answer):
    workflows: list[WorkflowDetail]


class Activity(_Answer):
    """Runs that ended in one hour or day."""

    start: UtcDatetime
    by_status: dict[str, int]
    duration_ms: dict[str, int] = Field(
        description="``p50``, ``p95``, ``max`` of the runs that succeeded or failed; empty if there are none. Within 10 %."
    )


class ActivityReport(_Answer):
    window: str
    size: Literal["hour", "day"]
    since: UtcDatetime
    until: UtcDatetime
    buckets: list[Activity] = Field(description="Every hour or day of the window, in order.")


class RunAccepted(_Answer):
    """The outcome of an action."""

    run_id: RunId
    workflow_id: WorkflowName
    location: str = Field(description="The run's path in this API.")
    status: RunStatus = Field(description="As the function answered, or as recorded when the wait was over.")
    replayed: bool = Field(default=False, description="The run had ended before; this is its record.")


def summary_of(run: WorkflowRun, *, defined: bool = True) -> RunSummary:
    """The run as lists show it."""
    own = {"defined", "attempt", "attempts"}
    fields = {name: getattr(run, name) for name in RunSummary.model_fields if name not in own}
    attempt, attempts = latest_attempt(run), count_attempts(run)
    return RunSummary.model_construct(**fields, attempt=attempt, attempts=attempts, defined=defined)


def latest_attempt(run: WorkflowRun) -> int:
    """The number of the attempt that worked on the run last: cancelling a run takes a number, and is no attempt."""
    return run.attempts[-1].number if run.attempts else run.attempt


def count_attempts(run: WorkflowRun) -> int:
    """The number of attempts that worked on the run; of those before the recorded ones each number counts."""
    return run.attempts[0].number - 1 + len(run.attempts) if run.attempts else run.attempt


def milliseconds(duration: timedelta) -> int:
    return max(0, duration // timedelta(milliseconds=1))
