"""Runs and steps as plain fields, the same in every store: JSON as text, errors within their limit, enums as text."""

import json
from collections.abc import Mapping
from dataclasses import fields as fields_of
from typing import Any

from pydantic import TypeAdapter

from autopilot.core.runs.limits import cut_error, payload_text, result_text
from autopilot.core.store import StepRecord, StepTry
from autopilot.models import RunAttempt, StepStatus, WorkflowRun

Fields = dict[str, Any]
"""Fields by name; times are aware datetimes, and None is a field without a value."""

_ATTEMPTS = TypeAdapter(tuple[RunAttempt, ...])

_HISTORY = TypeAdapter(tuple[StepTry, ...])

RUN_CONTENTS = ("trigger_data", "result")
"""The fields of a run that may be large. Lists leave them out: they are neither read nor decoded there."""

LISTED_FIELDS = tuple(name for name in WorkflowRun.model_fields if name not in RUN_CONTENTS)
"""The fields of a run in a list."""

STEP_FIELDS = tuple(field.name for field in fields_of(StepRecord))


def encode_run(run: WorkflowRun) -> Fields:
    """The fields of a run, each within its limit: all of them, so that they leave nothing of an earlier record.

    Raises:
        PayloadTooLarge, ResultTooLarge: over the limit.
        ResultInvalid: the result is not JSON.
    """
    return dict(run) | {
        "status": run.status.value,
        "trigger_type": run.trigger_type.value,
        "trigger_data": payload_text(run.trigger_data),
        "result": None if run.result is None else result_text(run.result),
        "error": None if run.error is None else cut_error(run.error),
        "attempts": _ATTEMPTS.dump_json(run.attempts, exclude_none=True).decode() if run.attempts else None,
        "failed_steps": _text(run.failed_steps),
    }


def decode_run(fields: Mapping[str, Any]) -> WorkflowRun:
    """The run that :func:`encode_run` encoded; a field that is absent or None has no value."""
    result = fields.get("result")
    contents = {
        "trigger_data": json.loads(fields["trigger_data"]),
        "result": None if result is None else json.loads(result),
    }
    return WorkflowRun.model_validate(_listed_values(fields) | contents)


def decode_listed_run(fields: Mapping[str, Any]) -> WorkflowRun:
    """The run as lists have it, without its :data:`RUN_CONTENTS`, whether ``fields`` have them or not."""
    return WorkflowRun.model_validate(_listed_values(fields))


def _listed_values(fields: Mapping[str, Any]) -> Fields:
    values = {name: fields[name] for name in LISTED_FIELDS if fields.get(name) is not None}
    if "attempts" in values:
        values["attempts"] = _ATTEMPTS.validate_json(values["attempts"])
    if "failed_steps" in values:
        values["failed_steps"] = tuple(json.loads(values["failed_steps"]))
    return values


def encode_step(step: StepRecord) -> Fields:
    """The fields of a step."""
    return {name: getattr(step, name) for name in STEP_FIELDS} | {
        "status": step.status.value,
        "error_classes": _text(step.error_classes),
        "failed_within": _text(step.failed_within),
        "compensations": _text(step.compensations),
        "history": _HISTORY.dump_json(step.history, exclude_none=True).decode() if step.history else None,
    }


def decode_step(fields: Mapping[str, Any]) -> StepRecord:
    """The step that :func:`encode_step` encoded; other fields are left out."""
    values = {name: fields[name] for name in STEP_FIELDS if fields.get(name) is not None}
    values["status"] = StepStatus(fields["status"])
    for name in ("error_classes", "failed_within", "compensations"):
        if name in values:
            values[name] = tuple(json.loads(values[name]))
    if "history" in values:
        values["history"] = _HISTORY.validate_json(values["history"])
    return StepRecord(**values)


def _text(names: tuple[str, ...]) -> str | None:
    return json.dumps(names, separators=(",", ":")) if names else None
