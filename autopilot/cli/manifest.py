"""``autopilot manifest``: write the bundle's Terraform variables from its manifests, or compare the two."""

import difflib
from pathlib import Path
from typing import Annotated

import typer

from autopilot.cli.bundle import load_bundle, no_functions
from autopilot.cli.exits import ExitCode, fail
from autopilot.cli.options import SOURCE, SourceOption
from autopilot.cli.output import print_line
from autopilot.errors import ConfigurationError


def manifest(
    *,
    source: SourceOption = SOURCE,
    output: Annotated[
        Path | None, typer.Option(help="The file.", show_default="terraform/workflows.auto.tfvars.json")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if the file is out of date.")] = False,
) -> None:
    """Write what Terraform needs to know about the workflows in main.py."""
    # Imports Firestore's client, which the other commands do without.
    from autopilot.provisioning.terraform_variables import as_tfvars, terraform_variables

    if source.name != "main.py":
        fail(ExitCode.WRONG_USE, f"{source}: Cloud Functions starts functions from main.py, and from no other file")
    bundle = load_bundle(source)
    file = output or bundle.folder / "terraform" / "workflows.auto.tfvars.json"
    if not bundle.workflows:
        fail(ExitCode.WRONG_USE, no_functions(source))
    try:
        text = as_tfvars(terraform_variables(bundle))
    except ConfigurationError as error:
        fail(ExitCode.WRONG_USE, str(error))
    if check:
        _compare(file, text)
    else:
        _write(file, text)
    names = ", ".join(workflow.manifest.name for workflow in bundle.workflows.values())
    print_line(f"{_shown(file)} {'is up to date' if check else 'written'}: {names}")


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())
    except OSError as error:
        fail(ExitCode.WRONG_USE, f"{_shown(file)} cannot be written: {error.strerror}")


def _compare(file: Path, text: str) -> None:
    try:
        committed = file.read_bytes()
    except OSError as error:
        fail(ExitCode.RUN_FAILED, f"{_shown(file)} cannot be read: {error.strerror}; write it with: autopilot manifest")
    if committed == text.encode():
        return
    before, after = committed.decode(errors="backslashreplace").splitlines(), text.splitlines()
    diff = difflib.unified_diff(before, after, str(_shown(file)), "the code", lineterm="")
    for line in diff:
        print_line(line)
    fail(ExitCode.RUN_FAILED, f"{_shown(file)} is out of date; write it with: autopilot manifest")


def _shown(file: Path) -> Path:
    return file.relative_to(Path.cwd()) if file.is_absolute() and file.is_relative_to(Path.cwd()) else file
