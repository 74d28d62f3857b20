"""The workflows of a bundle, as its ``main.py`` names them."""

import runpy
import sys
from pathlib import Path

from autopilot.cli.exits import ExitCode, fail


def require_workflow(name: str, source: Path) -> None:
    """End the command with one line unless ``source`` makes a function of this name of a workflow."""
    known = _workflows_of(source)
    if name in known:
        return
    if not known:
        fail(ExitCode.WRONG_USE, f"{source} makes no workflow a function: name = entry_point('functions.name:Class')")
    fail(ExitCode.WRONG_USE, f"unknown workflow {name!r}; {source} has: {', '.join(sorted(known))}")


def _workflows_of(source: Path) -> dict[str, str]:
    """The functions that ``entry_point`` made, with the path of the workflow's class behind each."""
    if not source.is_file():
        fail(ExitCode.WRONG_USE, f"there is no {source} here; go to the folder of your bundle, or use --source")
    sys.path.insert(0, str(source.resolve().parent))
    try:
        names = runpy.run_path(str(source), run_name="main")
    except Exception as error:  # noqa: BLE001 - the process boundary: what the author's module raises is told, not known
        fail(ExitCode.NOT_SERVED, f"{source} cannot be imported: {type(error).__name__}: {error}")
    finally:
        del sys.path[0]
    return {name: value.workflow_path for name, value in names.items() if hasattr(value, "workflow_path")}
