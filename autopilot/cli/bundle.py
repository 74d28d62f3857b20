"""The workflows of a bundle, as its ``main.py`` names them."""

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autopilot.base_workflow import BaseWorkflow
from autopilot.cli.exits import ExitCode, fail
from autopilot.errors import WorkflowInvalid
from autopilot.provisioning.bundle import Bundle, BundledApi, BundledWorkflow


def require_workflow(name: str, source: Path) -> None:
    """End the command with one line unless ``source`` makes a function of this name of a workflow."""
    known = _functions_in(_names_of(source))
    if name in known:
        return
    if not known:
        fail(ExitCode.WRONG_USE, f"{source} makes no workflow a function: name = entry_point('functions.name:Class')")
    fail(ExitCode.WRONG_USE, f"unknown workflow {name!r}; {source} has: {', '.join(sorted(known))}")


def load_bundle(source: Path) -> Bundle:
    """Import every workflow that ``source`` makes a function; end the command with one line if one cannot be."""
    names = _names_of(source)
    functions = _functions_in(names)
    sys.path.insert(0, str(source.resolve().parent))
    try:
        workflows = tuple(BundledWorkflow(name, _load(name, path)) for name, path in sorted(functions.items()))
    finally:
        del sys.path[0]
    apis = sorted(name for name, value in names.items() if hasattr(value, "serves_api"))
    if len(apis) > 1:
        fail(ExitCode.WRONG_USE, f"{source} makes {' and '.join(apis)} with api_entry_point(); one is enough")
    return Bundle(workflows, BundledApi(apis[0], workflows) if apis else None)


def _load(name: str, path: str) -> type[BaseWorkflow[Any, Any]]:
    # Flask comes with it, which a command that only looks does without.
    from autopilot.bundle import load_workflow

    try:
        workflow = load_workflow(path)
        workflow()  # checks the class; nothing is opened
    except ValidationError as error:  # a manifest is validated when its module is imported
        fail(ExitCode.WRONG_USE, f"workflow {name}: {'; '.join(_faults(error))}")
    except WorkflowInvalid as error:
        fail(ExitCode.WRONG_USE, f"workflow {name}: {error}")
    except Exception as error:  # noqa: BLE001 - the process boundary: what the author's module raises is told, not known
        fail(ExitCode.NOT_SERVED, f"workflow {name}: {path} cannot be imported: {type(error).__name__}: {error}")
    return workflow


def _faults(error: ValidationError) -> Iterator[str]:
    # A Schedule is made, and refused, before the manifest that it is for.
    within = {"Schedule": ("schedules",), "Retry": ("retry",)}.get(error.title, ())
    for fault in error.errors(include_url=False):
        place = ".".join(str(part) for part in (*within, *fault["loc"]))
        yield f"{place or error.title}: {fault['msg'].removeprefix('Value error, ')}"


def _functions_in(names: dict[str, Any]) -> dict[str, str]:
    """The functions that ``entry_point`` made, with the path of the workflow's class behind each."""
    return {name: value.workflow_path for name, value in names.items() if hasattr(value, "workflow_path")}


def _names_of(source: Path) -> dict[str, Any]:
    """What ``source`` defines, run as functions-framework runs it."""
    if not source.is_file():
        fail(ExitCode.WRONG_USE, f"there is no {source} here; go to the folder of your bundle, or use --source")
    sys.path.insert(0, str(source.resolve().parent))
    try:
        return runpy.run_path(str(source), run_name="main")
    except Exception as error:  # noqa: BLE001 - the process boundary: what the author's module raises is told, not known
        fail(ExitCode.NOT_SERVED, f"{source} cannot be imported: {type(error).__name__}: {error}")
    finally:
        del sys.path[0]
