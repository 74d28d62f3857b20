"""What a bundle needs on this machine and for its deployment: each need is one check."""

import asyncio
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import typer

from autopilot.cli.bundle import load_bundle
from autopilot.cli.environment import default_credentials_file
from autopilot.cli.exits import CommandFailed
from autopilot.cli.google_account import active_account
from autopilot.cli.options import settings_or_fail
from autopilot.cli.output import print_line
from autopilot.core.run_log import get_run_archive, reset_run_log_service
from autopilot.development.local_store import kept_in
from autopilot.errors import AutopilotError, SourceInvalid
from autopilot.provisioning.sources import REQUIREMENTS, requirement_files
from autopilot.provisioning.terraform_files import FOLDER, own_files, terraform_files
from autopilot.version import VERSION

_TOOL_SECONDS = 30
_OF_THIS_MACHINE = re.compile(r"@\s*file:|^(-e|--editable)\b|^[./]")
"""A requirement that is a path."""


class Need(StrEnum):
    """What a thing is needed for."""

    LOCAL = "local"
    DEPLOYMENT = "deployment"
    EMULATOR = "emulator"
    """Firestore on this machine: nice to have."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    name: str
    need: Need
    ok: bool
    told: str
    remedy: str = ""
    """What to do about it; empty when nothing is missing."""


def findings(source: Path) -> Iterator[Finding]:
    """Look at everything, the cheap things first."""
    yield _python()
    yield _environment()
    yield _bundle(source)
    yield _settings()
    yield _store()
    yield _tool("gcloud", "https://cloud.google.com/sdk/docs/install", "--version")
    yield _tool("terraform", "https://developer.hashicorp.com/terraform/install", "version")
    yield _account()
    yield _default_credentials()
    yield _project()
    yield _requirements(source)
    yield _configuration(source)
    yield _manifest(source)
    yield _emulator()


def _python() -> Finding:
    return Finding("Python", Need.LOCAL, ok=True, told=platform.python_version())


def _environment() -> Finding:
    inside = sys.prefix != sys.base_prefix
    told = sys.prefix if inside else "the command runs outside of one"
    return Finding(
        "Virtual environment",
        Need.LOCAL,
        ok=inside,
        told=told,
        remedy="" if inside else "python3 -m venv .venv && . .venv/bin/activate && pip install -r requirements-dev.txt",
    )


def _bundle(source: Path) -> Finding:
    def finding(*, ok: bool, told: str, remedy: str = "") -> Finding:
        return Finding("Bundle", Need.LOCAL, ok=ok, told=told, remedy=remedy)

    if not source.is_file():
        return finding(ok=False, told=f"there is no {source} here", remedy="autopilot init DIR, or go to your bundle")
    # As a process of its own: what a bundle prints or breaks at import is not ours.
    asked = _run([sys.executable, "-m", "autopilot.cli.checks", str(source)])
    lines = asked.stdout.strip().splitlines()[-1:] if asked.returncode == 0 else asked.stderr.strip().splitlines()[-1:]
    told = lines[0] if lines else f"its import ended with exit code {asked.returncode}"
    remedy = "" if asked.returncode == 0 else "mend what the message names"
    return finding(ok=asked.returncode == 0, told=told.removeprefix("autopilot: "), remedy=remedy)


def _settings() -> Finding:
    try:
        settings = settings_or_fail()
    except CommandFailed as failure:
        return Finding("Settings", Need.LOCAL, ok=False, told=str(failure), remedy="set the variable anew, or see .env")
    return Finding("Settings", Need.LOCAL, ok=True, told=f"environment {settings.environment}, store {settings.store}")


def _store() -> Finding:
    try:
        settings = settings_or_fail()
        where = kept_in(settings)
        if settings.store == "sqlite" and not settings.sqlite_path.exists():
            return Finding("Store", Need.LOCAL, ok=True, told=f"{where}: the first run makes it")
        asyncio.run(_ask_store())
    except (AutopilotError, CommandFailed) as error:
        remedy = "start what AUTOPILOT_STORE names, or unset it to use SQLite"
        return Finding("Store", Need.LOCAL, ok=False, told=str(error), remedy=remedy)
    except ModuleNotFoundError as error:
        remedy = "pip install 'autopilot-workflows[firestore]'"
        return Finding("Store", Need.LOCAL, ok=False, told=f"{error.name} is not installed", remedy=remedy)
    return Finding("Store", Need.LOCAL, ok=True, told=f"{where} answers")


async def _ask_store() -> None:
    try:
        await get_run_archive().check_connection()
    finally:
        reset_run_log_service()


def _tool(name: str, address: str, *arguments: str) -> Finding:
    def finding(*, ok: bool, told: str, remedy: str = "") -> Finding:
        return Finding(name, Need.DEPLOYMENT, ok=ok, told=told, remedy=remedy)

    path = shutil.which(name)
    if path is None:
        return finding(ok=False, told="not installed", remedy=address)
    asked = _run([path, *arguments])
    if asked.returncode != 0:
        return finding(
            ok=False, told=f"{path} ends with exit code {asked.returncode}", remedy=f"reinstall it: {address}"
        )
    return finding(ok=True, told=(asked.stdout.strip().splitlines() or [path])[0])


def _account() -> Finding:
    account = active_account()
    return Finding(
        "Google account",
        Need.DEPLOYMENT,
        ok=account is not None,
        told=account or "nobody is signed in",
        remedy="" if account else "gcloud auth login",
    )


def _default_credentials() -> Finding:
    file = default_credentials_file()
    ok = file.is_file()
    return Finding(
        "Credentials of programs",
        Need.DEPLOYMENT,
        ok=ok,
        told=str(file) if ok else f"there is no {file}",
        remedy="" if ok else "gcloud auth application-default login",
    )


def _project() -> Finding:
    try:
        project = settings_or_fail().project
    except CommandFailed:
        project = None
    remedy = "" if project else "GOOGLE_CLOUD_PROJECT=your-project in .env"
    return Finding("Project", Need.DEPLOYMENT, ok=bool(project), told=project or "not set", remedy=remedy)


def _emulator() -> Finding:
    java, gcloud = shutil.which("java"), shutil.which("gcloud")
    if java is None:
        told, remedy = "java is not installed", "install a Java runtime, version 21 or newer"
    elif gcloud is None:
        told, remedy = "gcloud is not installed", "https://cloud.google.com/sdk/docs/install"
    else:
        root = Path(gcloud).resolve().parents[1]
        if (root / "platform" / "cloud-firestore-emulator").is_dir():
            return Finding("Firestore emulator", Need.EMULATOR, ok=True, told=f"below {root}")
        told, remedy = "not installed", "gcloud components install cloud-firestore-emulator"
    return Finding("Firestore emulator", Need.EMULATOR, ok=False, told=told, remedy=remedy)


def _requirements(source: Path) -> Finding:
    def finding(*, ok: bool, told: str, remedy: str = "") -> Finding:
        return Finding("Requirements", Need.DEPLOYMENT, ok=ok, told=told, remedy=remedy)

    try:
        files = sorted(requirement_files(source.parent))
    except SourceInvalid as error:
        return finding(ok=False, told=str(error), remedy=f"list what the functions need in {REQUIREMENTS}")
    lines = [line.strip() for file in files for line in (source.parent / file).read_text(encoding="utf-8").splitlines()]
    of_this_machine = [line for line in lines if _OF_THIS_MACHINE.search(line)]
    if of_this_machine:
        remedy = "name a version, or an address as in git+https://..."
        return finding(ok=False, told=f"there is no such path in the cloud: {of_this_machine[0]}", remedy=remedy)
    return finding(ok=True, told=", ".join(files))


def _configuration(source: Path) -> Finding:
    folder = source.parent / FOLDER
    own, ours = own_files(folder), terraform_files()
    if not any(path.endswith(".tf") for path in own):
        remedy = f"autopilot init {source.parent} --terraform"
        return Finding("Configuration", Need.DEPLOYMENT, ok=False, told=f"there is none in {folder}", remedy=remedy)
    different = [path for path, content in ours.items() if own.get(path) != content]
    told = f"{folder}, as Autopilot {VERSION} has it"
    if different:
        told = f"{folder}, not as Autopilot {VERSION} has it: {', '.join(different)}"
    return Finding("Configuration", Need.DEPLOYMENT, ok=True, told=told)


def _manifest(source: Path) -> Finding:
    def finding(*, ok: bool, told: str, remedy: str = "") -> Finding:
        return Finding("Manifest", Need.DEPLOYMENT, ok=ok, told=told, remedy=remedy)

    file = source.parent / FOLDER / "workflows.auto.tfvars.json"
    if not file.is_file():
        return finding(ok=False, told=f"there is no {file}", remedy="autopilot manifest")
    asked = _run([sys.executable, "-m", "autopilot", "manifest", "--check", "--source", str(source)])
    if asked.returncode != 0:
        told = (asked.stderr.strip().splitlines() or ["it cannot be checked"])[-1].removeprefix("autopilot: ")
        return finding(ok=False, told=told, remedy="autopilot manifest")
    return finding(ok=True, told=f"{file} is what the code says")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_SECONDS, check=False)  # noqa: S603 - no shell
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no answer within {_TOOL_SECONDS} s")


def describe_bundle(source: Path) -> int:
    """Import every workflow of a bundle and name it, in one line; gives the exit code."""
    try:
        workflows = load_bundle(source).workflows
    except typer.Exit as ended:
        return ended.exit_code
    names = [each.manifest.name for each in workflows.values()]
    print_line(f"{len(names)} workflow{'' if len(names) == 1 else 's'}: {', '.join(names) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(describe_bundle(Path(sys.argv[1])))
