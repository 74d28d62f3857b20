"""``autopilot manifest``: what Terraform is told about the bundle, written from its manifests or compared with them."""

import difflib
from pathlib import Path
from typing import Annotated

import typer

from autopilot.cli.bundle import load_bundle
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
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if the file says otherwise.")] = False,
) -> None:
    """Write what Terraform needs to know of the workflows in main.py."""
    # The store's queries come with Firestore's client, which the other commands do without.
    from autopilot.provisioning.terraform_variables import as_tfvars, terraform_variables

    root = source.resolve().parent
    file = output or root / "terraform" / "workflows.auto.tfvars.json"
    if source.name != "main.py":
        fail(ExitCode.WRONG_USE, f"{source}: Cloud Functions starts a function from main.py, and from no other file")
    bundle = load_bundle(source)
    if not bundle.workflows:
        fail(ExitCode.WRONG_USE, f"{source} makes no workflow a function: name = entry_point('functions.name:Class')")
    try:
        text = as_tfvars(terraform_variables(bundle, root))
    except ConfigurationError as error:
        fail(ExitCode.WRONG_USE, str(error))
    if check:
        _compare(file, text)
    else:
        _write(file, text)
    names = ", ".join(bundled.manifest.name for bundled in bundle.workflows)
    print_line(f"{_shown(file)} {'is what the code says' if check else 'written'}: {names}")


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
    diff = difflib.unified_diff(before, after, str(_shown(file)), "what the code says", lineterm="")
    for line in diff:
        print_line(line)
    fail(ExitCode.RUN_FAILED, f"{_shown(file)} is not what the code says; write it anew with: autopilot manifest")


def _shown(file: Path) -> Path:
    return file.relative_to(Path.cwd()) if file.is_absolute() and file.is_relative_to(Path.cwd()) else file
