"""``autopilot init``: make a new bundle, or bring the Terraform configuration of one up to date."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from autopilot.cli.exits import CommandFailed, ExitCode
from autopilot.cli.new import from_templates, workflow_files, write_files
from autopilot.provisioning.terraform_files import FOLDER, own_files, terraform_files
from autopilot.version import VERSION

_PACKAGE = "autopilot-workflows"
_FIRST_WORKFLOW = "hello"


def init(
    *,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The bundle's folder, new or empty.")],
    package: Annotated[
        str,
        typer.Option(
            help="Install Autopilot from this URL or local path instead of the package index. A local path cannot be deployed."
        ),
    ] = "",
    terraform: Annotated[
        bool,
        typer.Option(
            "--terraform", help="Write only DIR/terraform, this version's configuration, in an existing bundle."
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With --terraform: replace files that were changed.")
    ] = False,
) -> None:
    """Make a new bundle: a workflow, its test, and the files that run and deploy it."""
    if terraform:
        return _write_configuration(folder, overwrite=overwrite)
    if overwrite:
        raise CommandFailed(ExitCode.WRONG_USE, "--overwrite is used with --terraform")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CommandFailed(ExitCode.WRONG_USE, f"{folder} is not an empty folder; nothing was changed")
    requirements = {"deployed": _requirement("api,firestore", package), "command": _requirement("cli", package)}
    files = from_templates("bundle", {"title": folder.resolve().name, **requirements})
    files |= workflow_files(_FIRST_WORKFLOW, tests="tests")
    configuration = terraform_files()
    write_files(folder, {path: text.encode() for path, text in files.items()})
    write_files(folder / FOLDER, configuration)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(f"Created {folder}, a bundle with one workflow, {_FIRST_WORKFLOW}:\n")
    for path in sorted(files):
        console.print(f"  + {path}")
    console.print(f"  + {FOLDER}/ ({len(configuration)} files that deploy it)\n\nNext:\n")
    for line in (
        f"cd {folder}",
        "python3 -m venv .venv && . .venv/bin/activate",
        "pip install -r requirements-dev.txt",
        f"autopilot run {_FIRST_WORKFLOW}",
        "autopilot dev",
    ):
        console.print(f"  {line}")
    return None


def _write_configuration(folder: Path, *, overwrite: bool) -> None:
    """Write this version's files to the bundle's ``terraform/``; files of other names are not touched."""
    if not (folder / "main.py").is_file():
        raise CommandFailed(ExitCode.WRONG_USE, f"{folder} is not a bundle: it has no main.py")
    wanted, own = terraform_files(), own_files(folder / FOLDER)
    added = [path for path in wanted if path not in own]
    changed = [path for path, content in wanted.items() if own.get(path, content) != content]
    if changed and not overwrite:
        raise CommandFailed(
            ExitCode.WRONG_USE,
            f"{folder / FOLDER} differs from this version's configuration in {', '.join(changed)}; nothing was changed. "
            "--overwrite replaces these files; git then shows the difference",
        )
    write_files(folder / FOLDER, {path: wanted[path] for path in (*added, *changed)})
    console = Console(highlight=False, soft_wrap=True, markup=False)
    for path in (*added, *changed):
        console.print(f"  {'+' if path in added else '~'} {folder / FOLDER / path}")
    console.print(f"{folder / FOLDER} is now the configuration of Autopilot {VERSION}")


def _requirement(extra: str, package: str) -> str:
    """The line of a requirements file that pins this version."""
    name = f"{_PACKAGE}[{extra}]"
    if not package:
        return f"{name}=={VERSION}"
    if "://" in package:
        return f"{name} @ {package}"
    path = Path(package)
    if not path.exists():
        raise CommandFailed(
            ExitCode.WRONG_USE, f"--package: {package} does not exist; use a path, or a URL such as git+https://..."
        )
    return f"{name} @ {path.resolve().as_uri()}"
