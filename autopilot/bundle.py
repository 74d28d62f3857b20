"""A bundle: the workflows that one ``main.py`` defines, and the one way to load them."""

import importlib
from collections.abc import Mapping
from typing import Any

from autopilot.base_workflow import BaseWorkflow
from autopilot.errors import WorkflowInvalid


def workflow_paths(namespace: Mapping[str, Any]) -> dict[str, str]:
    """The ``"module:Class"`` of each workflow function that a ``main.py`` defines, by the function's name.

    Args:
        namespace: the module's names, as in ``vars(module)``.
    """
    paths = {name: getattr(value, "workflow_path", None) for name, value in sorted(namespace.items())}
    return {name: path for name, path in paths.items() if isinstance(path, str)}


def load_workflow(workflow_path: str) -> type[BaseWorkflow[Any, Any]]:
    """The workflow class that ``"module:Class"`` names.

    Raises:
        WorkflowInvalid: there is no such module or class, or it is no workflow. What fails inside the module is
            raised as it is.
    """
    module_name, _, class_name = workflow_path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise WorkflowInvalid(workflow_path, f"there is no module {error.name}") from error
    workflow = getattr(module, class_name, None)
    if not (isinstance(workflow, type) and issubclass(workflow, BaseWorkflow)):
        raise WorkflowInvalid(workflow_path, f"{module_name} has no workflow class {class_name}")
    return workflow
