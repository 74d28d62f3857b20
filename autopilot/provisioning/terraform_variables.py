"""A bundle as variables of its Terraform configuration: the text of ``terraform/workflows.auto.tfvars.json``.

Terraform drops keys that its typed variables do not know without a word, so the keys here and the types in
``terraform/variables.tf`` are compared by a test.
"""

import json
import re
from pathlib import Path
from typing import Any

from autopilot.base_workflow import BaseWorkflow
from autopilot.core.runs.schema import WorkflowSchema, type_arguments
from autopilot.errors import PayloadError, WorkflowInvalid
from autopilot.models import MAX_SCHEDULE_DEADLINE_SECONDS, Schedule
from autopilot.provisioning.bundle import Bundle, BundledApi, BundledWorkflow
from autopilot.provisioning.configuration import ConfigVariables, config_variables_of
from autopilot.provisioning.sources import data_files, imported_files, requirement_files
from autopilot.storage.firestore.indexes import composite_indexes, field_settings

MAX_FUNCTION_NAME = 30
"""Characters of a workflow's part of its function's name. Cloud Run allows 49; the rest is the environment's."""

MIN_SCHEDULE_DEADLINE_SECONDS = 15
"""The shortest ``attempt_deadline`` that Cloud Scheduler takes."""

API_FUNCTION_NAME = "api"
"""The API's part of its function's name."""

API_PACKAGE = "autopilot.api"
DASHBOARD_PACKAGE = "autopilot.dashboard"
API_KEY = "AUTOPILOT_API_KEY"

_FUNCTION_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def terraform_variables(bundle: Bundle, root: Path) -> dict[str, Any]:
    """What Terraform is told about ``bundle``, whose sources are below ``root``. Nothing of it is of an environment.

    Raises:
        WorkflowInvalid: a workflow cannot be provisioned as it is; the field is named.
        SourceInvalid: a file of the bundle cannot be used.
    """
    names = _function_names(bundle)
    config = config_variables_of([bundled.workflow for bundled in bundle.workflows])
    # main.py names the API too, but a process that serves a workflow never imports it.
    shared = imported_files(root, ["main"], without=API_PACKAGE) | requirement_files(root)
    return {
        "api": None if bundle.api is None else _api(bundle.api, root, shared),
        "firestore": _firestore(),
        "shared_files": sorted(shared),
        "workflows": {
            bundled.manifest.name: _workflow(bundled, config[bundled.manifest.name])
            | {
                "files": sorted(imported_files(root, [bundled.workflow.__module__]) - shared),
                "function_name": names[bundled.manifest.name],
            }
            for bundled in bundle.workflows
        },
    }


def as_tfvars(variables: dict[str, Any]) -> str:
    """``variables`` as the text of a ``.tfvars.json`` file; the same variables give the same bytes."""
    return json.dumps(variables, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _api(api: BundledApi, root: Path, shared: set[str]) -> dict[str, Any]:
    # It shows manifests and payload schemas, so it imports every workflow.
    modules = ["main", f"{DASHBOARD_PACKAGE}.app", *(bundled.workflow.__module__ for bundled in api.workflows)]
    return {
        "entry_point": api.entry_point,
        "files": sorted((imported_files(root, modules) | data_files(root, DASHBOARD_PACKAGE)) - shared),
        "secrets": [API_KEY],
        "workflows": sorted(bundled.manifest.name for bundled in api.workflows),
    }


def _function_names(bundle: Bundle) -> dict[str, str]:
    """The name of each workflow's function, less its environment: words joined by hyphens."""
    names: dict[str, str] = {}
    taken: dict[str, BundledWorkflow] = {}
    for bundled in bundle.workflows:
        name = bundled.manifest.name
        function_name = re.sub("_+", "-", name)
        if not _FUNCTION_NAME.fullmatch(function_name):
            raise WorkflowInvalid(
                name, f"name: {function_name!r} is no function's name: it must end in a letter or digit"
            )
        if len(function_name) > MAX_FUNCTION_NAME:
            raise WorkflowInvalid(
                name,
                f"name: a function's name has room for {MAX_FUNCTION_NAME} characters of it, not {len(function_name)}",
            )
        if bundle.api is not None and function_name == API_FUNCTION_NAME:
            raise WorkflowInvalid(
                name,
                f"name: its function would be {function_name!r}, as that of API v1 "
                f"({bundle.api.entry_point} in main.py)",
            )
        if (other := taken.get(function_name)) is not None:
            raise WorkflowInvalid(
                name,
                f"name: its function would be {function_name!r}, as that of workflow {other.manifest.name} "
                f"({other.entry_point} and {bundled.entry_point} in main.py)",
            )
        taken[function_name] = bundled
        names[name] = function_name
    return names


def _workflow(bundled: BundledWorkflow, config: ConfigVariables) -> dict[str, Any]:
    manifest = bundled.manifest
    alert_after = manifest.alert_without_success_for
    return {
        "alert_without_success_seconds": None if alert_after is None else round(alert_after.total_seconds()),
        "concurrency": manifest.concurrency,
        "cpu": f"{manifest.cpu:g}",
        "description": manifest.description,
        "display_name": manifest.display_name or manifest.name,
        "entry_point": bundled.entry_point,
        "environment": {name: {"required": required} for name, required in config.plain.items()},
        "max_instances": manifest.max_instances,
        "memory": manifest.memory,
        "min_instances": manifest.min_instances,
        "schedules": {schedule.name: _schedule(bundled, schedule) for schedule in manifest.schedules},
        "secrets": {name: {"required": required} for name, required in config.secret.items()},
        "timeout_seconds": manifest.timeout_seconds,
    }


def _schedule(bundled: BundledWorkflow, schedule: Schedule) -> dict[str, Any]:
    manifest = bundled.manifest
    if manifest.timeout_seconds > MAX_SCHEDULE_DEADLINE_SECONDS:
        raise WorkflowInvalid(
            manifest.name,
            f"timeout_seconds: {manifest.timeout_seconds} is over {MAX_SCHEDULE_DEADLINE_SECONDS}, the longest deadline "
            f"of a schedule ({schedule.name}): Cloud Scheduler would deliver again while the run goes on",
        )
    return {
        "body": json.dumps(_valid_payload(bundled, schedule), ensure_ascii=False, separators=(",", ":")),
        "cron": schedule.cron,
        "deadline_seconds": max(MIN_SCHEDULE_DEADLINE_SECONDS, manifest.timeout_seconds),
        "retries": schedule.retries,
        "time_zone": schedule.time_zone,
    }


def _valid_payload(bundled: BundledWorkflow, schedule: Schedule) -> dict[str, Any]:
    """The schedule's payload as it is written; one that the workflow refuses would fail at every tick."""
    name = bundled.manifest.name
    types = type_arguments(bundled.workflow, BaseWorkflow, (dict[str, Any], Any))
    try:
        WorkflowSchema(name, *types).validate_payload(schedule.payload)
    except PayloadError as error:
        raise WorkflowInvalid(name, f"schedules.{schedule.name}.payload: {error}") from error
    return schedule.payload


def _firestore() -> dict[str, Any]:
    return {
        "fields": {
            setting.name: {
                "collection": setting.collection,
                "expires": setting.is_expiry,
                "field": setting.field,
                "orders": list(setting.directions),
            }
            for setting in field_settings()
        },
        "indexes": {
            index.name: {
                "collection": index.collection,
                "fields": [{"field_path": field, "order": direction} for field, direction in index.fields],
            }
            for index in composite_indexes()
        },
    }
