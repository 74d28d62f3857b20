"""A bundle: the functions that one ``main.py`` defines, and the one way to load them.

The served API reads the names of the ``main.py`` that runs it; ``autopilot dev``, ``doctor`` and ``manifest`` import the
file first. Behind that is one function, :func:`read_bundle`, so that all of them have the same workflows.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from pydantic import ValidationError

from autopilot.base_workflow import BaseWorkflow
from autopilot.errors import SourceInvalid, WorkflowInvalid

_MANIFEST_PARTS = {"WorkflowManifest": (), "Schedule": ("schedules",), "Retry": ("retry",)}
"""Where in a manifest a model stands whose validation failed: parts are made, and refused, before the whole."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """The functions of a ``main.py``, by their names there; sorted."""

    folder: Path
    """The absolute path of the folder that ``main.py`` is in."""
    workflows: Mapping[str, type[BaseWorkflow[Any, Any]]]
    """The workflow class that each function serves."""
    api: str | None
    """The function that serves API v1 and the dashboard."""
    errors: Mapping[str, Exception]
    """Functions whose workflow could not be loaded, with what was raised."""


def load_bundle(source: Path) -> Bundle:
    """Import a ``main.py`` and the workflow of each of its functions.

    Raises:
        SourceInvalid: see :func:`read_bundle`.
        Exception: whatever ``main.py`` itself raises.
    """
    return read_bundle(vars(import_main(source)))


def import_main(source: Path) -> ModuleType:
    """Import a ``main.py`` the way functions-framework does, and no workflow of it.

    Its folder stays on ``sys.path`` and the module in ``sys.modules``: workflows may import more when they run.

    Raises:
        Exception: whatever the file raises.
    """
    path = source.resolve()
    if str(path.parent) not in sys.path:
        # In front, unlike functions-framework: a package of the command's environment hides none of the bundle's.
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{source} is not a Python file")
    main = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(main)
    return main


def read_bundle(namespace: Mapping[str, Any]) -> Bundle:
    """Import the workflow of each function among the names of a ``main.py``; one that fails leaves the others.

    Args:
        namespace: the module's names, as in ``vars(module)``.

    Raises:
        SourceInvalid: see :func:`workflow_paths`; or there are two APIs, or the API was made in another module, whose
            names it would serve.
    """
    workflows: dict[str, type[BaseWorkflow[Any, Any]]] = {}
    errors: dict[str, Exception] = {}
    functions: dict[str, str] = {}
    for function, path in workflow_paths(namespace).items():
        try:
            workflow = load_workflow(path)
            workflow()  # checks the class; nothing is opened
            if (other := functions.setdefault(workflow.manifest.name, function)) != function:
                raise WorkflowInvalid(path, f"name: {workflow.manifest.name!r} is the workflow of function {other} too")
        except Exception as error:  # noqa: BLE001 - the process boundary: an author's module may raise anything
            errors[function] = error
        else:
            workflows[function] = workflow
    return Bundle(Path(namespace["__file__"]).resolve().parent, workflows, _api_of(namespace), errors)


def workflow_paths(namespace: Mapping[str, Any]) -> dict[str, str]:
    """The ``"module:Class"`` behind each workflow function among the names of a ``main.py``, by the function's name.

    Raises:
        SourceInvalid: a function's name is not that of its variable; it would be deployed under one and looked for
            under the other.
    """
    return {name: function.workflow_path for name, function in _functions_with("workflow_path", namespace)}


def load_workflow(workflow_path: str) -> type[BaseWorkflow[Any, Any]]:
    """The workflow class that ``"module:Class"`` names.

    Raises:
        WorkflowInvalid: there is no such module or class, it is no workflow, or its manifest is invalid.
        Exception: whatever else the module raises.
    """
    module_name, _, class_name = workflow_path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise WorkflowInvalid(workflow_path, f"there is no module {error.name}") from error
    except ValidationError as error:
        if error.title not in _MANIFEST_PARTS:
            raise
        raise WorkflowInvalid(workflow_path, "; ".join(_manifest_errors(error))) from error
    workflow = getattr(module, class_name, None)
    if not (isinstance(workflow, type) and issubclass(workflow, BaseWorkflow)):
        raise WorkflowInvalid(workflow_path, f"{module_name} has no workflow class {class_name}")
    return workflow


def _api_of(namespace: Mapping[str, Any]) -> str | None:
    apis = dict(_functions_with("serves_api", namespace))
    for name, api in apis.items():
        if api.serves_api != namespace["__name__"]:
            raise _main_invalid(
                namespace,
                f"{name} was made in {api.serves_api}, whose workflows it serves: call api_entry_point() here",
            )
    if len(apis) > 1:
        raise _main_invalid(namespace, f"{' and '.join(apis)} are made with api_entry_point(); one is enough")
    return next(iter(apis), None)


def _functions_with(mark: str, namespace: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The functions that have an attribute, sorted by their variables' names; a second name of one is left out."""
    for name, value in sorted(namespace.items()):
        if isinstance(value, FunctionType) and hasattr(value, mark):
            if value.__name__ != name:
                if namespace.get(value.__name__) is value:
                    continue  # such as the variable of a loop that defines functions
                raise _main_invalid(
                    namespace,
                    f"{name} is a function named {value.__name__!r}; pass name={name!r}, or rename the variable",
                )
            yield name, value


def _main_invalid(namespace: Mapping[str, Any], reason: str) -> SourceInvalid:
    return SourceInvalid(Path(namespace["__file__"]).name, reason)


def _manifest_errors(error: ValidationError) -> Iterator[str]:
    for each in error.errors(include_url=False):
        place = ".".join(str(part) for part in (*_MANIFEST_PARTS[error.title], *each["loc"]))
        yield f"{place or error.title}: {each['msg'].removeprefix('Value error, ')}"
