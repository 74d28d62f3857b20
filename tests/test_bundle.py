"""main.py is the whole truth about a bundle: who reads it sees the same."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from autopilot.bundle import load_bundle
from autopilot.development.function_server import FunctionServer
from autopilot.errors import SourceInvalid, WorkflowInvalid
from tests.cli.conftest import command_environment
from tests.cli.test_dev import Dev

IMPORTS = "from autopilot import api_entry_point, entry_point\n"
API = "api = api_entry_point()\n"
WORKFLOW = """
from autopilot import BaseWorkflow, Schedule, WorkflowManifest


class Work(BaseWorkflow):
    manifest = WorkflowManifest(name="{name}", {manifest})

    async def execute(self, ctx, payload):
        return None
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, fresh_imports: None) -> Write:
    """Write a bundle: the lines of main.py, and a module ``jobs.NAME`` for each further name; gives main.py."""

    def write(*lines: str, **modules: str) -> Path:
        (tmp_path / "jobs").mkdir()
        for name, text in modules.items():
            (tmp_path / "jobs" / f"{name}.py").write_text(text)
        main = tmp_path / "main.py"
        main.write_text(IMPORTS + "".join(lines))
        return main

    return write


def line(name: str) -> str:
    return f'{name} = entry_point("jobs.{name}:Work")\n'


def workflow(name: str, manifest: str = "") -> str:
    return WORKFLOW.format(name=name, manifest=manifest)


def test_a_workflow_is_a_module_and_one_line(write: Write) -> None:
    source = write(line("sync"), line("digest"), digest=workflow("news_digest"), sync=workflow("sync"))

    bundle = load_bundle(source)

    assert {name: (each.__module__, each.manifest.name) for name, each in bundle.workflows.items()} == {
        "digest": ("jobs.digest", "news_digest"),
        "sync": ("jobs.sync", "sync"),
    }
    assert (bundle.folder, bundle.api, bundle.errors) == (source.parent, None, {})


def test_main_is_a_module_that_lives_on(write: Write) -> None:
    source = write(line("sync"), "LIMIT = 3\ndef limit():\n    import jobs.late\n    return LIMIT, jobs.late.X\n")
    (source.parent / "jobs" / "late.py").write_text("X = 4\n")

    load_bundle(source)

    main = sys.modules["main"]
    assert (main.__name__, main.__file__, main.limit()) == ("main", str(source), (3, 4))


def test_a_workflow_that_cannot_be_loaded_leaves_the_others(write: Write) -> None:
    source = write(
        *(line(name) for name in ("broken", "absent", "invalid", "late", "sync", "other")),
        'classless = entry_point("jobs.sync:Sync", name="classless")\n',
        API,
        broken="import absent_library\n",
        invalid=workflow("sync", "timeout_seconds=3601"),
        late=workflow("late", "schedules=(Schedule(cron='every day'),)"),
        sync=workflow("sync"),
        other=workflow("other").replace("async def execute", "async def run_it"),
    )

    bundle = load_bundle(source)

    errors = {name: (type(error), getattr(error, "reason", str(error))) for name, error in bundle.errors.items()}
    assert (list(bundle.workflows), bundle.api) == (["sync"], "api")
    assert errors == {
        "absent": (WorkflowInvalid, "there is no module jobs.absent"),
        "broken": (ModuleNotFoundError, "No module named 'absent_library'"),
        "classless": (WorkflowInvalid, "jobs.sync has no workflow class Sync"),
        "invalid": (WorkflowInvalid, "timeout_seconds: Input should be less than or equal to 3600"),
        "late": (
            WorkflowInvalid,
            "schedules.cron: 'every day' is no cron expression: it must have five fields, as in '*/15 * * * *'",
        ),
        "other": (WorkflowInvalid, "it needs 'async def execute(self, ctx, payload)'"),
    }


def test_two_functions_of_one_workflow_name_are_one_too_many(write: Write) -> None:
    bundle = load_bundle(write(line("first"), line("second"), first=workflow("sync"), second=workflow("sync")))

    assert list(bundle.workflows) == ["first"]
    assert str(bundle.errors["second"]) == "jobs.second:Work: name: 'sync' is the workflow of function first too"


@pytest.mark.parametrize(
    ("lines", "message"),
    (
        (
            'check = entry_point("jobs.sync:Work")\n',
            "main.py: check is a function named 'sync'; pass name='check', or rename the variable",
        ),
        (
            "desk = api_entry_point()\n",
            "main.py: desk is a function named 'api'; pass name='desk', or rename the variable",
        ),
        (
            f'{API}desk = api_entry_point(name="desk")\n',
            "main.py: api and desk are made with api_entry_point(); one is enough",
        ),
        (
            "from jobs.apis import api\n",
            "main.py: api was made in jobs.apis, whose workflows it serves: call api_entry_point() here",
        ),
    ),
)
def test_functions_that_could_not_be_deployed_as_written_are_refused(write: Write, lines: str, message: str) -> None:
    source = write(lines, sync=workflow("sync"), apis=IMPORTS + API)

    with pytest.raises(SourceInvalid) as caught:
        load_bundle(source)

    assert str(caught.value) == message


def test_functions_can_be_defined_in_a_loop(write: Write) -> None:
    source = write(
        API,
        'for name in ("sync", "digest"):\n    globals()[name] = made = entry_point(f"jobs.{name}:Work")\n',
        sync=workflow("sync"),
        digest=workflow("digest"),
    )

    bundle = load_bundle(source)

    assert (list(bundle.workflows), bundle.api, bundle.errors) == (["digest", "sync"], "api", {})


def test_what_main_raises_is_raised(write: Write) -> None:
    with pytest.raises(ZeroDivisionError):
        load_bundle(write("1 / 0\n"))


NAMES_SHOWN_BY_THE_API = """
import asyncio
import sys
from pathlib import Path

import httpx
from functions_framework.aio import create_asgi_app

transport = httpx.ASGITransport(create_asgi_app("api", "main.py", "http"))


async def names():
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        shown = (await client.get("/api/v1/workflows")).json()
    return sorted(workflow["name"] for workflow in shown["workflows"])


print(*asyncio.run(names()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("position", (0, 1, 2), ids=("above", "between", "below"))
def test_the_api_shows_every_workflow_wherever_its_line_stands(write: Write, position: int) -> None:
    lines = [line("first"), line("second")]
    lines.insert(position, API)
    source = write(*lines, first=workflow("first"), second=workflow("second"))

    ended = python(source.parent, "-c", NAMES_SHOWN_BY_THE_API)

    assert ended.stdout.splitlines() == ["first second"], ended.stderr


@pytest.mark.slow
def test_the_api_logs_a_workflow_that_cannot_be_loaded_and_shows_the_others(write: Write) -> None:
    source = write(line("broken"), line("sync"), API, broken="import absent_library\n", sync=workflow("sync"))

    ended = python(source.parent, "-c", NAMES_SHOWN_BY_THE_API)

    logged, *_, shown = ended.stdout.splitlines()
    assert "workflow_not_loaded" in logged
    assert "function=broken" in logged
    assert "No module named 'absent_library'" in ended.stdout
    assert shown == "sync"


@pytest.mark.slow
def test_the_api_of_a_main_that_cannot_be_deployed_says_why_as_every_error_is_said(write: Write) -> None:
    source = write('check = entry_point("jobs.sync:Work")\n', API, sync=workflow("sync"))
    shown = NAMES_SHOWN_BY_THE_API.replace('(await client.get("/api/v1/workflows")).json()', 'await client.get("/")')
    code = shown.replace(
        'sorted(workflow["name"] for workflow in shown["workflows"])', "(shown.status_code, shown.text)"
    )

    ended = python(source.parent, "-c", code)

    logged, answer = ended.stdout.splitlines()
    status, _, body = answer.partition(" ")
    assert "request_failed" in logged
    assert (status, json.loads(body)["error"]["code"]) == ("503", "configuration_error")
    assert "check is a function named 'sync'" in body


@pytest.mark.slow
def test_one_line_is_enough_for_the_api_dev_doctor_and_the_manifest(write: Write) -> None:
    source = write(line("sync"), API, line("digest"), digest=workflow("news_digest"), sync=workflow("sync"))
    (source.parent / "requirements.txt").write_text("autopilot-workflows\n")

    with FunctionServer("api", source=source, env={"AUTOPILOT_SQLITE_PATH": str(source.parent / "runs.db")}) as api:
        served = names_at(api.url)
    dev = Dev(source.parent)
    try:
        dev.read_until("Ctrl-C stops it")
        developed, answer = names_at(dev.url), dev.ask("GET", "/digest")
    finally:
        dev.end(signal.SIGTERM)
    doctor = python(source.parent, "-m", "autopilot", "doctor", "--json")
    written = python(source.parent, "-m", "autopilot", "manifest")
    variables = json.loads((source.parent / "terraform" / "workflows.auto.tfvars.json").read_text())

    assert served == developed == ["news_digest", "sync"]
    assert answer[0] == 200
    assert "2 workflows: news_digest, sync" in doctor.stdout
    assert written.returncode == 0, written.stderr
    assert sorted(variables["workflows"]) == variables["api"]["workflows"] == ["news_digest", "sync"]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", (("manifest",), ("run", "check"), ("serve", "check")))
def test_a_function_of_another_name_is_one_line_of_every_command(write: Write, arguments: tuple[str, ...]) -> None:
    source = write('check = entry_point("jobs.sync:Work")\n', sync=workflow("sync"))

    ended = python(source.parent, "-m", "autopilot", *arguments)

    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "check is a function named 'sync'" in ended.stderr


def names_at(url: str) -> list[str]:
    with httpx.Client(trust_env=False) as client:
        shown = client.get(f"{url}/api/v1/workflows", timeout=20).json()
    return sorted(workflow["name"] for workflow in shown["workflows"])


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=command_environment(),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
