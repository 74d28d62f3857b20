"""A bundle as variables of its Terraform configuration: the text of ``terraform/workflows.auto.tfvars.json``.

Terraform silently drops keys that its typed variables do not have, so a test compares the keys here with the types in
``terraform/variables.tf``.
"""

import json
from typing import Any

from autopilot.base_workflow import BaseWorkflow, engine_of
from autopilot.bundle import Bundle
from autopilot.core.runs.schema import WorkflowSchema
from autopilot.errors import PayloadError, WorkflowInvalid
from autopilot.models import MAX_SCHEDULE_DEADLINE_SECONDS, Schedule, WorkflowManifest
from autopilot.provisioning.configuration import ConfigVariables, config_variables_of
from autopilot.provisioning.function_names import function_name_of
from autopilot.provisioning.sources import imported_files, package_files, requirement_files
from autopilot.storage.firestore.indexes import composite_indexes, field_settings

MIN_SCHEDULE_DEADLINE_SECONDS = 15
"""The shortest ``attempt_deadline`` that Cloud Scheduler takes."""

API_FUNCTION_NAME = "api"
"""The API's part of its function's name."""

API_KEY = "AUTOPILOT_API_KEY"


def terraform_variables(bundle: Bundle) -> dict[str, Any]:
    """The variables of a bundle. None of them depends on an environment.

    Raises:
        WorkflowInvalid: a workflow cannot be provisioned as it is; the field is named.
        SourceInvalid: a file of the bundle cannot be deployed.
    """
    names = _function_names(bundle)
    config = config_variables_of(bundle.workflows.values())
    shared = imported_files(bundle.folder, ["main"]) | package_files(bundle.folder) | requirement_files(bundle.folder)
    files = {
        function: imported_files(bundle.folder, [workflow.__module__]) - shared
        for function, workflow in bundle.workflows.items()
    }
    return {
        "api": None if bundle.api is None else _api(bundle.api, bundle, set().union(*files.values())),
        "firestore": _firestore(),
        "shared_files": sorted(shared),
        "workflows": {
            name: _workflow(function, workflow, config[name])
            | {"files": sorted(files[function]), "function_name": names[function]}
            for function, workflow in bundle.workflows.items()
            for name in [workflow.manifest.name]
        },
    }


def as_tfvars(variables: dict[str, Any]) -> str:
    """``variables`` as the text of a ``.tfvars.json`` file; the same variables give the same bytes."""
    return json.dumps(variables, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _api(function: str, bundle: Bundle, files: set[str]) -> dict[str, Any]:
    return {
        "entry_point": function,
        "files": sorted(files),  # it shows manifests and payload schemas, so it imports every workflow
        "secrets": [API_KEY],
        "workflows": sorted(workflow.manifest.name for workflow in bundle.workflows.values()),
    }


def _function_names(bundle: Bundle) -> dict[str, str]:
    """The deployed name of each function of ``main.py``, without its environment: words joined by hyphens."""
    names: dict[str, str] = {}
    taken = {} if bundle.api is None else {API_FUNCTION_NAME: f"API v1 ({bundle.api} in main.py)"}
    for function, workflow in bundle.workflows.items():
        name = workflow.manifest.name
        try:
            function_name = function_name_of(name)
        except ValueError as error:
            raise WorkflowInvalid(name, f"name: {error}") from None
        if (other := taken.get(function_name)) is not None:
            raise WorkflowInvalid(
                name, f"name: its function ({function} in main.py) would be {function_name!r}, like that of {other}"
            )
        taken[function_name] = f"workflow {name} ({function} in main.py)"
        names[function] = function_name
    return names


def _workflow(function: str, workflow: type[BaseWorkflow[Any, Any]], config: ConfigVariables) -> dict[str, Any]:
    manifest = workflow.manifest
    alert_after = manifest.alert_without_success_for
    return {
        "alert_without_success_seconds": None if alert_after is None else round(alert_after.total_seconds()),
        "concurrency": manifest.concurrency,
        "cpu": f"{manifest.cpu:g}",
        "description": manifest.description,
        "display_name": manifest.display_name or manifest.name,
        "entry_point": function,
        "environment": {name: {"required": required} for name, required in config.plain.items()},
        "max_instances": manifest.max_instances,
        "memory": manifest.memory,
        "min_instances": manifest.min_instances,
        "schedules": {
            schedule.name: _schedule(manifest, schedule, engine_of(workflow()).schema)
            for schedule in manifest.schedules
        },
        "secrets": {name: {"required": required} for name, required in config.secret.items()},
        "timeout_seconds": manifest.timeout_seconds,
    }


def _schedule(manifest: WorkflowManifest, schedule: Schedule, schema: WorkflowSchema) -> dict[str, Any]:
    if manifest.timeout_seconds > MAX_SCHEDULE_DEADLINE_SECONDS:
        raise WorkflowInvalid(
            manifest.name,
            f"timeout_seconds: {manifest.timeout_seconds} is over {MAX_SCHEDULE_DEADLINE_SECONDS}, the longest deadline "
            f"of a schedule ({schedule.name}): Cloud Scheduler would deliver again while the run is under way",
        )
    try:
        schema.validate_payload(schedule.payload)
    except PayloadError as error:  # each of its runs would be refused
        raise WorkflowInvalid(manifest.name, f"schedules.{schedule.name}.payload: {error}") from error
    return {
        "body": json.dumps(schedule.payload, ensure_ascii=False, separators=(",", ":")),
        "cron": schedule.cron,
        "deadline_seconds": max(MIN_SCHEDULE_DEADLINE_SECONDS, manifest.timeout_seconds),
        "retries": schedule.retries,
        "time_zone": schedule.time_zone,
    }


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
