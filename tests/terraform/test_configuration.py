"""The configuration as a whole, under the real terraform binary."""

import itertools
import os
import shutil
import subprocess

import pytest

from tests.terraform.configuration import FOLDER, Configuration

pytestmark = pytest.mark.timeout(600)


def test_it_is_formatted() -> None:
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed")

    formatted = subprocess.run(
        ["terraform", "fmt", "-check", "-diff", "-recursive", str(FOLDER)], capture_output=True, text=True, check=False
    )

    assert formatted.returncode == 0, formatted.stdout + formatted.stderr


@pytest.mark.slow
def test_it_is_valid(configuration: Configuration) -> None:
    validated = configuration.validate()

    assert validated.returncode == 0, validated.stdout + validated.stderr


@pytest.mark.slow
def test_its_own_tests_pass(configuration: Configuration) -> None:
    tested = configuration.test()

    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "0 failed" in tested.stdout


@pytest.mark.slow
def test_it_applies_once_and_leaves_nothing_to_do_and_nothing_behind(configuration: Configuration) -> None:
    if not configuration.is_offline:
        pytest.skip("an apply needs the offline stand-in: without it, this would be a real project")

    applied = configuration.apply_twice_and_destroy("-var=project_id=my-project", "-var=environment=dev")

    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert "No changes." in applied.stdout
    assert "Destroy complete!" in applied.stdout


@pytest.mark.slow
@pytest.mark.parametrize("environment", ("dev", "prod"))
def test_the_examples_can_be_planned(configuration: Configuration, environment: str) -> None:
    plan = configuration.plan(f"-var-file=examples/{environment}.tfvars")

    assert plan["variables"]["environment"]["value"] == environment


@pytest.mark.slow
def test_checkov_finds_nothing_and_every_skip_is_needed() -> None:
    checkov = os.environ.get("CHECKOV") or shutil.which(
        "checkov", path=f"{FOLDER.parent}/.venv-checkov/bin:{os.environ['PATH']}"
    )
    if checkov is None:
        pytest.skip("checkov is not installed; `make checkov` does it")

    command = [checkov, "--directory", str(FOLDER), "--framework", "terraform", "--compact", "--skip-download"]
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    scanned = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=environment)

    skips = sum(file.read_text().count("#checkov:skip=") for file in FOLDER.glob("*.tf"))
    assert scanned.returncode == 0, scanned.stdout + scanned.stderr
    assert "Failed checks: 0" in scanned.stdout
    assert len(skipped_checks(scanned.stdout)) == skips


def skipped_checks(report: str) -> set[tuple[str, str]]:
    """The checks that were skipped and would fail: the id of each, and the resource less its index."""
    lines = report.splitlines()
    return {
        (line.split(":")[1].strip(), below.split(":")[1].strip().partition("[")[0])
        for line, below in itertools.pairwise(lines)
        if line.startswith("Check: ") and "SKIPPED for resource" in below
    }
