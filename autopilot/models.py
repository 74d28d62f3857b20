"""The words of Autopilot as types: manifests, triggers, runs.

Every model is frozen: a run changes by being replaced (``run.model_copy(update=...)``), so that what was handed to a
store, a caller or the in-memory history stays what it was.
"""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal, Self, TypedDict
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

MAX_TIMEOUT_SECONDS = 3600
"""What an HTTP function may take for one request (Cloud Run functions quotas: 60 minutes)."""

MAX_SCHEDULE_DEADLINE_SECONDS = 1800
"""What Cloud Scheduler waits for an HTTP target (``attempt_deadline``: 15 s to 30 min)."""

FAILED_STEPS_KEPT = 1000
"""How many steps a run remembers for a retry to begin again."""

WORKFLOW_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")

_MIN_MEMORY_MIB = 128
_MAX_MEMORY_MIB = 32 * 1024


def is_workflow_name(text: str) -> bool:
    """Return True if ``text`` can name a workflow: ``^[a-z][a-z0-9_]{0,62}$``."""
    return WORKFLOW_NAME.fullmatch(text) is not None


def is_run_id(text: str) -> bool:
    """Return True if ``text`` can be the id of a run: ``[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}``."""
    return RUN_ID.fullmatch(text) is not None


def _matching(pattern: re.Pattern[str], what: str) -> AfterValidator:
    # Not pydantic's own pattern: its ``$`` lets a trailing newline through, and its message shows no example of why.
    def check(value: str) -> str:
        if pattern.fullmatch(value) is None:
            shown = value if len(value) <= 80 else f"{value[:77]}..."
            raise ValueError(f"{shown!r} is no {what}: it must match {pattern.pattern}")
        return value

    return AfterValidator(check)


def _to_utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


WorkflowName = Annotated[str, _matching(WORKFLOW_NAME, "workflow name")]
RunId = Annotated[str, _matching(RUN_ID, "run id")]
UtcDatetime = Annotated[AwareDatetime, AfterValidator(_to_utc)]
"""An aware time, kept in UTC, to the microsecond."""


class RunStatus(StrEnum):
    """The status of a run."""

    PENDING = "pending"
    """Accepted and not begun: queued behind another run."""
    RUNNING = "running"
    PAUSED = "paused"
    """Waits for a person or an event."""
    SLEEPING = "sleeping"
    """Waits for a time."""
    SUCCESS = "success"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Recorded and deliberately not executed: disabled, late, or another run was in the way."""
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """True if a run in this status is over. Only a new attempt (a retry) can reopen it."""
        return self in _TERMINAL

    @property
    def is_unsuccessful(self) -> bool:
        """True for a run that failed or was cancelled, which a person's retry can reopen."""
        return self in {RunStatus.FAILED, RunStatus.CANCELLED}


_TERMINAL = frozenset({RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.SKIPPED, RunStatus.CANCELLED})


class TriggerType(StrEnum):
    """The kind of thing that asked for a run."""

    SCHEDULE = "schedule"
    """A tick of Cloud Scheduler."""
    HTTP = "http"
    """A call of the function's URL."""
    EVENT = "event"
    """A CloudEvent."""
    MANUAL = "manual"
    """A person: the command line, the dashboard, a test."""
    CONTINUATION = "continuation"
    """Autopilot itself, going on with a run that waited or was orphaned."""


class StepStatus(StrEnum):
    """The status of a step."""

    STARTED = "started"
    """Its body may be running, or was cut off. Recorded for steps that must not be begun twice."""
    SUCCESS = "success"
    """Its result is recorded, for good."""
    FAILED = "failed"
    """Its last try raised. Recorded for people; a resume executes the step again."""
    INTERRUPTED = "interrupted"
    """It was cut off and must not be begun twice: nobody knows whether it took effect."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Trigger(_Frozen):
    """The thing that asked for a run, beside its type and payload.

    A trigger that is delivered twice has the same ``identity`` both times, which makes it the same run.
    """

    identity: str | None = Field(
        default=None,
        min_length=1,
        max_length=2048,
        description="What makes two deliveries the same trigger; None when every delivery is a run of its own.",
    )
    schedule: str | None = Field(default=None, description="The name of the schedule whose tick this is.")
    scheduled_for: UtcDatetime | None = Field(default=None, description="The time of the tick.")
    rerun_of: RunId | None = Field(default=None, description="The run of whose payload a new run is asked for.")


class Completion(_Frozen):
    """When a fan-out is good enough. Without any field every item must succeed."""

    min_successful: int | None = Field(
        default=None, ge=1, description="Enough successes: what is still under way is cancelled, the rest not begun."
    )
    tolerated_failures: int | None = Field(default=None, ge=0, description="Failed items that are let pass.")
    tolerated_failure_share: float | None = Field(default=None, ge=0, le=1, description="The same, as a share of all.")


class Schedule(_Frozen):
    """A cron schedule that triggers the workflow with a fixed payload."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,30}$")] = Field(
        default="default", description="Unique within the workflow."
    )
    cron: str = Field(description="Five fields: minute, hour, day of month, month, day of week.")
    time_zone: str = Field(default="Etc/UTC", description="A name of the tz database.")
    payload: dict[str, Any] = Field(default_factory=dict, description="The payload of each run.")
    retries: int = Field(default=3, ge=0, le=5, description="Deliveries after a failed one.")
    max_lateness: timedelta | None = Field(
        default=None,
        gt=timedelta(0),
        description="A tick that arrives later than this is recorded as skipped. None: every tick runs.",
    )

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, value: str) -> str:
        if len(value.split()) != 5:
            raise ValueError(f"{value!r} is no cron expression: it must have five fields, as in '*/15 * * * *'")
        try:
            CronSim(value, datetime(2000, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise ValueError(f"{value!r} is no cron expression: {error}") from error
        return value

    @field_validator("time_zone")
    @classmethod
    def _known_time_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, OSError, ValueError) as error:  # unknown; a directory or too long; a path
            raise ValueError(f"{value!r} is not in the tz database") from error
        return value


class Retry(_Frozen):
    """A retry policy: the number of attempts and the pauses between them.

    The pause before attempt ``n + 1`` is drawn uniformly from 0 to ``min(first_delay * multiplier ** (n - 1),
    max_delay)``: exponential backoff with full jitter (Amazon Builders' Library, "Timeouts, retries and backoff with
    jitter").
    """

    attempts: int = Field(default=1, ge=1, le=100, description="Attempts in all; 1 never tries again.")
    first_delay: timedelta = Field(default=timedelta(seconds=1), ge=timedelta(0))
    multiplier: float = Field(default=2.0, ge=1.0, le=100.0)
    max_delay: timedelta = Field(default=timedelta(minutes=1), ge=timedelta(0))
    not_on: tuple[str, ...] = Field(
        default=(), description="Names of exception types that are final, subclasses included: ('ValueError',)."
    )


class WorkflowManifest(_Frozen):
    """The static description of a workflow: the one source for the code, the API and Terraform."""

    name: WorkflowName = Field(description="The workflow's id, in code, URLs, records and the names of resources.")
    display_name: str = Field(default="", max_length=100, description="For people; the name when empty.")
    description: str = Field(default="", max_length=500)
    version: str = Field(default="1", min_length=1, max_length=64, description="Recorded with every run.")
    tags: tuple[str, ...] = ()
    enabled: bool = Field(default=True, description="False: triggers are recorded as skipped runs.")

    schedules: tuple[Schedule, ...] = ()
    timeout_seconds: int = Field(default=540, ge=1, le=MAX_TIMEOUT_SECONDS, description="Deadline of one invocation.")
    max_age: timedelta = Field(
        default=timedelta(days=30),
        gt=timedelta(0),
        le=timedelta(days=366),
        description="How old a run may get, waits included.",
    )

    memory: str = Field(default="512Mi", pattern=r"^[1-9][0-9]*(Mi|Gi)$", description="128Mi to 32Gi.")
    cpu: float = Field(default=1, ge=0.08, le=8)
    concurrency: int = Field(default=1, ge=1, le=1000, description="Requests that one instance takes at once.")
    min_instances: int = Field(default=0, ge=0, le=1000)
    max_instances: int = Field(default=3, ge=1, le=1000)

    secrets: tuple[str, ...] = Field(
        default=(), description="Environment variables filled from Secret Manager, beside Config's SecretStr fields."
    )
    durability: Literal["best_effort", "required"] = Field(
        default="best_effort", description="required: nothing is run unless its start could be recorded."
    )
    retry: Retry = Retry()
    max_idle_claims: int = Field(
        default=10, ge=1, le=1000, description="Takeovers of a run in a row, without a new step, before it fails."
    )
    retention: timedelta = Field(
        default=timedelta(days=90), gt=timedelta(0), description="How long a finished run is kept."
    )
    alert_without_success_for: timedelta | None = Field(default=None, gt=timedelta(0))
    counter_shards: int = Field(
        default=0,
        ge=0,
        le=100,
        description="Documents that share the statistics' counters; for more than one run a second, sustained.",
    )
    answer: Literal["run", "result"] = Field(
        default="run", description="The body of an answer: the run, or the author's result with the run in headers."
    )

    @field_validator("memory")
    @classmethod
    def _memory_on_offer(cls, value: str) -> str:
        mib = int(value[:-2]) * (1024 if value.endswith("Gi") else 1)
        if not _MIN_MEMORY_MIB <= mib <= _MAX_MEMORY_MIB:
            raise ValueError(f"{value} is not on offer: Cloud Functions takes 128Mi to 32Gi")
        return value

    @field_validator("secrets")
    @classmethod
    def _variable_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
                raise ValueError(f"{name!r} is no name of an environment variable")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.min_instances > self.max_instances:
            raise ValueError(f"min_instances {self.min_instances} is over max_instances {self.max_instances}")
        if self.concurrency > 1 and self.cpu < 1:
            raise ValueError(f"concurrency {self.concurrency} needs a cpu of at least 1, not {self.cpu:g}")
        names = [schedule.name for schedule in self.schedules]
        if len(set(names)) != len(names):
            raise ValueError(f"schedules: names must differ, got {', '.join(names)}")
        return self


class RunAttempt(_Frozen):
    """One invocation's hold on a run."""

    number: int = Field(ge=1)
    started_at: UtcDatetime
    ended_at: UtcDatetime | None = Field(
        default=None, description="None while it goes on; in one that another attempt followed: it was cut off."
    )
    ending: RunStatus | Literal["released"] | None = Field(
        default=None, description="What it left the run as; released: for another attempt to go on with."
    )
    revision: str | None = Field(default=None, description="The revision of the service that it ran in.")


class WorkflowRun(_Frozen):
    """One execution of a workflow, from its first trigger to a terminal status, across all its invocations."""

    id: RunId
    workflow_id: WorkflowName
    status: RunStatus
    trigger_type: TriggerType
    trigger_data: dict[str, Any] = Field(default_factory=dict, description="The payload as it was sent, as JSON.")
    started_at: UtcDatetime
    completed_at: UtcDatetime | None = Field(default=None, description="None until the status is terminal.")
    duration_ms: int | None = Field(default=None, ge=0, description="Active time, summed over attempts.")
    result: Any = Field(default=None, description="What execute returned, as JSON.")
    error: str | None = Field(default=None, description="At most 8 KiB of UTF-8; a cut is marked.")
    error_type: str | None = Field(default=None, description="The name of the exception's class.")
    attempt: int = Field(default=1, ge=1, description="The invocation's hold on the run: the fencing token.")
    attempts: tuple[RunAttempt, ...] = Field(default=(), description="The last 20 attempts, oldest first.")

    due_at: UtcDatetime | None = Field(
        default=None, description="When something must happen: end of the lease, of a sleep or of a wait."
    )
    waiting_for: str | None = Field(default=None, description="What a paused run waits for.")
    version: str | None = Field(default=None, description="The manifest's version that ran last.")
    fingerprint: str | None = Field(default=None, description="A digest of the workflow's source that ran last.")
    payload_hash: str | None = Field(default=None, description="A digest of the payload as it was sent.")
    round: int = Field(default=1, ge=1, description="One more with each retry, the manifest's and a person's.")
    failed_steps: tuple[str, ...] = Field(
        default=(), description="Digests of the keys of the steps that a retry begins again."
    )
    reopened_attempt: int | None = Field(
        default=None, ge=2, description="The attempt that a person last reopened the run with, after it had ended."
    )
    idle_claims: int = Field(
        default=0, ge=0, description="Takeovers in a row of attempts that died without having recorded a new step."
    )
    idle_deadlines: int = Field(
        default=0, ge=0, description="Attempts in a row that reached their deadline without a new step."
    )
    rerun_of: RunId | None = Field(default=None, description="The run of whose payload this is a new run.")
    expires_at: UtcDatetime | None = Field(
        default=None, description="When a finished run may be removed. None keeps it."
    )


class RunStats(TypedDict):
    """Lifetime statistics of one workflow. Removing runs does not change them."""

    total: int
    """Every run but the skipped ones."""
    successful: int
    by_status: dict[str, int]
    """Runs by status; a status that no run has is absent, and reads as 0."""
