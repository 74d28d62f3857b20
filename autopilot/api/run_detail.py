"""A run with all that is recorded of it: its steps, its attempts, where it failed, what can be done."""

import json
from collections import defaultdict
from datetime import datetime, timedelta
from urllib.parse import quote

from autopilot.api.schemas import AttemptDetail, RunDetail, StepDetail, milliseconds
from autopilot.core.journal import StepRecord
from autopilot.models import RunStatus, StepStatus, WorkflowRun
from autopilot.settings import Settings

RESULTS_LIMIT = 1024 * 1024
"""How much of the results of a run's steps is given with the run, in characters of JSON."""

_LOG_MARGIN = timedelta(minutes=5)
_REOPENABLE = frozenset({RunStatus.FAILED, RunStatus.CANCELLED})
_UNSUCCESSFUL = frozenset({StepStatus.FAILED, StepStatus.INTERRUPTED})


def run_detail(run: WorkflowRun, steps: list[StepRecord], settings: Settings) -> RunDetail:
    """Everything there is to know of a run."""
    query = log_query(run)
    return RunDetail(
        run=run,
        attempts=attempts_of(run, steps),
        steps=_with_results(steps),
        failed_step=failed_step(run, steps),
        actions=actions_of(run),
        log_query=query,
        log_url=log_url(query, settings),
    )


def step_detail(step: StepRecord, *, with_result: bool = True) -> StepDetail:
    """A step as it is answered."""
    has_result = step.result is not None
    return StepDetail(
        key=step.key,
        status=step.status,
        attempt=step.attempt,
        tries=step.tries,
        started_at=step.started_at,
        ended_at=step.ended_at,
        duration_ms=None if step.ended_at is None else milliseconds(step.ended_at - step.started_at),
        result=json.loads(step.result) if step.result is not None and with_result else None,
        result_omitted=has_result and not with_result,
        error=step.error,
        error_type=step.error_type,
    )


def actions_of(run: WorkflowRun) -> list[str]:
    """What can be asked of a run in its status."""
    if not run.status.is_terminal:
        return ["rerun", "cancel"]
    return [*(["retry"] if run.status in _REOPENABLE else []), "rerun", "delete"]


def failed_step(run: WorkflowRun, steps: list[StepRecord]) -> str | None:
    """The key of the step at which a run failed: of its last attempt, the innermost that failed last."""
    if run.status is not RunStatus.FAILED:
        return None
    failed = [step for step in steps if step.status in _UNSUCCESSFUL and step.attempt == run.attempt]
    last = max(failed, key=lambda step: (step.key.count("/"), step.ended_at or step.started_at), default=None)
    return None if last is None else last.key


def attempts_of(run: WorkflowRun, steps: list[StepRecord]) -> list[AttemptDetail]:
    """The attempts that left a mark: in the run or in its steps."""
    by_attempt = defaultdict(list)
    for step in steps:
        by_attempt[step.attempt].append(step)
    numbers = sorted({1, run.attempt} | by_attempt.keys())
    return [_attempt(number, run, by_attempt[number]) for number in numbers]


def _attempt(number: int, run: WorkflowRun, steps: list[StepRecord]) -> AttemptDetail:
    last_seen = max((step.ended_at or step.started_at for step in steps), default=None)
    is_last = number == run.attempt
    started_at = run.started_at if number == 1 else min((s.started_at for s in steps), default=None)
    return AttemptDetail(
        number=number,
        started_at=started_at or run.completed_at or run.started_at,
        ended_at=run.completed_at if is_last else last_seen,
        outcome=run.status.value if is_last else _outcome_of_earlier(number, run),
        reopened=number == run.reopened_attempt,
    )


def _outcome_of_earlier(number: int, run: WorkflowRun) -> str:
    return "failed or cancelled, and retried" if number + 1 == run.reopened_attempt else "ended before the run did"


def log_query(run: WorkflowRun) -> str:
    """What finds a run's lines in Cloud Logging."""
    lines = [f'jsonPayload.run_id="{run.id}"', f'timestamp>="{_stamp(run.started_at - _LOG_MARGIN)}"']
    if run.completed_at is not None:
        lines.append(f'timestamp<="{_stamp(run.completed_at + _LOG_MARGIN)}"')
    return "\n".join(lines)


def log_url(query: str, settings: Settings) -> str | None:
    """A link to Cloud Logging; None where logs go to a terminal."""
    if not settings.in_cloud or settings.project is None:
        return None
    asked = quote(query, safe="")
    return f"https://console.cloud.google.com/logs/query;query={asked}?project={quote(settings.project, safe='')}"


def _stamp(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def _with_results(steps: list[StepRecord]) -> list[StepDetail]:
    details, left = [], RESULTS_LIMIT
    for step in steps:
        size = len(step.result or "")
        details.append(step_detail(step, with_result=size <= left))
        left -= size if size <= left else 0
    return details
