"""The Terraform configuration under the real terraform binary, with no cloud.

Providers come from an offline stand-in beside the repository where there is one, else from the registry. The stand-in
has the schema of the real ones, and a toy cloud that refuses what is created too early.
"""

import json
import os
import shutil
import subprocess
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "terraform"
STAND_IN = ROOT.parent / "shared" / "tfoffline" / "run"

BUNDLE = "tests/bundle.auto.tfvars.json"
"""A bundle for tests, with what the one of this repository may not have: see the file."""

Ended = subprocess.CompletedProcess[str]


class Missing(Exception):
    """There is no terraform here, or no providers for it."""


class Configuration:
    """The folder ``terraform/``, as it is in the working tree."""

    def __init__(self, scratch: Path) -> None:
        if shutil.which("terraform") is None:
            raise Missing("terraform is not installed")
        self._scratch = scratch
        self.is_offline = STAND_IN.is_file()

    def terraform(self, *arguments: str, folder: Path = FOLDER) -> Ended:
        """Any terraform command; another folder than this repository's is initialised where it is."""
        if self.is_offline:
            return _run(str(STAND_IN), str(folder), "--", *arguments)
        return _run("terraform", *arguments, cwd=self._initialised if folder == FOLDER else _initialise(folder))

    def validate(self) -> Ended:
        return _run(str(STAND_IN), str(FOLDER), "validate") if self.is_offline else self.terraform("validate")

    def test(self) -> Ended:
        return _run(str(STAND_IN), str(FOLDER), "test") if self.is_offline else self.terraform("test", "-no-color")

    def apply_twice_and_destroy(self, *arguments: str) -> Ended:
        """Needs the stand-in: elsewhere it would be a real cloud."""
        return _run(str(STAND_IN), str(FOLDER), "apply", *arguments)

    def plan(self, *arguments: str, folder: Path = FOLDER) -> dict[str, Any]:
        """The plan, for a project with nothing in it unless a state is given, as ``terraform show -json`` tells it."""
        file = self._scratch / "plan"
        options = ("-input=false", "-no-color", "-lock=false", f"-out={file}", "-var=project_id=my-project")
        planned = self.terraform("plan", *options, *arguments, folder=folder)
        assert planned.returncode == 0, planned.stdout + planned.stderr
        shown = self.terraform("show", "-json", str(file), folder=folder)
        plan: dict[str, Any] = json.loads(shown.stdout)
        return plan

    @cached_property
    def _initialised(self) -> Path:
        return _initialise(copy_of_the_repository(self._scratch / "copy") / "terraform")


def copy_of_the_repository(target: Path) -> Path:
    """What git has, and would have, of the working tree."""
    listed = _run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout
    for name in filter(None, listed.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)
    return target


def _initialise(folder: Path) -> Path:
    initialised = _run("terraform", "init", "-backend=false", "-input=false", "-no-color", cwd=folder)
    if initialised.returncode != 0:
        raise Missing(f"terraform init got no providers: {' '.join(initialised.stderr.split())[:200]}")
    return folder


def _run(*command: str, cwd: Path = ROOT) -> Ended:
    # A plan of new resources asks Google Cloud nothing; the provider only wants to have credentials.
    environment = {**os.environ, "GOOGLE_OAUTH_ACCESS_TOKEN": "none", "CHECKPOINT_DISABLE": "1"}
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        stdin=subprocess.DEVNULL,
    )
