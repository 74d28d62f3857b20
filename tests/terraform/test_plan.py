"""What is made in an empty project."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from autopilot.api.actions import START_SECONDS
from autopilot.api.events import MARGIN_SECONDS, MAX_STREAM_SECONDS
from autopilot.api.writes import MAX_WAIT_SECONDS
from autopilot.function.trigger import SCHEDULE_HEADER
from autopilot.settings import load_settings
from autopilot.storage.firestore.documents import COLLECTIONS
from tests.terraform import inventory
from tests.terraform.configuration import FOLDER, ROOT, Configuration

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Plan = dict[str, Any]

VARIABLES: dict[str, Any] = json.loads((FOLDER / "workflows.auto.tfvars.json").read_text())
WORKFLOWS: dict[str, Any] = VARIABLES["workflows"]
API: dict[str, Any] = VARIABLES["api"]


def planned(plan: Plan, kind: str) -> dict[str, dict[str, Any]]:
    """The resources of one kind, by address."""
    resources = plan["planned_values"]["root_module"]["resources"]
    return {resource["address"]: resource["values"] for resource in resources if resource["type"] == kind}


def test_a_plan_is_what_was_reviewed(configuration: Configuration, test_bundle_plan: Plan) -> None:
    found = inventory.inventory_of(test_bundle_plan)
    reviewed = json.loads(inventory.FILE.read_text())

    # The stand-in knows fewer defaults of the provider than the provider: with that, more may be there.
    differences = list(differing(reviewed, found, "", may_have_more=not configuration.is_offline))
    assert not differences, "if this is meant: python -m tests.terraform.inventory\n" + "\n".join(differences)


def differing(reviewed: Any, found: Any, place: str, *, may_have_more: bool) -> list[str]:
    if isinstance(reviewed, dict) and isinstance(found, dict):
        differences = [f"{place}: {key} is missing" for key in reviewed.keys() - found.keys()]
        if not may_have_more or place in {"", ".resources", ".waits_for", ".written"}:
            differences += [f"{place}: {key} is new: {found[key]!r}" for key in found.keys() - reviewed.keys()]
        for key in sorted(reviewed.keys() & found.keys()):
            differences += differing(reviewed[key], found[key], f"{place}.{key}", may_have_more=may_have_more)
        return differences
    if isinstance(reviewed, list) and isinstance(found, list) and len(reviewed) == len(found):
        pairs = enumerate(zip(reviewed, found, strict=True))
        return [
            difference
            for index, (before, after) in pairs
            for difference in differing(before, after, f"{place}[{index}]", may_have_more=may_have_more)
        ]
    return [] if reviewed == found else [f"{place}: {reviewed!r} is now {found!r}"]


def test_nobody_has_a_role_that_is_not_listed_here(own_plan: Plan) -> None:
    account = {name: f"serviceAccount:{values['account_id']}" for name, values in accounts(own_plan).items()}
    build = account["build"]
    sources = ("google_storage_bucket_iam_member", "my-project-autopilot-prod-sources")
    images = ("google_artifact_registry_repository_iam_member", None)
    expected = {
        (*sources, "roles/storage.objectViewer", build, None),
        (*images, "roles/artifactregistry.writer", build, None),
        ("google_project_iam_member", "my-project", "roles/logging.logWriter", build, None),
        (
            "google_project_iam_member",
            "my-project",
            "roles/storage.objectViewer",
            build,
            'resource.name.startsWith("projects/_/buckets/gcf-v2-sources-")',
        ),
    }
    invoker = ("google_cloud_run_v2_service_iam_member",)
    reader = ("google_secret_manager_secret_iam_member",)
    only_its_database = 'resource.name == "projects/my-project/databases/autopilot-prod"'
    api_key = "autopilot-prod-autopilot-api-key"
    expected |= {
        ("google_project_iam_member", "my-project", "roles/datastore.user", account["api"], only_its_database),
        (*reader, api_key, "roles/secretmanager.secretAccessor", account["api"], None),
    }
    for name, workflow in WORKFLOWS.items():
        member, service = account[name], f"autopilot-prod-{workflow['function_name']}"
        expected.add(("google_project_iam_member", "my-project", "roles/datastore.user", member, only_its_database))
        for variable in workflow["secrets"]:
            secret = f"autopilot-prod-{variable.lower().replace('_', '-')}"
            expected.add((*reader, secret, "roles/secretmanager.secretAccessor", member, None))
        expected.add((*invoker, service, "roles/run.invoker", account["api"], None))
        if workflow["schedules"]:
            expected.add((*invoker, service, "roles/run.invoker", account["scheduler"], None))

    assert grants(own_plan) == expected


def test_the_public_is_let_in_to_the_api_when_that_is_said_and_to_nothing_else(configuration: Configuration) -> None:
    plan = configuration.plan(
        "-var=api_public=true",
        '-var=secret_versions={"AUTOPILOT_API_KEY": "1"}',
        '-var=invokers=["user:a@example.com"]',
    )

    public = [grant for grant in grants(plan) if grant[3].startswith("all")]
    assert public == [
        ("google_cloud_run_v2_service_iam_member", "autopilot-prod-api", "roles/run.invoker", "allUsers", None)
    ]


def test_the_public_is_named_at_one_place() -> None:
    named = re.findall(r"allUsers|allAuthenticatedUsers", re.sub(r'error_message = ".*"', "", _text_of_all()))

    assert named == ["allUsers"]
    assert re.search(r'"api_public" \{(?:(?!\n\}).)*allUsers', (FOLDER / "api.tf").read_text(), re.DOTALL)


def test_nobody_is_let_in_before_the_function_has_its_key(test_bundle_plan: Plan) -> None:
    configured = test_bundle_plan["configuration"]["root_module"]["resources"]
    services = {resource["address"]: resource["expressions"].get("name", {}) for resource in configured}

    # The function's own name, and not the same text: with it, the binding waits for the function.
    for binding in ("api_public", "dashboard_member"):
        waits_for = services[f"google_cloud_run_v2_service_iam_member.{binding}"]["references"]
        assert any(reference.startswith("google_cloudfunctions2_function.api") for reference in waits_for)


def accounts(plan: Plan) -> dict[str, dict[str, Any]]:
    """Service accounts, by workflow or by what they do."""
    found = planned(plan, "google_service_account")
    return {re.sub(r'.*\["(.*)"\]|.*\.(\w+)', r"\1\2", address): values for address, values in found.items()}


def grants(plan: Plan) -> set[tuple[str, str | None, str, str, str | None]]:
    """Every grant: its kind, what it is on, the role, who has it, under which condition."""
    found = set()
    for resource in plan["planned_values"]["root_module"]["resources"]:
        if "_iam_" not in resource["type"]:
            continue
        values = resource["values"]
        scope = next((values[key] for key in ("name", "bucket", "repository", "secret_id") if values.get(key)), None)
        if resource["type"] == "google_project_iam_member":
            scope = values["project"]
        condition = values["condition"][0]["expression"] if values.get("condition") else None
        member = values["member"].removesuffix("@my-project.iam.gserviceaccount.com")
        found.add((resource["type"], scope, values["role"], member, condition))
    return found


def test_each_function_is_an_account_of_its_own(own_plan: Plan) -> None:
    functions = planned(own_plan, "google_cloudfunctions2_function")
    used = {
        re.sub(r'.*\["(.*)"\]', r"\1", address): values["service_config"][0]["service_account_email"]
        for address, values in functions.items()
    }

    assert used == {name: accounts(own_plan)[name]["email"] for name in ("api", *WORKFLOWS)}
    assert len(set(used.values())) == len(functions)


def test_every_collection_that_expires_has_its_ttl_and_none_is_indexed_field_by_field(own_plan: Plan) -> None:
    fields = planned(own_plan, "google_firestore_field").values()
    expiring = {(field["collection"], field["field"]) for field in fields if field["ttl_config"]}
    unindexed = {field["collection"] for field in fields if field["field"] == "*" and not indexes_of(field)}

    assert expiring == {(collection.name, collection.expires_by) for collection in COLLECTIONS if collection.expires_by}
    assert unindexed == {collection.name for collection in COLLECTIONS}
    assert {field["database"] for field in fields} == {"autopilot-prod"}


def indexes_of(field: dict[str, Any]) -> list[Any]:
    indexes: list[Any] = field["index_config"][0]["indexes"] if field["index_config"][0] else []
    return indexes


def test_an_archive_holds_what_the_manifest_lists_and_nothing_else(own_plan: Plan) -> None:
    for name, files in archived(own_plan).items():
        assert set(files) == {*VARIABLES["shared_files"], *(API if name == "api" else WORKFLOWS[name])["files"]}
        assert all(content == (ROOT / file).read_text() for file, content in files.items())


def archived(plan: Plan) -> dict[str, dict[str, str]]:
    """The files of each workflow's archive and of the API's ("api"), as Terraform read them."""
    resources = plan["prior_state"]["values"]["root_module"]["resources"]
    return {
        resource["index"]: {source["filename"]: source["content"] for source in resource["values"]["source"]}
        for resource in resources
        if resource["type"] == "archive_file"
    }


def test_every_archive_holds_autopilot_and_none_holds_its_tools(own_plan: Plan) -> None:
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "autopilot").rglob("*") if is_source(path)}
    tools = (
        "autopilot/__main__.py",
        *(f"autopilot/{tool}/" for tool in ("cli", "development", "provisioning", "testing")),
    )

    for files in archived(own_plan).values():
        assert {file for file in files if file.startswith("autopilot/")} == {
            file for file in package if not file.startswith(tools)
        }


def test_only_the_archive_of_the_api_holds_the_modules_of_several_workflows(own_plan: Plan) -> None:
    modules = {f"functions/{name}.py" for name in WORKFLOWS}
    held = {name: modules & set(files) for name, files in archived(own_plan).items()}

    assert held == {"api": modules} | {name: {f"functions/{name}.py"} for name in WORKFLOWS}


def is_source(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


# What the configuration repeats of the code and of the documents


def test_the_api_has_time_for_its_longest_answers(own_plan: Plan) -> None:
    api = planned(own_plan, "google_cloudfunctions2_function")['google_cloudfunctions2_function.api["api"]']

    assert (
        api["service_config"][0]["timeout_seconds"]
        > max(MAX_STREAM_SECONDS, MAX_WAIT_SECONDS + START_SECONDS) + MARGIN_SECONDS
    )


def test_the_api_has_its_key_where_it_looks(configuration: Configuration) -> None:
    plan = configuration.plan('-var=secret_versions={"AUTOPILOT_API_KEY": "1"}')
    api = planned(plan, "google_cloudfunctions2_function")['google_cloudfunctions2_function.api["api"]']
    variables = {secret["key"]: "k" * 16 for secret in api["service_config"][0]["secret_environment_variables"]}

    assert load_settings(variables).api_key is not None


def test_alerts_look_for_events_that_are_logged() -> None:
    looked_for = set(re.findall(r'jsonPayload\.message=\\"(\w+)\\"', (FOLDER / "monitoring.tf").read_text()))
    recorder = (ROOT / "autopilot" / "core" / "recorder.py").read_text()

    assert looked_for == {"workflow_run_completed", "run_log_persist_failed"}
    assert all(f'"{event}"' in recorder for event in looked_for)


def test_alerts_lead_to_sections_of_the_runbook() -> None:
    linked = set(re.findall(r"docs/deploying\.md#([\w-]+)", (FOLDER / "monitoring.tf").read_text()))
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / "deploying.md").read_text(), re.MULTILINE)

    assert len(linked) == 3
    assert linked <= {heading.lower().replace(" ", "-") for heading in headings}


def test_a_function_is_given_settings_that_it_reads(own_plan: Plan) -> None:
    for function in planned(own_plan, "google_cloudfunctions2_function").values():
        settings = load_settings({"K_SERVICE": "x", **function["service_config"][0]["environment_variables"]})

        assert (settings.store, settings.firestore_database) == ("firestore", "autopilot-prod")
        assert (settings.environment, settings.project) == ("prod", "my-project")


def test_a_job_says_which_schedule_it_is_where_the_function_looks(own_plan: Plan) -> None:
    jobs = planned(own_plan, "google_cloud_scheduler_job").values()
    headers = [{name.lower(): value for name, value in job["http_target"][0]["headers"].items()} for job in jobs]

    named = {header[SCHEDULE_HEADER] for header in headers}
    assert named == {schedule for workflow in WORKFLOWS.values() for schedule in workflow["schedules"]}


def test_every_variable_and_output_is_in_the_readme() -> None:
    readme = (FOLDER / "README.md").read_text()
    declared = re.findall(r'^(?:variable|output) "(\w+)"', _text_of("variables.tf", "outputs.tf"), re.MULTILINE)

    assert [name for name in declared if f"`{name}`" not in readme] == []
    assert [file.name for file in FOLDER.glob("*.tf") if f"`{file.name}`" not in readme] == [
        file.name for file in FOLDER.glob("*.tf") if file.name in {"outputs.tf", "variables.tf", "versions.tf"}
    ]


def test_no_output_is_hidden_since_none_holds_a_secret(test_bundle_plan: Plan) -> None:
    outputs = test_bundle_plan["configuration"]["root_module"]["outputs"]

    assert [name for name, output in outputs.items() if output.get("sensitive")] == []


def test_documents_name_variables_and_outputs_that_there_are() -> None:
    documents = [FOLDER / "README.md", *(ROOT / "docs").glob("*.md")]
    text = "\n".join(document.read_text() for document in documents)
    outputs = set(re.findall(r"terraform output (?:-\w+ )*(\w+)", text))
    variables = set(re.findall(r"-var[= ]'?(\w+)=", text))

    assert {"dashboard_command", "invoke_commands"} <= outputs
    assert outputs <= set(re.findall(r'^output "(\w+)"', _text_of("outputs.tf"), re.MULTILINE))
    assert {"api_public", "dashboard_members"} <= variables
    assert variables <= set(re.findall(r'^variable "(\w+)"', _text_of("variables.tf"), re.MULTILINE))


def _text_of_all() -> str:
    return _text_of(*(file.name for file in FOLDER.glob("*.tf")))


def _text_of(*files: str) -> str:
    return "\n".join((FOLDER / file).read_text() for file in files)
