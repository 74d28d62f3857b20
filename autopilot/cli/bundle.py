"""Load a bundle for a command: whatever is wrong with it is one line and an exit code."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from autopilot import bundle as loader
from autopilot.bundle import Bundle, import_main, workflow_paths
from autopilot.cli.exits import CommandFailed, ExitCode
from autopilot.errors import SourceInvalid, WorkflowInvalid

T = TypeVar("T")


def require_source(source: Path) -> None:
    """End the command unless the bundle's ``main.py`` exists."""
    if not source.is_file():
        raise CommandFailed(
            ExitCode.WRONG_USE, f"there is no {source} here; change to your bundle's folder, or use --source"
        )


def require_workflow(name: str, source: Path) -> None:
    """End the command unless ``source`` defines a function of this name for a workflow. Imports no workflow."""
    functions = _from(source, lambda source: workflow_paths(vars(import_main(source))))
    if not functions:
        raise CommandFailed(ExitCode.WRONG_USE, no_functions(source))
    if name not in functions:
        raise CommandFailed(ExitCode.WRONG_USE, f"unknown workflow {name!r}; {source} has: {', '.join(functions)}")


def load_bundle(source: Path) -> Bundle:
    """Import every workflow that ``source`` defines a function for; end the command if one cannot be loaded."""
    bundle = _from(source, loader.load_bundle)
    for function, error in bundle.errors.items():
        if isinstance(error, WorkflowInvalid):
            raise CommandFailed(ExitCode.WRONG_USE, f"workflow {function}: {error.reason}")
        raise CommandFailed(
            ExitCode.NOT_SERVED, f"workflow {function} cannot be imported: {type(error).__name__}: {error}"
        )
    return bundle


def defines_workflow(source: Path, name: str) -> bool:
    """Return True if ``source`` defines a function for a workflow of this name, even one that cannot be loaded."""
    bundle = _from(source, loader.load_bundle)
    return name in bundle.errors or any(name == workflow.manifest.name for workflow in bundle.workflows.values())


def no_functions(source: Path) -> str:
    """The message for a ``main.py`` without workflows."""
    return f"{source} defines no workflow: name = entry_point('functions.name:Class')"


def _from(source: Path, load: Callable[[Path], T]) -> T:
    require_source(source)
    try:
        return load(source)
    except SourceInvalid:  # says all there is to say
        raise
    except Exception as error:  # noqa: BLE001 - the process boundary: an author's module may raise anything
        raise CommandFailed(
            ExitCode.NOT_SERVED, f"{source} cannot be imported: {type(error).__name__}: {error}"
        ) from None
