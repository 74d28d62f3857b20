"""The fixtures in a project of somebody else's: in plain tests, in async tests, and what they cost who does not use them."""

import subprocess
import sys
from pathlib import Path

import pytest

WORKFLOWS = """
from autopilot import BaseWorkflow, WorkflowManifest

charges = []


class Sound(BaseWorkflow):
    manifest = WorkflowManifest(name="sound")

    async def execute(self, ctx, payload):
        return await ctx.step("double", lambda: 2 * payload.get("number", 0))


class Wrong(BaseWorkflow):
    manifest = WorkflowManifest(name="wrong")

    async def execute(self, ctx, payload):
        charges.append("tea")
        await ctx.step("note", lambda: None)
"""

PLAIN = """
import pytest

from workflows import Sound, Wrong, charges


def test_a_run(harness):
    orders = harness(Sound)
    run = orders.run({"number": 3}, identity="x")

    assert (run.status, run.result) == ("success", 6)
    assert orders.executions(run.id) == {"double": 1}
    assert orders.stats()["total"] == 1


def test_an_instance_that_is_overtaken(harness):
    orders = harness(Sound)
    paused = orders.pause({"number": 3}, identity="x", pause_at="after body double")
    orders.expire_lease()
    assert orders.run({"number": 3}, identity="x").attempt == 2
    assert paused.wake().run.attempt == 1
    assert orders.stats()["by_status"] == {"success": 1}


def test_a_matrix(crash_matrix):
    assert len(crash_matrix(Sound, {"number": 3}).points) > 10


def test_a_simulation(simulate):
    assert simulate(Sound, {"number": 3}, seeds=5).seeds == 5


def test_mistakes(crash_matrix, simulate):
    with pytest.raises(AssertionError, match="charges: 'tea'"):
        crash_matrix(Wrong, prepare=charges.clear)
    with pytest.raises(AssertionError, match="charges: 'tea'"):
        simulate(Wrong, prepare=charges.clear)
"""

ASYNC = """
from workflows import Sound


async def test_a_run(harness):
    assert (await harness(Sound).run({"number": 3})).result == 6


async def test_a_matrix(crash_matrix):
    assert len((await crash_matrix(Sound, {"number": 3})).points) > 10


async def test_a_simulation(simulate):
    assert (await simulate(Sound, {"number": 3}, seeds=5)).seeds == 5
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "workflows.py").write_text(WORKFLOWS)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )
    return tmp_path


def run_tests(project: Path, text: str, *options: str) -> str:
    (project / "test_it.py").write_text(text)
    plugins = ("-p", "no:anyio", "-p", "no:schemathesis", "-p", "no:randomly", "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugins, *options],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.slow
def test_plain_tests_need_no_other_plugin(project: Path) -> None:
    (project / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")

    assert "5 passed" in run_tests(project, PLAIN, "-p", "no:asyncio")


@pytest.mark.slow
def test_async_tests_await_what_the_fixtures_give(project: Path) -> None:
    assert "3 passed" in run_tests(project, ASYNC)


def test_who_uses_no_fixture_loads_nothing_of_autopilot() -> None:
    program = (
        "import sys, autopilot.pytest_plugin; print([name for name in sys.modules if name.startswith('autopilot')])"
    )
    heavy = "import sys, autopilot.pytest_plugin; print({'pydantic', 'structlog', 'sqlite3'} & set(sys.modules))"
    loaded = [
        subprocess.run([sys.executable, "-c", each], capture_output=True, text=True, check=True).stdout.strip()
        for each in (program, heavy)
    ]

    assert loaded == ["['autopilot', 'autopilot.pytest_plugin']", "set()"]
