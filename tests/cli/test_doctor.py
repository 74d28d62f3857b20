"""``autopilot doctor``, with tools on its PATH that say what they are told to."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autopilot.provisioning.terraform_files import terraform_files
from autopilot.version import VERSION
from tests.cli.conftest import command_environment, write_greeting

pytestmark = pytest.mark.slow


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    write_greeting(folder)
    return folder


def doctor(folder: Path, *options: str, tools: dict[str, str] | None = None, **variables: str) -> Any:
    """Each finding by its name, and the exit code, with nothing on the PATH but ``tools``: shell scripts."""
    path = folder.parent / "tools"
    path.mkdir(exist_ok=True)
    for name, script in (tools or {}).items():
        (path / name).write_text(f"#!/bin/sh\n{script}\n")
        (path / name).chmod(0o755)
    kept = {name: value for name, value in command_environment().items() if not name.startswith("GOOGLE_")}
    environment = {**kept, "PATH": str(path), "HOME": str(folder.parent), **variables}
    asked = subprocess.run(
        [sys.executable, "-m", "autopilot", "doctor", "--json", *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    found = json.loads(asked.stdout)
    names = [finding["name"] for finding in found]
    assert sorted(set(names)) == sorted(names), "a finding is listed twice"
    return asked.returncode, {finding["name"]: finding for finding in found}


def test_a_bundle_that_runs_here_is_well_and_is_told_what_its_deployment_lacks(bundle: Path) -> None:
    code, found = doctor(bundle)
    deployed, _ = doctor(bundle, "--deploy")

    local = [finding for finding in found.values() if finding["need"] == "local"]
    assert all(finding["ok"] for finding in local if finding["name"] != "Virtual environment"), local
    assert (found["Bundle"]["told"], found["Store"]["told"]) == (
        "1 workflow: greet",
        ".autopilot/autopilot.db (SQLite): the first run makes it",
    )
    for name in (
        "gcloud",
        "terraform",
        "Google account",
        "Credentials of programs",
        "Project",
        "Requirements",
        "Configuration",
        "Manifest",
    ):
        assert (found[name]["ok"], found[name]["remedy"] != "") == (False, True)
    assert (code, deployed) == (0 if found["Virtual environment"]["ok"] else 1, 1)


def test_what_is_there_is_seen(bundle: Path) -> None:
    gcloud = 'case "$1" in config) echo ada@example.com ;; *) echo Google Cloud SDK 999.0.0 ;; esac'
    credentials = bundle / "credentials.json"
    credentials.touch()

    _, found = doctor(
        bundle,
        tools={"gcloud": gcloud, "terraform": "echo Terraform v9", "java": "exit 0"},
        GOOGLE_APPLICATION_CREDENTIALS=str(credentials),
        GOOGLE_CLOUD_PROJECT="shop",
    )

    told = {name: found[name]["told"] for name in ("gcloud", "terraform", "Google account", "Project")}
    assert told == {
        "gcloud": "Google Cloud SDK 999.0.0",
        "terraform": "Terraform v9",
        "Google account": "ada@example.com",
        "Project": "shop",
    }
    assert found["Credentials of programs"]["ok"]
    assert found["Firestore emulator"]["remedy"] == "gcloud components install cloud-firestore-emulator"


def test_what_is_wrong_is_told_by_its_own_words(bundle: Path) -> None:
    (bundle / "greeting.py").write_text("def (")
    code, found = doctor(bundle, tools={"terraform": "exit 7"}, AUTOPILOT_STORE="postgres")

    assert code == 1
    assert "SyntaxError" in found["Bundle"]["told"]
    assert found["Settings"]["told"].startswith("AUTOPILOT_STORE: ")
    assert found["terraform"]["told"].endswith("terraform ends with exit code 7")


def test_an_emulator_that_is_away_is_told(bundle: Path) -> None:
    code, found = doctor(
        bundle, AUTOPILOT_STORE="firestore", FIRESTORE_EMULATOR_HOST="127.0.0.1:1", GOOGLE_CLOUD_PROJECT="x"
    )

    assert (code, found["Store"]["ok"]) == (1, False)


def test_without_a_bundle_it_says_how_to_get_one(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()

    code, found = doctor(folder)

    assert (code, found["Bundle"]["told"]) == (1, "there is no main.py here")
    assert list(folder.iterdir()) == []


def test_a_configuration_is_told_from_the_one_of_this_version(bundle: Path) -> None:
    (bundle / "terraform").mkdir()
    for path, content in terraform_files().items():
        (bundle / "terraform" / path).parent.mkdir(exist_ok=True)
        (bundle / "terraform" / path).write_bytes(content)
    _, same = doctor(bundle)
    (bundle / "terraform" / "names.tf").write_text("# mine")
    _, other = doctor(bundle)

    assert same["Configuration"]["told"] == f"terraform, as Autopilot {VERSION} has it"
    assert other["Configuration"]["told"] == f"terraform, not as Autopilot {VERSION} has it: names.tf"
    assert (same["Configuration"]["ok"], other["Configuration"]["ok"]) == (True, True)


def test_a_requirement_that_is_a_path_of_this_machine_cannot_be_deployed(bundle: Path) -> None:
    (bundle / "requirements.txt").write_text("httpx==1.0\n")
    _, pinned = doctor(bundle)
    (bundle / "requirements.txt").write_text("httpx==1.0\nautopilot-workflows[api] @ file:///home/ada/autopilot\n")
    _, path = doctor(bundle)

    assert (pinned["Requirements"]["ok"], pinned["Requirements"]["told"]) == (True, "requirements.txt")
    assert path["Requirements"]["told"].endswith(": autopilot-workflows[api] @ file:///home/ada/autopilot")
    assert not path["Requirements"]["ok"]
