"""The committed Terraform variables agree with the code and with their declared types."""

import json
import subprocess
import sys
from typing import Any

import hcl2
import pytest

from tests.cli.conftest import command_environment
from tests.terraform.configuration import FOLDER, ROOT, Configuration
from tests.terraform.type_expression import misfits, parse_type

COMMITTED = FOLDER / "workflows.auto.tfvars.json"


def typed_variables() -> dict[str, str]:
    with (FOLDER / "variables.tf").open() as file:
        parsed: dict[str, Any] = hcl2.load(file)
    return {name.strip('"'): body["type"] for variable in parsed["variable"] for name, body in variable.items()}


def test_the_committed_file_is_byte_for_byte_what_the_code_says() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "autopilot", "manifest", "--check"],
        cwd=ROOT,
        env=command_environment(),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("file", ("workflows.auto.tfvars.json", "tests/bundle.auto.tfvars.json"))
def test_terraform_drops_none_of_the_keys_and_misses_none(file: str) -> None:
    types = typed_variables()
    variables = json.loads((FOLDER / file).read_text())

    found = [misfit for name, value in variables.items() for misfit in misfits(value, parse_type(types[name]), name)]

    assert found == []


def test_a_key_that_terraform_would_drop_is_found() -> None:
    declared = parse_type("${map(object({timeout_seconds = number, paused = optional(bool, false)}))}")

    found = misfits({"a": {"timeout_secs": 1, "paused": "no"}}, declared, "workflows")

    assert found == [
        "workflows[a].timeout_seconds: not in both",
        "workflows[a].timeout_secs: not in both",
        "workflows[a].paused: 'no' is no bool",
    ]


def test_the_generated_file_says_nothing_of_an_environment() -> None:
    variables = json.loads(COMMITTED.read_text())

    assert set(variables) == {"api", "firestore", "shared_files", "workflows"}
    assert not set(variables) & {"project_id", "region", "environment"}


@pytest.mark.slow
def test_a_value_that_cannot_work_is_refused_in_words(configuration: Configuration) -> None:
    planned = configuration.terraform(
        "plan",
        "-input=false",
        "-no-color",
        "-var=project_id=123",
        "-var=environment=Production",
        '-var=invokers=["allUsers"]',
        '-var=notification_channels=["ops@example.com"]',
        '-var=dashboard_members=["allUsers"]',
        '-var=api_cors_origins=["*"]',
        '-var=overrides={"absent": {}}',
        '-var=secret_versions={"ABSENT": "1"}',
    )

    said = " ".join(planned.stderr.replace("│", " ").split())
    assert planned.returncode == 1
    for words in (
        "project_id: the id of a project",
        "environment: 1 to 8 lower-case letters and digits",
        "invokers: each is a user:, group:, serviceAccount:, principal: or principalSet:. Workflow functions are never",
        "dashboard_members: each is a user:, group:, serviceAccount:, principal: or principalSet:. Everybody is let in by",
        "api_cors_origins: each is a scheme and a host",
        "notification_channels: each is the full name of a channel",
        "overrides: unknown workflow absent; there are feed_digest, uptime_check.",
        "secret_versions: no workflow declares ABSENT",
    ):
        assert words in said


@pytest.mark.slow
def test_an_api_without_a_key_is_not_made_public_and_why_is_said(configuration: Configuration) -> None:
    planned = configuration.terraform(
        "plan", "-input=false", "-no-color", "-var=project_id=my-project", "-var=api_public=true"
    )

    said = " ".join(planned.stderr.replace("│", " ").split())
    assert planned.returncode == 1
    assert (
        "api_public: without a key, everybody could read and start everything. Add a version to the secret of" in said
    )
