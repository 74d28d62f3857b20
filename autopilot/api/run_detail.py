"""A run in detail: its steps, its attempts, where it failed, the actions that are possible and the effect of a retry."""

import json
from datetime import datetime, timedelta
from urllib.parse import quote

from autopilot.api.retries import failed_step, retry_plan
from autopilot.api.schemas import AttemptDetail, RunDetail, StepDetail, TryDetail, count_attempts, milliseconds
from autopilot.core.steps.keys import key_digest, readable_key
from autopilot.core.store import StepRecord
from autopilot.models import RunAttempt, WorkflowRun
from autopilot.settings import Settings

RESULTS_LIMIT = 1024 * 1024
"""How many characters of JSON of its steps' results a run comes with."""

_LOG_MARGIN = timedelta(minutes=5)


def run_detail(run: WorkflowRun, steps: list[StepRecord], settings: Settings, *, defined: bool = True) -> RunDetail:
    """The run with its records; ``defined``: ``main.py`` still has its workflow, whose function acts."""
    query = log_query(run)
    actions = actions_of(run)
    disabled = [] if defined else [action for action in actions if action != "delete"]
    failed = failed_step(run, steps)
    return RunDetail(
        run=run,
        attempts=attempts_of(run, steps),
        attempts_total=count_attempts(run),
        steps=_with_results(steps),
        failed_step=None if failed is None else failed.key,
        retry=retry_plan(run, steps),
        defined=defined,
        actions=[action for action in actions if action not in disabled],
        disabled_actions=dict.fromkeys(
            disabled, "main.py no longer defines the workflow, or the API could not load it"
        ),
        log_query=query,
        log_url=log_url(query, settings),
    )


def step_detail(step: StepRecord, *, with_result: bool = True) -> StepDetail:
    """The step as the API answers it."""
    has_result, readable = step.result is not None, readable_key(step.key)
    return StepDetail(
        id=key_digest(step.key),
        key=step.key,
        readable_key=None if readable == step.key else readable,
        status=step.status,
        attempt=step.attempt,
        round=step.round,
        tries=step.tries,
        started_at=step.started_at,
        ended_at=step.ended_at,
        duration_ms=None if step.ended_at is None else milliseconds(step.ended_at - step.started_at),
        history=[
            TryDetail(
                started_at=each.started_at,
                ended_at=each.ended_at,
                duration_ms=milliseconds(each.ended_at - each.started_at),
                error=each.error,
                error_type=each.error_type,
            )
            for each in step.history
        ],
        result=json.loads(step.result) if step.result is not None and with_result else None,
        result_omitted=has_result and not with_result,
        error=step.error,
        error_type=step.error_type,
    )


def actions_of(run: WorkflowRun) -> list[str]:
    """The actions that the status of a run allows."""
    if not run.status.is_terminal:
        return ["rerun", "cancel"]
    return [*(["retry"] if run.status.is_unsuccessful else []), "rerun", "delete"]


def attempts_of(run: WorkflowRun, steps: list[StepRecord]) -> list[AttemptDetail]:
    """The recorded attempts; for a run from before they were recorded, one that stands for all."""
    if not run.attempts:
        return [
            AttemptDetail(
                number=run.attempt, started_at=run.started_at, ended_at=run.completed_at, outcome=run.status.value
            )
        ]
    last_seen: dict[int, datetime] = {}
    for step in steps:
        last_seen[step.attempt] = max(step.ended_at or step.started_at, last_seen.get(step.attempt, step.started_at))
    return [_attempt(attempt, run, last_seen.get(attempt.number)) for attempt in run.attempts]


def _attempt(attempt: RunAttempt, run: WorkflowRun, last_seen: datetime | None) -> AttemptDetail:
    is_cut_off = attempt.ending is None and (attempt is not run.attempts[-1] or run.status.is_terminal)
    return AttemptDetail(
        number=attempt.number,
        started_at=attempt.started_at,
        ended_at=(last_seen or attempt.started_at) if is_cut_off else attempt.ended_at,
        outcome="cut off" if is_cut_off else attempt.ending or run.status.value,
        reopened=attempt.number == run.reopened_attempt,
        revision=attempt.revision,
    )


def log_query(run: WorkflowRun) -> str:
    """The query for a run's lines in Cloud Logging."""
    lines = [f'jsonPayload.run_id="{run.id}"', f'timestamp>="{_stamp(run.started_at - _LOG_MARGIN)}"']
    if run.completed_at is not None:
        lines.append(f'timestamp<="{_stamp(run.completed_at + _LOG_MARGIN)}"')
    return "\n".join(lines)


def log_url(query: str, settings: Settings) -> str | None:
    """A link to the query in Cloud Logging; None outside the cloud."""
    if not settings.in_cloud or settings.project is None:
        return None
    encoded = quote(query, safe="")
    return f"https://console.cloud.google.com/logs/query;query={encoded}?project={quote(settings.project, safe='')}"


def _stamp(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def _with_results(steps: list[StepRecord]) -> list[StepDetail]:
    details, left = [], RESULTS_LIMIT
    for step in steps:
        size = len(step.result or "")
        details.append(step_detail(step, with_result=size <= left))
        left -= size if size <= left else 0
    return details
