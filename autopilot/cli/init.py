"""``autopilot init``: a new bundle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from autopilot.cli.exits import ExitCode, fail
from autopilot.cli.new import add_workflow
from autopilot.cli.skeletons import bundle_files
from autopilot.provisioning.terraform_files import FOLDER, own_files, terraform_files
from autopilot.version import VERSION

_PACKAGE = "autopilot-workflows"
_FIRST_WORKFLOW = "hello"


def init(
    *,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is empty, or not there yet.")],
    package: Annotated[
        str,
        typer.Option(
            help="Where Autopilot itself comes from, if not from the package index: an address, or a path that only this machine has."
        ),
    ] = "",
    terraform: Annotated[
        bool,
        typer.Option(
            "--terraform", help="Only DIR/terraform, of a bundle that is there: what this version deploys with."
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With --terraform: replace files that say something else.")
    ] = False,
) -> None:
    """Make a new bundle: a working workflow, its test, and what is needed to run and to deploy it."""
    if terraform:
        return _add_configuration(folder, overwrite=overwrite)
    if overwrite:
        fail(ExitCode.WRONG_USE, "--overwrite goes with --terraform")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        fail(ExitCode.WRONG_USE, f"{folder} is not empty, and nothing in it is touched; name a new folder")
    title = folder.resolve().name
    files = bundle_files(
        title=title, deployed=_requirement("api,firestore", package), command=_requirement("cli", package)
    )
    configuration = terraform_files()
    _write(folder, {path: text.encode() for path, text in files.items()})
    _write(folder / FOLDER, configuration)
    added = add_workflow(_FIRST_WORKFLOW, folder / "main.py")
    _tell(folder, sorted([*files, *added]), configuration=len(configuration))
    return None


def _add_configuration(folder: Path, *, overwrite: bool) -> None:
    """Bring ``terraform/`` of a bundle to what this version has; files of other names are not touched."""
    if not (folder / "main.py").is_file():
        fail(ExitCode.WRONG_USE, f"{folder} is no bundle: there is no main.py in it")
    wanted, own = terraform_files(), own_files(folder / FOLDER)
    changed = [path for path, content in wanted.items() if own.get(path, content) != content]
    if changed and not overwrite:
        fail(
            ExitCode.WRONG_USE,
            f"{folder / FOLDER} says something else in {', '.join(changed)}, and is left as it is; --overwrite "
            "replaces these files, and git shows what that changes",
        )
    added = [path for path in wanted if path not in own]
    _write(folder / FOLDER, {path: wanted[path] for path in (*added, *changed)})
    console = Console(highlight=False, soft_wrap=True)
    for sign, paths in (("[green]+[/green]", added), ("[yellow]~[/yellow]", changed)):
        for path in paths:
            console.print(f"  {sign} {folder / FOLDER / path}")
    console.print(f"{folder / FOLDER} is the configuration of Autopilot {VERSION}")


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    try:
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    except OSError as error:
        fail(ExitCode.WRONG_USE, f"{error.filename} cannot be written: {error.strerror}")


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


def _tell(folder: Path, files: list[str], *, configuration: int) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{folder}[/bold] is a bundle with one workflow, {_FIRST_WORKFLOW}:\n")
    for path in files:
        console.print(f"  [green]+[/green] {path}")
    console.print(f"  [green]+[/green] {FOLDER}/ ({configuration} files, for the cloud)")
    console.print("\nNext:\n")
    for line in (
        f"cd {folder}",
        "python3 -m venv .venv && . .venv/bin/activate",
        "pip install -r requirements-dev.txt",
        f"autopilot run {_FIRST_WORKFLOW}",
        "autopilot dev",
    ):
        console.print(f"  {line}", markup=False)
