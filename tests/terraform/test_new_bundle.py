"""What ``autopilot init`` makes can be deployed as it is."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import command_environment
from tests.terraform.configuration import Configuration

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A new bundle, whose Terraform configuration knows its workflows."""
    autopilot("init", "shop", folder=tmp_path)
    autopilot("manifest", folder=tmp_path / "shop")
    return tmp_path / "shop"


def autopilot(*arguments: str, folder: Path) -> None:
    command = [sys.executable, "-m", "autopilot", *arguments]
    ended = subprocess.run(
        command, cwd=folder, env=command_environment(), capture_output=True, text=True, timeout=50, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_a_new_bundle_is_valid(configuration: Configuration, bundle: Path) -> None:
    validated = configuration.terraform("validate", "-no-color", folder=bundle / "terraform")

    assert validated.returncode == 0, validated.stdout + validated.stderr


@pytest.mark.parametrize("options", ((), ("-var-file=examples/dev.tfvars",), ("-var-file=examples/prod.tfvars",)))
def test_a_new_bundle_is_planned_as_its_workflow_and_the_api(
    configuration: Configuration, bundle: Path, options: tuple[str, ...]
) -> None:
    plan = configuration.plan(*options, folder=bundle / "terraform")

    resources = plan["planned_values"]["root_module"]["resources"]
    functions = {
        resource["values"]["build_config"][0]["entry_point"]
        for resource in resources
        if resource["type"] == "google_cloudfunctions2_function"
    }
    assert functions == {"hello", "api"}
