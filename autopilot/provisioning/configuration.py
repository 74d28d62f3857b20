"""The environment variables of workflows: plain ones and secrets."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import Secret, SecretBytes, SecretStr

from autopilot.base_workflow import BaseWorkflow
from autopilot.errors import WorkflowInvalid
from autopilot.settings import config_variables

_RESERVED = re.compile(r"(AUTOPILOT|CLOUD_RUN|FUNCTION|GCF|GOOGLE|K|X_GOOGLE)_.*|PORT")
_SECRET_TYPES = (Secret, SecretBytes, SecretStr)


@dataclass(frozen=True, slots=True)
class ConfigVariables:
    """The variables that one workflow reads, each with whether it is required."""

    plain: dict[str, bool]
    secret: dict[str, bool]


def config_variables_of(workflows: Iterable[type[BaseWorkflow[Any, Any]]]) -> dict[str, ConfigVariables]:
    """The variables of each workflow, by its name.

    Raises:
        WorkflowInvalid: a secret is not declared as one, a name is the platform's, or two workflows would read one
            variable for different things.
    """
    found: dict[str, ConfigVariables] = {}
    owners: dict[str, str] = {}
    for workflow in workflows:
        name = workflow.manifest.name
        variables = config_variables(workflow.Config, name)
        for field, variable in variables.items():
            if owners.setdefault(variable, name) != name:
                raise WorkflowInvalid(
                    name, f"Config.{field}: workflow {owners[variable]} reads {variable} too; rename one of the fields"
                )
        found[name] = _variables_of(workflow, variables)
    return found


def _variables_of(workflow: type[BaseWorkflow[Any, Any]], variables: dict[str, str]) -> ConfigVariables:
    manifest, fields = workflow.manifest, workflow.Config.model_fields
    required = {variables[name]: field.is_required() for name, field in fields.items()}
    secret = {variables[name] for name, field in fields.items() if _holds_secret(field.annotation)}
    prefix = f"{manifest.name}_".upper()
    for variable in manifest.secrets:
        if _RESERVED.fullmatch(variable):
            raise WorkflowInvalid(
                manifest.name, f"secrets: {variable} is a name of the platform or of Autopilot itself"
            )
        if variable in required and variable not in secret:
            raise WorkflowInvalid(
                manifest.name, f"secrets: {variable} is not declared a secret: its field in Config is not a SecretStr"
            )
        if variable.startswith(prefix) and variable not in required:
            field = variable.removeprefix(prefix).lower()
            raise WorkflowInvalid(manifest.name, f"secrets: {variable} is not declared: Config has no field {field}")
    return ConfigVariables(
        plain={variable: needed for variable, needed in required.items() if variable not in secret},
        secret={variable: required[variable] for variable in secret}
        | dict.fromkeys(set(manifest.secrets) - secret, True),
    )


def _holds_secret(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, _SECRET_TYPES):
        return True
    return any(_holds_secret(argument) for argument in get_args(annotation))
