"""``autopilot manifest``: write the Terraform variables of the bundle's workflows, or check that they are up to date."""

import difflib
from pathlib import Path
from typing import Annotated

import typer

from autopilot.cli.bundle import load_bundle, no_functions
from autopilot.cli.exits import CommandFailed, ExitCode
from autopilot.cli.options import SOURCE, SourceOption


def manifest(
    *,
    source: SourceOption = SOURCE,
    output: Annotated[
        Path | None,
        typer.Option(help="The file to write or check.", show_default="terraform/workflows.auto.tfvars.json"),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if the file is out of date.")] = False,
) -> None:
    """Write the Terraform variables that describe the workflows in main.py."""
    # Indexes follow from the store's queries, which need Firestore's client; the other commands do not.
    from autopilot.provisioning.terraform_variables import as_tfvars, terraform_variables

    if source.name != "main.py":
        raise CommandFailed(
            ExitCode.WRONG_USE, f"{source}: Cloud Functions starts functions from main.py, and from no other file"
        )
    bundle = load_bundle(source)
    file = output or bundle.folder / "terraform" / "workflows.auto.tfvars.json"
    if not bundle.workflows:
        raise CommandFailed(ExitCode.WRONG_USE, no_functions(source))
    text = as_tfvars(terraform_variables(bundle))
    if check:
        _compare(file, text)
    else:
        _write(file, text)
    names = ", ".join(workflow.manifest.name for workflow in bundle.workflows.values())
    typer.echo(f"{_shown(file)} {'is up to date' if check else 'written'}: {names}")


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())
    except OSError as error:
        raise CommandFailed(ExitCode.WRONG_USE, f"{_shown(file)} cannot be written: {error.strerror}") from None


def _compare(file: Path, text: str) -> None:
    try:
        committed = file.read_bytes()
    except OSError as error:
        raise CommandFailed(
            ExitCode.RUN_FAILED, f"{_shown(file)} cannot be read: {error.strerror}; write it with: autopilot manifest"
        ) from None
    if committed == text.encode():
        return
    before, after = committed.decode(errors="backslashreplace").splitlines(), text.splitlines()
    diff = difflib.unified_diff(before, after, str(_shown(file)), "main.py", lineterm="")
    for line in diff:
        typer.echo(line)
    raise CommandFailed(ExitCode.RUN_FAILED, f"{_shown(file)} is out of date; write it with: autopilot manifest")


def _shown(file: Path) -> Path:
    return file.relative_to(Path.cwd()) if file.is_absolute() and file.is_relative_to(Path.cwd()) else file
