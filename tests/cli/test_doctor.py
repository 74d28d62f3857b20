"""``autopilot doctor``: what each check accepts, and what it does not, with tools on the PATH that the tests write."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autopilot.cli.doctor import CHECKS, Problem
from autopilot.provisioning.terraform_files import terraform_files
from autopilot.version import VERSION
from tests.cli.conftest import command_environment, write_greeting

LOCAL = ["Python", "Virtual environment", "Bundle", "Settings", "Store"]
DEPLOYMENT = [
    "gcloud",
    "Terraform",
    "Google account",
    "Application default credentials",
    "Project",
    "Requirements",
    "Terraform configuration",
    "Manifest",
]
GCLOUD = 'case "$1" in config) echo ada@example.com ;; *) echo Google Cloud SDK 999.0.0; echo bq 2.1 ;; esac'


class Machine:
    """A developer's machine on which nothing is missing: a folder with a bundle, and one that is the whole PATH."""

    def __init__(self, folder: Path) -> None:
        self.bundle = folder / "bundle"
        self.tools = folder / "sdk" / "bin"
        self.source = Path("main.py")
        self.credentials = folder / "credentials.json"
        for needed in (self.bundle / "terraform", self.tools, folder / "sdk/platform/cloud-firestore-emulator"):
            needed.mkdir(parents=True)
        write_greeting(self.bundle)
        (self.bundle / "requirements.txt").write_text("autopilot-workflows==1.0\n")
        for path, content in terraform_files().items():
            (self.bundle / "terraform" / path).parent.mkdir(exist_ok=True)
            (self.bundle / "terraform" / path).write_bytes(content)
        self.install("gcloud", GCLOUD)
        self.install("terraform", "echo Terraform v9")
        self.install("java", "exit 0")
        self.credentials.touch()
        self.variables = {
            "PATH": str(self.tools),
            "HOME": str(folder),
            "GOOGLE_APPLICATION_CREDENTIALS": str(self.credentials),
            "GOOGLE_CLOUD_PROJECT": "shop",
        }

    def install(self, name: str, script: str, *, shell: str = "/bin/sh") -> None:
        (self.tools / name).write_text(f"#!{shell}\n{script}\n")
        (self.tools / name).chmod(0o755)

    def remove(self, name: str) -> None:
        (self.tools / name).unlink()

    def autopilot(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "autopilot", *arguments],
            cwd=self.bundle,
            env=command_environment() | self.variables | variables,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    def doctor(self, *options: str, **variables: str) -> tuple[int, dict[str, Any]]:
        """The exit code, and each finding by its name."""
        ended = self.autopilot("doctor", "--json", *options, **variables)
        found = json.loads(ended.stdout)
        assert len({finding["name"] for finding in found}) == len(found)
        return ended.returncode, {finding["name"]: finding for finding in found}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """For checks in this process too: its variables and its working directory are those of the machine."""
    machine = Machine(tmp_path)
    monkeypatch.chdir(machine.bundle)
    for name in ("AUTOPILOT_STORE", "AUTOPILOT_SQLITE_PATH", "FIRESTORE_EMULATOR_HOST", "CLOUDSDK_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in machine.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "base_prefix", "/elsewhere")
    return machine


def check(name: str) -> str:
    """What the one check of this name finds."""
    (look,) = (look for known, _, look in CHECKS if known == name)
    return look(Path("main.py"))


def problem_of(name: str) -> tuple[str, str]:
    with pytest.raises(Problem) as problem:
        check(name)
    return str(problem.value), problem.value.remedy


def test_every_check_is_for_what_it_says() -> None:
    purposes = [(name, need.value) for name, need, _ in CHECKS]

    assert purposes == [
        *((name, "local") for name in LOCAL),
        *((name, "deployment") for name in DEPLOYMENT),
        ("Firestore emulator", "emulator"),
    ]


@pytest.mark.parametrize(
    ("name", "found"),
    (
        ("Python", f"{sys.version_info.major}.{sys.version_info.minor}."),
        ("Virtual environment", sys.prefix),
        ("Settings", "environment local, store sqlite"),
        ("Store", ".autopilot/autopilot.db (SQLite), created by the first run"),
        ("gcloud", "Google Cloud SDK 999.0.0"),
        ("Terraform", "Terraform v9"),
        ("Google account", "ada@example.com"),
        ("Application default credentials", "credentials.json"),
        ("Project", "shop"),
        ("Requirements", "requirements.txt"),
        ("Terraform configuration", f"terraform, that of Autopilot {VERSION}"),
        ("Firestore emulator", "platform/cloud-firestore-emulator"),
    ),
)
def test_what_is_there_is_found(machine: Machine, name: str, found: str) -> None:
    assert found in check(name)


@pytest.mark.parametrize("tool", ("gcloud", "terraform"))
@pytest.mark.parametrize(
    ("script", "shell", "reason"),
    (
        ("echo version 9; exit 7", "/bin/sh", "exit code 7"),
        ("echo version 9; echo no module named site >&2; exit 1", "/bin/sh", "no module named site"),
        ("echo version 9", "/no/such/interpreter", "No such file or directory"),
    ),
)
def test_a_tool_that_is_broken_is_not_taken_for_a_good_one(
    machine: Machine, tool: str, script: str, shell: str, reason: str
) -> None:
    machine.install(tool, script, shell=shell)

    detail, remedy = problem_of({"gcloud": "gcloud", "terraform": "Terraform"}[tool])

    assert detail == f"{machine.tools / tool} does not work: {reason}"
    assert remedy.startswith("reinstall it: https://")


def test_an_account_is_not_found_through_a_gcloud_that_is_broken(machine: Machine) -> None:
    machine.install("gcloud", "echo ada@example.com; exit 7")

    assert problem_of("Google account") == ("gcloud config get-value: exit code 7", "gcloud auth login")


def change_requirements(text: str) -> Callable[[Machine, pytest.MonkeyPatch], object]:
    return lambda machine, _: (machine.bundle / "requirements.txt").write_text(text)


@pytest.mark.parametrize(
    ("name", "damage", "detail", "remedy"),
    (
        (
            "Virtual environment",
            lambda _, patch: patch.setattr(sys, "base_prefix", sys.prefix),
            "does not run in one",
            "python3 -m venv .venv",
        ),
        ("Bundle", lambda machine, _: (machine.bundle / "main.py").unlink(), "there is no main.py", "autopilot init"),
        (
            "Settings",
            lambda _, patch: patch.setenv("AUTOPILOT_STORE", "postgres"),
            "AUTOPILOT_STORE: ",
            "change AUTOPILOT_STORE",
        ),
        ("Store", lambda _, patch: patch.setenv("AUTOPILOT_STORE", "postgres"), "AUTOPILOT_STORE: ", "unset it"),
        ("gcloud", lambda machine, _: machine.remove("gcloud"), "not installed", "https://cloud.google.com/"),
        ("Terraform", lambda machine, _: machine.remove("terraform"), "not installed", "https://developer.hashicorp"),
        (
            "Google account",
            lambda machine, _: machine.install("gcloud", "exit 0"),
            "no account is signed in",
            "gcloud auth login",
        ),
        (
            "Google account",
            lambda machine, _: machine.remove("gcloud"),
            "gcloud is not installed",
            "gcloud auth login",
        ),
        (
            "Application default credentials",
            lambda machine, _: machine.credentials.unlink(),
            "there is no /",
            "gcloud auth application-default login",
        ),
        (
            "Application default credentials",
            lambda _, patch: patch.delenv("GOOGLE_APPLICATION_CREDENTIALS"),
            "/.config/gcloud/application_default_credentials.json",
            "gcloud auth application-default login",
        ),
        ("Project", lambda _, patch: patch.delenv("GOOGLE_CLOUD_PROJECT"), "not set", "GOOGLE_CLOUD_PROJECT="),
        (
            "Requirements",
            lambda machine, _: (machine.bundle / "requirements.txt").unlink(),
            "requirements.txt",
            "list the packages",
        ),
        (
            "Requirements",
            change_requirements("httpx==1.0\nautopilot-workflows[api] @ file:///home/ada/autopilot\n"),
            "requirements.txt names a path of this machine: autopilot-workflows[api] @ file:///home/ada/autopilot",
            "use a version",
        ),
        ("Requirements", change_requirements("-e ../autopilot\n"), "a path of this machine: -e", "use a version"),
        ("Requirements", change_requirements("./wheels/shop.whl\n"), "a path of this machine: ./", "use a version"),
        (
            "Terraform configuration",
            lambda machine, _: (machine.bundle / "terraform").rename(machine.bundle / "old"),
            "there is none in terraform",
            "autopilot init . --terraform",
        ),
        ("Manifest", lambda *_: None, "there is no terraform/workflows.auto.tfvars.json", "autopilot manifest"),
        ("Firestore emulator", lambda machine, _: machine.remove("java"), "java is not installed", "install a Java"),
        ("Firestore emulator", lambda machine, _: machine.remove("gcloud"), "gcloud is not", "https://cloud.google"),
        (
            "Firestore emulator",
            lambda machine, _: (machine.tools.parent / "platform").rename(machine.tools.parent / "old"),
            "not installed",
            "gcloud components install cloud-firestore-emulator",
        ),
    ),
)
def test_what_is_missing_is_named_with_its_remedy(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    *,
    name: str,
    damage: Callable[[Machine, pytest.MonkeyPatch], object],
    detail: str,
    remedy: str,
) -> None:
    damage(machine, monkeypatch)

    found, way_out = problem_of(name)

    assert (detail in found, way_out.startswith(remedy) or remedy in way_out) == (True, True), (found, way_out)


def test_a_database_that_cannot_be_read_is_a_problem_of_the_store(machine: Machine) -> None:
    (machine.bundle / ".autopilot").mkdir()
    (machine.bundle / ".autopilot/autopilot.db").write_bytes(b"no database at all, and long enough to tell" * 40)

    detail, _ = problem_of("Store")

    assert "database" in detail


def test_a_configuration_that_was_changed_is_named_and_good_enough(machine: Machine) -> None:
    (machine.bundle / "terraform/names.tf").write_text("# mine")

    found = check("Terraform configuration")

    assert found == f"terraform, which differs from that of Autopilot {VERSION} in names.tf"


@pytest.mark.slow
def test_where_nothing_is_missing_everything_is_well(machine: Machine) -> None:
    assert machine.autopilot("manifest").returncode == 0

    code, found = machine.doctor("--deploy")

    missing = {name: finding for name, finding in found.items() if not finding["ok"]}
    assert missing.keys() <= {"Virtual environment"}, missing
    assert code == len(missing)
    assert found["Bundle"]["detail"] == "1 workflow: greet"
    assert found["Manifest"]["detail"] == "terraform/workflows.auto.tfvars.json is up to date"
    assert all(finding["remedy"] == "" for name, finding in found.items() if name not in missing)


@pytest.mark.slow
def test_what_deployment_lacks_fails_the_command_only_if_that_is_asked_for(machine: Machine) -> None:
    machine.install("gcloud", "exit 7")

    (local, _), (deployed, found) = machine.doctor(), machine.doctor("--deploy")

    assert (local, deployed) == (0 if found["Virtual environment"]["ok"] else 1, 1)
    assert not found["gcloud"]["ok"]


@pytest.mark.slow
def test_what_the_bundle_itself_does_wrong_is_said_in_its_own_words(machine: Machine) -> None:
    assert machine.autopilot("manifest").returncode == 0
    (machine.bundle / "greeting.py").write_text("def (")

    code, found = machine.doctor()

    assert code == 1
    assert "SyntaxError" in found["Bundle"]["detail"]
    assert "SyntaxError" in found["Manifest"]["detail"]
    assert {name for name in ("Bundle", "Manifest") if found[name]["ok"]} == set()


@pytest.mark.slow
def test_a_manifest_that_is_out_of_date_is_a_problem(machine: Machine) -> None:
    assert machine.autopilot("manifest").returncode == 0
    greeting = (machine.bundle / "greeting.py").read_text()
    (machine.bundle / "greeting.py").write_text(greeting.replace('name="greet"', 'name="greet", timeout_seconds=9'))

    _, found = machine.doctor()

    assert (found["Manifest"]["ok"], found["Manifest"]["remedy"]) == (False, "autopilot manifest")
    assert "terraform/workflows.auto.tfvars.json is out of date" in found["Manifest"]["detail"]


@pytest.mark.slow
def test_an_emulator_that_is_away_is_a_problem_of_the_store(machine: Machine) -> None:
    code, found = machine.doctor(AUTOPILOT_STORE="firestore", FIRESTORE_EMULATOR_HOST="127.0.0.1:1")

    assert (code, found["Store"]["ok"]) == (1, False)


@pytest.mark.slow
def test_what_is_found_is_listed_below_its_purpose_with_a_mark_and_a_remedy(machine: Machine) -> None:
    machine.remove("terraform")

    shown = machine.autopilot("doctor").stdout

    lines = shown.splitlines()
    assert lines[lines.index("For deployment") + 1 :][:3] == [
        "  ✔ gcloud: Google Cloud SDK 999.0.0",
        "  ✘ Terraform: not installed",
        "    → https://developer.hashicorp.com/terraform/install",
    ]
    assert "  ✔ Bundle: 1 workflow: greet" in lines[lines.index("On this machine") :]
    assert lines[-1].endswith("Missing for deployment: 2.")  # its manifest was never written
    assert not list((machine.bundle).glob(".autopilot/*"))
