"""Archives as Terraform makes them are whole: they install, serve and answer, each with what is its own."""

import fcntl
import io
import json
import os
import re
import subprocess
import urllib.request
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

from autopilot.development.function_server import FunctionServer
from tests.terraform.configuration import FOLDER, Configuration, copy_of_the_repository
from tests.terraform.test_plan import archived

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

VARIABLES: dict[str, Any] = json.loads((FOLDER / "workflows.auto.tfvars.json").read_text())


@pytest.fixture(scope="module")
def archives(own_plan: dict[str, Any]) -> dict[str, bytes]:
    """The zip file of each workflow, and of the API ("api")."""
    made = {}
    for name, files in archived(own_plan).items():
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as zipped:
            for file, content in files.items():
                zipped.writestr(file, content)
        made[name] = archive.getvalue()
    return made


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, archives: dict[str, bytes]) -> Path:
    """A fresh environment with what the archives' requirements ask for; they all carry the same."""
    scratch = tmp_path_factory.getbasetemp()
    folder = (scratch.parent if "PYTEST_XDIST_WORKER" in os.environ else scratch) / "requirements"
    folder.mkdir(exist_ok=True)
    python = folder / "venv" / "bin" / "python"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one for all processes of this session
        if not (folder / "ready").exists():
            install(next(iter(archives.values())), folder, python)
            (folder / "ready").touch()
    return python


def install(archive: bytes, folder: Path, python: Path) -> None:
    unpack(archive, folder / "source")
    venv.create(folder / "venv", with_pip=True, clear=True)
    installed = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"],
        cwd=folder / "source",
        capture_output=True,
        text=True,
        check=False,
    )
    if "Failed to establish a new connection" in installed.stderr:
        pytest.skip("there is no package index to install an archive's requirements from")
    assert installed.returncode == 0, installed.stderr


def unpack(archive: bytes, folder: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(archive)) as zipped:
        zipped.extractall(folder)


@pytest.mark.parametrize("workflow", sorted(VARIABLES["workflows"]))
def test_an_archive_serves_its_function(
    workflow: str, archives: dict[str, bytes], python: Path, tmp_path: Path
) -> None:
    unpack(archives[workflow], tmp_path)

    server = FunctionServer(
        VARIABLES["workflows"][workflow]["entry_point"],
        source=tmp_path / "main.py",
        folder=tmp_path,
        python=str(python),
        env=dict.fromkeys(os.environ.keys() - bare_environment().keys()),
    )
    with server:
        described = fetch(server.url)

    assert described["manifest"]["name"] == workflow
    assert described["total_runs"] == 0


def test_the_archive_of_the_api_serves_api_and_dashboard(
    archives: dict[str, bytes], python: Path, tmp_path: Path
) -> None:
    unpack(archives["api"], tmp_path)

    server = FunctionServer(
        VARIABLES["api"]["entry_point"],
        source=tmp_path / "main.py",
        folder=tmp_path,
        python=str(python),
        env=dict.fromkeys(os.environ.keys() - bare_environment().keys()),
    )
    with server:
        health = fetch(f"{server.url}/api/v1/health")
        workflows = fetch(f"{server.url}/api/v1/workflows")
        page = read(f"{server.url}/").decode()
        static = [read(f"{server.url}/{path}") for path in re.findall(r'(?:href|src)="[./]*(static/[^"]+)"', page)]

    assert (health["status"], health["store"]) == ("ok", "sqlite")
    assert {workflow["name"] for workflow in workflows["workflows"]} == set(VARIABLES["workflows"])
    assert "<html" in page
    assert len(static) >= 2
    assert all(static)


@pytest.mark.parametrize("workflow", sorted(VARIABLES["workflows"]))
def test_an_archive_can_keep_its_history_in_firestore(
    workflow: str, archives: dict[str, bytes], python: Path, tmp_path: Path
) -> None:
    unpack(archives[workflow], tmp_path)

    opened = subprocess.run(
        [python, "-c", "from autopilot.core.run_log import process_store; print(type(process_store()).__name__)"],
        cwd=tmp_path,
        env={**bare_environment(), "AUTOPILOT_STORE": "firestore", "K_SERVICE": "x", "GOOGLE_CLOUD_PROJECT": "p"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert opened.stdout.strip() == "FirestoreStore", opened.stderr


def test_a_changed_workflow_is_its_function_to_update_and_the_api_which_shows_it(
    configuration: Configuration, tmp_path: Path
) -> None:
    if not configuration.is_offline:
        pytest.skip("an apply needs the offline stand-in: without it, this would be a real project")
    bundle = copy_of_the_repository(tmp_path / "bundle")
    state = f"-state={tmp_path / 'state'}"
    options = ("-input=false", "-no-color", "-var=project_id=my-project", state)
    applied = configuration.terraform("apply", "-auto-approve", *options, folder=bundle / "terraform")
    assert applied.returncode == 0, applied.stdout + applied.stderr

    with (bundle / "functions" / "uptime_check.py").open("a") as module:
        module.write("\n# changed\n")
    plan = configuration.plan(state, folder=bundle / "terraform")

    changed = {
        change["address"]: change["change"]["actions"]
        for change in plan["resource_changes"]
        if change["change"]["actions"] != ["no-op"]
    }
    assert changed == {
        'google_cloudfunctions2_function.api["api"]': ["update"],
        'google_cloudfunctions2_function.workflow["uptime_check"]': ["update"],
        'google_storage_bucket_object.api_archive["api"]': ["delete", "create"],
        'google_storage_bucket_object.archive["uptime_check"]': ["delete", "create"],
    }


def bare_environment() -> dict[str, str]:
    """Nothing of this repository and its settings."""
    kept = {"HOME", "LANG", "PATH", "TMPDIR"}
    return {name: value for name, value in os.environ.items() if name in kept}


def fetch(url: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(read(url))
    return said


def read(url: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=30) as answer:
        said: bytes = answer.read()
    return said
