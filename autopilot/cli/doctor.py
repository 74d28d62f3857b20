"""``autopilot doctor``: what is missing on this machine and for deployment, and how to get it."""

import asyncio
import os
import platform
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from autopilot.cli.bundle import load_bundle
from autopilot.cli.credentials import gcloud
from autopilot.cli.exits import CommandFailed, ExitCode
from autopilot.cli.options import SOURCE, JsonOption, SourceOption
from autopilot.cli.output import print_json, safe_text
from autopilot.core.run_log import get_run_archive, reset_run_log_service
from autopilot.development.local_store import kept_in
from autopilot.errors import AutopilotError, SettingsInvalid, SourceInvalid
from autopilot.provisioning.sources import REQUIREMENTS, requirement_files
from autopilot.provisioning.terraform_files import FOLDER, own_files, terraform_files
from autopilot.settings import load_settings
from autopilot.version import VERSION

_TOOL_SECONDS = 30
_GCLOUD_URL = "https://cloud.google.com/sdk/docs/install"
_TERRAFORM_URL = "https://developer.hashicorp.com/terraform/install"
_MANIFEST_FILE = "workflows.auto.tfvars.json"
_LOCAL_PATH = re.compile(r"@\s*file:|^(-e|--editable)\b|^[./]")
"""A requirement that is a path of this machine."""


class Need(StrEnum):
    """Purposes that something is checked for."""

    LOCAL = "local"
    DEPLOYMENT = "deployment"
    EMULATOR = "emulator"
    """Firestore on this machine, which is optional."""


_TITLES = {
    Need.LOCAL: "On this machine",
    Need.DEPLOYMENT: "For deployment",
    Need.EMULATOR: "For Firestore on this machine (optional)",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of a check."""

    name: str
    need: Need
    ok: bool
    detail: str
    """The version or place that was found, or the problem."""
    remedy: str = ""
    """How to solve the problem; empty without one."""


class Problem(Exception):
    """A check has failed."""

    def __init__(self, detail: str, remedy: str) -> None:
        super().__init__(detail)
        self.remedy = remedy


def doctor(
    *,
    deploy: Annotated[bool, typer.Option("--deploy", help="Fail if something for deployment is missing, too.")] = False,
    source: SourceOption = SOURCE,
    as_json: JsonOption = False,
) -> None:
    """Check what local use and deployment need, and say how to get what is missing."""
    found: list[Finding] = []
    console = Console(highlight=False)
    with Console(stderr=True).status("Checking"):
        for finding in findings(source):
            if not as_json:
                _print(console, finding, is_first=all(other.need is not finding.need for other in found))
            found.append(finding)
    missing = Counter(finding.need for finding in found if not finding.ok)
    if as_json:
        print_json(found)
    else:
        local, deployment = (missing[need] or "nothing" for need in (Need.LOCAL, Need.DEPLOYMENT))
        console.print(f"\nMissing on this machine: {local}. Missing for deployment: {deployment}.")
    if missing[Need.LOCAL] or (deploy and missing[Need.DEPLOYMENT]):
        raise typer.Exit(ExitCode.RUN_FAILED)


def findings(source: Path) -> Iterator[Finding]:
    """Make every check, quick ones first."""
    for name, need, check in CHECKS:
        try:
            yield Finding(name, need, ok=True, detail=check(source))
        except Problem as problem:
            yield Finding(name, need, ok=False, detail=str(problem), remedy=problem.remedy)


def _print(console: Console, finding: Finding, *, is_first: bool) -> None:
    if is_first:
        console.print(Text(f"\n{_TITLES[finding.need]}", style="bold"))
    mark, style = ("✔", "green") if finding.ok else ("✘", "red" if finding.need is Need.LOCAL else "yellow")
    line = Text(f"  {mark} ", style=style).append(f"{finding.name}: ", style="default")
    console.print(line.append_text(safe_text(finding.detail)), soft_wrap=True)
    if finding.remedy:
        console.print(Text(f"    → {finding.remedy}"), soft_wrap=True)


def _python(_: Path) -> str:
    return platform.python_version()


def _environment(_: Path) -> str:
    if sys.prefix == sys.base_prefix:
        remedy = "python3 -m venv .venv && . .venv/bin/activate && pip install -r requirements-dev.txt"
        raise Problem("the command does not run in one", remedy)
    return sys.prefix


def _bundle(source: Path) -> str:
    if not source.is_file():
        raise Problem(f"there is no {source} here", "autopilot init DIR, or change to your bundle's folder")
    # In a process of its own, which whatever the bundle does at its import cannot disturb.
    ended = _run(sys.executable, "-m", "autopilot.cli.doctor", str(source))
    if ended.returncode != 0:
        detail = _last_line(ended.stderr) or f"the import ended with exit code {ended.returncode}"
        raise Problem(detail, "fix the error in the message")
    return _last_line(ended.stdout)


def _settings(_: Path) -> str:
    try:
        settings = load_settings()
    except SettingsInvalid as error:
        raise Problem(str(error), f"change {error.variable}, here or in .env") from None
    return f"environment {settings.environment}, store {settings.store}"


def _store(_: Path) -> str:
    try:
        settings = load_settings()
        place = kept_in(settings)
        if settings.store == "sqlite" and not settings.sqlite_path.exists():
            return f"{place}, created by the first run"
        asyncio.run(_check_connection())
    except AutopilotError as error:
        raise Problem(str(error), "start the database of AUTOPILOT_STORE, or unset it to use SQLite") from None
    except ModuleNotFoundError as error:
        raise Problem(f"{error.name} is not installed", "pip install 'autopilot-workflows[firestore]'") from None
    return place


async def _check_connection() -> None:
    try:
        await get_run_archive().check_connection()
    finally:
        reset_run_log_service()


def _tool(name: str, url: str, argument: str, _: Path) -> str:
    path = shutil.which(name)
    if path is None:
        raise Problem("not installed", url)
    ended = _run(path, argument)
    if ended.returncode != 0:
        reason = _last_line(ended.stderr) or f"exit code {ended.returncode}"
        raise Problem(f"{path} does not work: {reason}", f"reinstall it: {url}")
    return next(iter(ended.stdout.strip().splitlines()), path)


def _account(_: Path) -> str:
    try:
        account = gcloud("config", "get-value", "account")
    except CommandFailed as failure:
        raise Problem(str(failure), "gcloud auth login") from None
    if not account:
        raise Problem("no account is signed in", "gcloud auth login")
    return account


def _default_credentials(_: Path) -> str:
    # Where google-auth looks, which does not say so in public.
    folder = Path(os.environ.get("CLOUDSDK_CONFIG") or Path.home() / ".config" / "gcloud")
    file = Path(os.environ.get("GOOGLE_APPLICATION_CREDENTIALS") or folder / "application_default_credentials.json")
    if not file.is_file():
        raise Problem(f"there is no {file}", "gcloud auth application-default login")
    return str(file)


def _project(_: Path) -> str:
    try:
        project = load_settings().project
    except SettingsInvalid:
        project = None
    if not project:
        raise Problem("not set", "GOOGLE_CLOUD_PROJECT=your-project in .env")
    return project


def _requirements(source: Path) -> str:
    try:
        files = sorted(requirement_files(source.parent))
    except SourceInvalid as error:
        raise Problem(str(error), f"list the packages that the functions need in {REQUIREMENTS}") from None
    for file in files:
        for line in (source.parent / file).read_text(encoding="utf-8").splitlines():
            if _LOCAL_PATH.search(line.strip()):
                raise Problem(
                    f"{file} names a path of this machine: {line.strip()}",
                    "use a version, or a URL such as git+https://...",
                )
    return ", ".join(files)


def _configuration(source: Path) -> str:
    folder = source.parent / FOLDER
    own, ours = own_files(folder), terraform_files()
    if not any(path.endswith(".tf") for path in own):
        raise Problem(f"there is none in {folder}", f"autopilot init {source.parent} --terraform")
    changed = [path for path, content in ours.items() if own.get(path) != content]
    if changed:
        return f"{folder}, which differs from that of Autopilot {VERSION} in {', '.join(changed)}"
    return f"{folder}, that of Autopilot {VERSION}"


def _manifest(source: Path) -> str:
    file = source.parent / FOLDER / _MANIFEST_FILE
    if not file.is_file():
        raise Problem(f"there is no {file}", "autopilot manifest")
    ended = _run(sys.executable, "-m", "autopilot", "manifest", "--check", "--source", str(source))
    if ended.returncode != 0:
        raise Problem(_last_line(ended.stderr) or "it cannot be checked", "autopilot manifest")
    return f"{file} is up to date"


def _emulator(_: Path) -> str:
    command = shutil.which("gcloud")
    if shutil.which("java") is None:
        raise Problem("java is not installed", "install a Java runtime, version 21 or newer")
    if command is None:
        raise Problem("gcloud is not installed", _GCLOUD_URL)
    folder = Path(command).resolve().parents[1] / "platform" / "cloud-firestore-emulator"
    if not folder.is_dir():
        raise Problem("not installed", "gcloud components install cloud-firestore-emulator")
    return str(folder)


CHECKS: tuple[tuple[str, Need, Callable[[Path], str]], ...] = (
    ("Python", Need.LOCAL, _python),
    ("Virtual environment", Need.LOCAL, _environment),
    ("Bundle", Need.LOCAL, _bundle),
    ("Settings", Need.LOCAL, _settings),
    ("Store", Need.LOCAL, _store),
    ("gcloud", Need.DEPLOYMENT, partial(_tool, "gcloud", _GCLOUD_URL, "--version")),
    ("Terraform", Need.DEPLOYMENT, partial(_tool, "terraform", _TERRAFORM_URL, "version")),
    ("Google account", Need.DEPLOYMENT, _account),
    ("Application default credentials", Need.DEPLOYMENT, _default_credentials),
    ("Project", Need.DEPLOYMENT, _project),
    ("Requirements", Need.DEPLOYMENT, _requirements),
    ("Terraform configuration", Need.DEPLOYMENT, _configuration),
    ("Manifest", Need.DEPLOYMENT, _manifest),
    ("Firestore emulator", Need.EMULATOR, _emulator),
)
"""Each check by its name: it returns what it found, or raises :class:`Problem`."""


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_SECONDS, check=False)  # noqa: S603 - no shell
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no answer within {_TOOL_SECONDS} s")
    except OSError as error:  # not a program, or not for this machine
        return subprocess.CompletedProcess(command, 126, "", error.strerror or str(error))


def _last_line(text: str) -> str:
    return next(reversed(text.strip().splitlines()), "").removeprefix("autopilot: ")


if __name__ == "__main__":
    try:
        workflows = [each.manifest.name for each in load_bundle(Path(sys.argv[1])).workflows.values()]
    except CommandFailed as failure:
        sys.exit(str(failure))
    typer.echo(f"{len(workflows)} workflow{'' if len(workflows) == 1 else 's'}: {', '.join(workflows) or 'none'}")
