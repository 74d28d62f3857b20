"""``autopilot new``: add a workflow with its test to a bundle."""

import builtins
import keyword
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template
from typing import Annotated

import typer
from rich.console import Console

from autopilot.cli.bundle import require_source
from autopilot.cli.exits import CommandFailed, ExitCode
from autopilot.cli.main_module import defines, with_function
from autopilot.cli.options import SOURCE, SourceOption
from autopilot.models import is_workflow_name
from autopilot.provisioning.function_names import function_name_of

_RESERVED = {"api", "autopilot", "functions", "main", "tests"}
"""Names of a bundle's other functions and folders."""

_SUFFIX = ".tmpl"
_UNDOTTED = {"gitignore": ".gitignore"}
"""A template of this name would hide its neighbours from the tools that build the package."""


def new(
    *,
    name: Annotated[str, typer.Argument(help="Name of the workflow: lower-case letters, digits and underscores.")],
    source: SourceOption = SOURCE,
) -> None:
    """Add a workflow that works, with its test and its line in main.py."""
    if reason := _why_unusable(name):
        raise CommandFailed(ExitCode.WRONG_USE, f"{name!r} cannot name a workflow: {reason}")
    require_source(source)
    tests = "tests/functions" if (source.parent / "tests" / "functions").is_dir() else "tests"
    files = workflow_files(name, tests=tests)
    if taken := [path for path in files if (source.parent / path).exists()]:
        exist = "already exists" if len(taken) == 1 else "already exist"
        raise CommandFailed(ExitCode.WRONG_USE, f"{' and '.join(taken)} {exist}; nothing was changed")
    line = f'{name} = entry_point("functions.{name}:{class_name(name)}")'
    try:
        text = source.read_bytes().decode()  # not in text mode, which would change the line ends
        if defines(text, name):
            raise CommandFailed(ExitCode.WRONG_USE, f"{source} already uses the name {name}; nothing was changed")
    except (OSError, SyntaxError, ValueError) as error:
        raise CommandFailed(ExitCode.WRONG_USE, f"{source} cannot be read: {error}") from None
    extended = with_function(text, name, line)
    write_files(source.parent, {path: content.encode() for path, content in files.items()})
    console = Console(highlight=False, soft_wrap=True, markup=False)
    for path in files:
        console.print(f"  + {path}")
    if extended is None:
        console.print(f"\nAdd this line to {source}, with `from autopilot import entry_point` above it:\n\n  {line}")
    else:
        write_files(source.parent, {source.name: extended.encode()})
        console.print(f"  + {line}  in {source}")
    console.print(f"\nNext: autopilot run {name}")


def workflow_files(name: str, *, tests: str) -> dict[str, str]:
    """The text of each file of a new workflow, by its path; ``tests`` is the folder of its test."""
    values = {"name": name, "class_name": class_name(name), "title": name.replace("_", " ").capitalize()}
    texts = from_templates("workflow", values)
    return {f"functions/{name}.py": texts["function.py"], f"{tests}/test_{name}.py": texts["test_function.py"]}


def class_name(workflow: str) -> str:
    """The name of a workflow's class: ``feed_digest`` is ``FeedDigest``."""
    return "".join(part.capitalize() for part in workflow.split("_"))


def from_templates(folder: str, values: dict[str, str]) -> dict[str, str]:
    """The text of each template below a folder of the package's templates, by its path with slashes."""
    texts: dict[str, str] = {}

    def collect(entries: Traversable, prefix: str) -> None:
        for entry in entries.iterdir():
            if entry.is_dir():
                collect(entry, f"{prefix}{entry.name}/")
            elif entry.name.endswith(_SUFFIX):
                name = entry.name.removesuffix(_SUFFIX)
                text = Template(entry.read_text(encoding="utf-8")).substitute(values)
                texts[f"{prefix}{_UNDOTTED.get(name, name)}"] = text

    collect(resources.files("autopilot.cli") / "templates" / folder, "")
    return texts


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write each file below ``folder``, and the folders that it needs.

    Raises:
        CommandFailed: a file cannot be written; those before it were.
    """
    try:
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    except OSError as error:
        raise CommandFailed(ExitCode.WRONG_USE, f"{error.filename} cannot be written: {error.strerror}") from None


def _why_unusable(name: str) -> str | None:
    if not is_workflow_name(name):
        return "use lower-case letters, digits and underscores, a letter first"
    try:
        function_name_of(name)
    except ValueError as error:
        return str(error)
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return "it is a Python keyword"
    if hasattr(builtins, name):
        return "it is a Python built-in"
    return "a bundle uses this name for something else" if name in _RESERVED else None
