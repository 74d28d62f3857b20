"""``autopilot manifest``: what is written, and what is refused before Terraform sees it."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from autopilot.cli.app import app
from tests.cli.conftest import Command

MAIN = "from autopilot import api_entry_point, entry_point\n"
WORKFLOW = """
from datetime import timedelta
from pydantic import BaseModel, SecretStr
from autopilot import BaseWorkflow, Schedule, WorkflowManifest


class Input(BaseModel):
    limit: int = 1


class Work(BaseWorkflow[Input, None]):
    manifest = WorkflowManifest(name={name!r}, {manifest})

    class Config(BaseModel):
        {config}

    async def execute(self, ctx, payload):
        return None
"""


class Bundle:
    """A bundle in a folder, to which workflows are added as their authors would write them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._main = MAIN
        (folder / "requirements.txt").write_text("autopilot-workflows\n")
        (folder / "jobs").mkdir()

    def add(self, name: str, manifest: str = "", *, config: str = "pass", function: str = "") -> None:
        function = function or name
        (self.folder / "jobs" / f"{function}.py").write_text(
            WORKFLOW.format(name=name, manifest=manifest, config=config)
        )
        self._main += f"{function} = entry_point('jobs.{function}:Work')\n"
        (self.folder / "main.py").write_text(self._main)

    def add_api(self, name: str = "api") -> None:
        self._main += f"{name} = api_entry_point(name={name!r})\n"
        (self.folder / "main.py").write_text(self._main)

    @property
    def variables(self) -> dict[str, Any]:
        variables: dict[str, Any] = json.loads((self.folder / "terraform" / "workflows.auto.tfvars.json").read_text())
        return variables


@pytest.fixture
def own_bundle(tmp_path: Path, fresh_imports: None) -> Bundle:
    return Bundle(tmp_path)


def manifest(bundle: Bundle, *options: str) -> Result:
    return CliRunner().invoke(app, ["manifest", "--source", str(bundle.folder / "main.py"), *options])


def test_a_manifest_becomes_terraform_variables(own_bundle: Bundle) -> None:
    own_bundle.add(
        "nightly_sync",
        "timeout_seconds=10, memory='1Gi', cpu=0.5, max_instances=2, alert_without_success_for=timedelta(days=2),"
        "secrets=('SHARED_TOKEN',), schedules=(Schedule(cron='0 3 * * *', time_zone='Europe/Vienna',"
        "payload={'limit': 5}, retries=5),)",
        config="token: SecretStr | None = None\n        source: str\n        size: int = 3",
        function="sync",
    )

    ended = manifest(own_bundle)

    assert ended.exit_code == 0, ended.output
    assert own_bundle.variables["workflows"] == {
        "nightly_sync": {
            "alert_without_success_seconds": 172800,
            "concurrency": 1,
            "cpu": "0.5",
            "description": "",
            "display_name": "nightly_sync",
            "entry_point": "sync",
            "environment": {"NIGHTLY_SYNC_SOURCE": {"required": True}, "NIGHTLY_SYNC_SIZE": {"required": False}},
            "files": ["jobs/sync.py"],
            "function_name": "nightly-sync",
            "max_instances": 2,
            "memory": "1Gi",
            "min_instances": 0,
            "schedules": {
                "default": {
                    "body": '{"limit":5}',
                    "cron": "0 3 * * *",
                    "deadline_seconds": 15,
                    "retries": 5,
                    "time_zone": "Europe/Vienna",
                }
            },
            "secrets": {"NIGHTLY_SYNC_TOKEN": {"required": False}, "SHARED_TOKEN": {"required": True}},
            "timeout_seconds": 10,
        }
    }
    assert own_bundle.variables["shared_files"] == ["main.py", "requirements.txt"]


def test_an_api_shows_every_workflow_and_ships_what_they_import(own_bundle: Bundle) -> None:
    own_bundle.add("one", function="one_job")
    own_bundle.add_api(name="desk")
    own_bundle.add("other", function="other_job")

    ended = manifest(own_bundle)

    assert ended.exit_code == 0, ended.output
    assert own_bundle.variables["api"] == {
        "entry_point": "desk",
        "files": ["jobs/one_job.py", "jobs/other_job.py"],
        "secrets": ["AUTOPILOT_API_KEY"],
        "workflows": ["one", "other"],
    }


def test_a_bundle_without_an_api_has_none(own_bundle: Bundle) -> None:
    own_bundle.add("job")

    assert manifest(own_bundle).exit_code == 0
    assert own_bundle.variables["api"] is None


def test_a_workflow_and_the_api_are_two_functions(own_bundle: Bundle) -> None:
    own_bundle.add("api", function="job")
    own_bundle.add_api()

    ended = manifest(own_bundle)

    assert ended.exit_code == 2
    assert ended.stderr == (
        "autopilot: api: name: its function (job in main.py) would be 'api', like that of API v1 (api in main.py)\n"
    )


@pytest.mark.parametrize(
    ("name", "fields", "config", "message"),
    (
        ("ends_", "", "pass", "ends_: name: 'ends-' is not a valid function name: it must end in a letter or digit"),
        ("a" * 31, "", "pass", f"{'a' * 31}: name: a function name has room for 30 characters of it, not 31"),
        ("Upper", "", "pass", "workflow job: name: 'Upper' is no workflow name: it must match [a-z][a-z0-9_]{0,62}"),
        ("job", "timeout_seconds=3601", "pass", "workflow job: timeout_seconds: Input should be less than or equal to"),
        (
            "job",
            "schedules=(Schedule(cron='every day'),)",
            "pass",
            "workflow job: schedules.cron: 'every day' is no cron expression: it must have five fields",
        ),
        (
            "job",
            "schedules=(Schedule(cron='61 * * * *'),)",
            "pass",
            "workflow job: schedules.cron: '61 * * * *' is no cron expression",
        ),
        (
            "job",
            "schedules=(Schedule(cron='* * * * *', time_zone='Mars/Olympus'),)",
            "pass",
            "workflow job: schedules.time_zone: 'Mars/Olympus' is not in the tz database",
        ),
        (
            "job",
            "schedules=(Schedule(cron='* * * * *', retries=6),)",
            "pass",
            "workflow job: schedules.retries: Input should be less than or equal to 5",
        ),
        (
            "job",
            "timeout_seconds=1801, schedules=(Schedule(name='late', cron='* * * * *'),)",
            "pass",
            "job: timeout_seconds: 1801 is over 1800, the longest deadline of a schedule (late)",
        ),
        (
            "job",
            "schedules=(Schedule(name='bad', cron='* * * * *', payload={'limit': 'many'}),)",
            "pass",
            "job: schedules.bad.payload: payload of workflow job: limit: Input should be a valid integer",
        ),
        ("job", "secrets=('JOB_TOKEN',)", "pass", "job: secrets: JOB_TOKEN is not declared: Config has no field token"),
        (
            "job",
            "secrets=('JOB_TOKEN',)",
            "token: str",
            "job: secrets: JOB_TOKEN is not declared a secret: its field in Config is not a SecretStr",
        ),
        (
            "job",
            "secrets=('AUTOPILOT_STORE',)",
            "pass",
            "job: secrets: AUTOPILOT_STORE is a name of the platform or of Autopilot itself",
        ),
        ("job", "secrets=('lower',)", "pass", "workflow job: secrets: 'lower' is no name of an environment variable"),
    ),
)
def test_what_cannot_be_provisioned_is_one_line_with_workflow_and_field(
    own_bundle: Bundle, name: str, fields: str, config: str, message: str
) -> None:
    own_bundle.add(name, fields, config=config, function="job")

    ended = manifest(own_bundle)

    assert ended.stderr.startswith(f"autopilot: {message}")
    assert (ended.exit_code, ended.stderr.count("\n")) == (2, 1)
    assert not (own_bundle.folder / "terraform").exists()


def test_two_workflows_of_one_function_name_are_refused(own_bundle: Bundle) -> None:
    own_bundle.add("feed_digest", function="first")
    own_bundle.add("feed__digest", function="second")

    ended = manifest(own_bundle)

    assert ended.exit_code == 2
    assert ended.stderr == (
        "autopilot: feed__digest: name: its function (second in main.py) would be 'feed-digest', "
        "like that of workflow feed_digest (first in main.py)\n"
    )


def test_two_workflows_that_read_one_variable_for_different_things_are_refused(own_bundle: Bundle) -> None:
    own_bundle.add("feed", config="digest_url: SecretStr")
    own_bundle.add("feed_digest", config="url: SecretStr")

    ended = manifest(own_bundle)

    assert ended.stderr.startswith(
        "autopilot: feed_digest: Config.url: workflow feed reads FEED_DIGEST_URL too; rename one of the fields"
    )


def test_a_file_that_is_out_of_date_is_shown_by_its_difference(own_bundle: Bundle) -> None:
    own_bundle.add("job")
    assert manifest(own_bundle).exit_code == 0
    assert manifest(own_bundle, "--check").exit_code == 0
    file = own_bundle.folder / "terraform" / "workflows.auto.tfvars.json"
    file.write_text(file.read_text().replace('"timeout_seconds": 540', '"timeout_seconds": 600'))
    edited = file.read_bytes()

    ended = manifest(own_bundle, "--check")

    assert ended.exit_code == 1
    assert '-      "timeout_seconds": 600\n+      "timeout_seconds": 540\n' in ended.stdout
    assert "is out of date; write it with: autopilot manifest" in ended.stderr
    assert file.read_bytes() == edited


def test_a_file_that_was_never_written_fails_the_check(own_bundle: Bundle) -> None:
    own_bundle.add("job")

    ended = manifest(own_bundle, "--check")

    assert ended.exit_code == 1
    assert "cannot be read: No such file or directory; write it with: autopilot manifest" in ended.stderr


def test_a_bundle_without_requirements_is_refused(own_bundle: Bundle) -> None:
    own_bundle.add("job")
    (own_bundle.folder / "requirements.txt").unlink()

    ended = manifest(own_bundle)

    assert (ended.exit_code, ended.stderr.count("\n")) == (2, 1)
    assert "requirements.txt: there is no such file" in ended.stderr


def test_a_workflow_that_cannot_be_imported_is_one_line(own_bundle: Bundle) -> None:
    own_bundle.add("job")
    (own_bundle.folder / "jobs" / "job.py").write_text("import absent_library\n")

    ended = manifest(own_bundle)

    assert (ended.exit_code, ended.stderr.count("\n")) == (3, 1)
    assert "workflow job cannot be imported: ModuleNotFoundError: No module named" in ended.stderr


def test_a_bundle_starts_from_main(own_bundle: Bundle) -> None:
    ended = CliRunner().invoke(app, ["manifest", "--source", str(own_bundle.folder / "app.py")])

    assert (ended.exit_code, ended.stderr.count("\n")) == (2, 1)
    assert "Cloud Functions starts functions from main.py" in ended.stderr


@pytest.mark.slow
def test_a_folder_without_workflows_is_one_line(autopilot: Command) -> None:
    ended = autopilot("manifest", "--source", "absent/main.py")

    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "there is no absent/main.py here" in ended.stderr
