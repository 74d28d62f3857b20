"""``autopilot init``: a new bundle."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from autopilot.cli.exits import ExitCode, fail
from autopilot.cli.new import add_workflow
from autopilot.cli.skeletons import bundle_files
from autopilot.version import VERSION

_PACKAGE = "autopilot-workflows"
_FIRST_WORKFLOW = "hello"


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is empty, or not there yet.")],
    package: Annotated[
        str,
        typer.Option(help="Where Autopilot itself comes from, if not from the package index: a path or an address."),
    ] = "",
) -> None:
    """Make a new bundle: a working workflow, its test, and what is needed to run and to deploy it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        fail(ExitCode.WRONG_USE, f"{folder} is not empty, and nothing in it is touched; name a new folder")
    title = folder.resolve().name
    files = bundle_files(
        title=title, deployed=_requirement("api,firestore", package), command=_requirement("cli", package)
    )
    try:
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        fail(ExitCode.WRONG_USE, f"{error.filename} cannot be written: {error.strerror}")
    added = add_workflow(_FIRST_WORKFLOW, folder / "main.py")
    _tell(folder, sorted([*files, *added]))


def _requirement(extra: str, package: str) -> str:
    """The line of a requirements file that pins this very version."""
    named = f"{_PACKAGE}[{extra}]"
    if not package:
        return f"{named}=={VERSION}"
    if "://" in package:
        return f"{named} @ {package}"
    path = Path(package)
    if not path.exists():
        fail(ExitCode.WRONG_USE, f"--package: there is no {package}; it is a path, or an address as in git+https://...")
    return f"{named} @ {path.resolve().as_uri()}"


def _tell(folder: Path, files: list[str]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{folder}[/bold] is a bundle with one workflow, {_FIRST_WORKFLOW}:\n")
    for path in files:
        console.print(f"  [green]+[/green] {path}")
    console.print("\nNext:\n")
    for line in (
        f"cd {folder}",
        "python3 -m venv .venv && . .venv/bin/activate",
        "pip install -r requirements-dev.txt",
        f"autopilot run {_FIRST_WORKFLOW}",
        "autopilot dev",
    ):
        console.print(f"  {line}", markup=False)
