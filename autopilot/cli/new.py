"""``autopilot new``: one more workflow, working and tested, in a bundle."""

import builtins
import keyword
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from autopilot.cli.exits import ExitCode, fail
from autopilot.cli.main_module import MainModuleUnreadable, names_in, with_function
from autopilot.cli.options import SOURCE, SourceOption
from autopilot.cli.skeletons import class_name, workflow_files
from autopilot.models import is_workflow_name

_RESERVED = {"api", "autopilot", "functions", "main", "tests"}
"""Functions and folders that a bundle has for something else."""


def new(
    *,
    name: Annotated[str, typer.Argument(help="The workflow's name: small letters, digits and underscores.")],
    source: SourceOption = SOURCE,
) -> None:
    """Add a working workflow with its test, and its line in main.py."""
    _require_usable(name)
    if not source.is_file():
        fail(ExitCode.WRONG_USE, f"there is no {source} here; go to the folder of your bundle, or use --source")
    added = add_workflow(name, source)
    console = Console(highlight=False, soft_wrap=True)
    for path in added:
        console.print(f"  [green]+[/green] {path}")
    console.print(f"  [green]+[/green] {name} in {source}\n")
    console.print(f"Run it: autopilot run {name}", markup=False)


def add_workflow(name: str, source: Path) -> list[str]:
    """Write the files of a workflow of this name, and its line in ``source``; nothing at all if one of them is there.

    Returns:
        The paths that were written, below the folder of ``source``.
    """
    root = source.parent
    tests = "tests/functions" if (root / "tests" / "functions").is_dir() else "tests"
    files = workflow_files(name, tests=tests)
    if taken := [path for path in files if (root / path).exists()]:
        fail(ExitCode.WRONG_USE, f"{' and '.join(taken)}: there already, and left as it is")
    try:
        # Not text mode: the line ends of main.py stay what they are.
        main = source.read_bytes().decode()
        if name in names_in(main):
            fail(ExitCode.WRONG_USE, f"{source} has the name {name} already")
        main = with_function(main, name, f"functions.{name}:{class_name(name)}")
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        source.write_bytes(main.encode())
    except (MainModuleUnreadable, UnicodeDecodeError) as error:
        fail(ExitCode.WRONG_USE, f"{source} cannot be read: {error}")
    except OSError as error:
        fail(ExitCode.WRONG_USE, f"{error.filename} cannot be written: {error.strerror}")
    return list(files)


def _require_usable(name: str) -> None:
    if not is_workflow_name(name):
        _refuse(name, "small letters, digits and underscores, beginning with a letter, at most 63")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or hasattr(builtins, name):
        _refuse(name, "it is a word of Python's")
    if name in _RESERVED:
        _refuse(name, "a bundle has it for something else")


def _refuse(name: str, reason: str) -> NoReturn:
    fail(ExitCode.WRONG_USE, f"{name!r} cannot name a workflow: {reason}")
