"""``autopilot retry``, ``rerun`` and ``cancel`` on this machine, through the workflow's real function."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import command_environment

pytestmark = pytest.mark.slow

MAIN = """
from autopilot import entry_point

send = entry_point("sending:Send", name="send")
"""

SENDING = """
from pathlib import Path

from autopilot import BaseWorkflow, WorkflowManifest


class Send(BaseWorkflow):
    manifest = WorkflowManifest(name="send_mail")

    async def execute(self, ctx, payload):
        await ctx.step("fetch", self.note, "fetched")
        return await ctx.step("send", self.send)

    async def note(self, word):
        with Path("notes.txt").open("a") as notes:
            notes.write(word + " ")

    async def send(self):
        if not Path("fixed").exists():
            raise RuntimeError("the mail server is away")
        return "sent"
"""

Autopilot = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def autopilot(tmp_path: Path) -> Autopilot:
    """The command, in the folder of a bundle with a workflow that fails until it is fixed."""
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "sending.py").write_text(SENDING)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "autopilot", *arguments],
            cwd=tmp_path,
            env=command_environment(),
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    return run


def failed_run(autopilot: Autopilot) -> str:
    ended = autopilot("run", "send", "--json")
    assert ended.returncode == 1, ended.stderr
    run_id: str = json.loads(ended.stdout)["id"]
    return run_id


def test_a_failed_run_is_found_understood_and_retried_at_its_step(autopilot: Autopilot, tmp_path: Path) -> None:
    run_id = failed_run(autopilot)
    shown = autopilot("show", run_id[:8])
    logged = autopilot("logs", run_id[:8])
    still = autopilot("retry", run_id[:8])
    (tmp_path / "fixed").touch()
    retried = autopilot("retry", run_id[:8], "--json")
    again = autopilot("retry", run_id)

    assert "Failed step  send" in shown.stdout
    assert "RuntimeError: the mail server is away" in shown.stdout
    assert "Raised at    sending.py:20 in send" in shown.stdout
    assert "autopilot logs" in shown.stdout
    assert 'raise RuntimeError("the mail server is away")' in logged.stdout
    assert (still.returncode, "✘ failed" in still.stdout) == (1, True), still.stderr
    assert (retried.returncode, json.loads(retried.stdout)["status"]) == (0, "success"), retried.stderr
    assert (tmp_path / "notes.txt").read_text() == "fetched "
    assert (again.returncode, again.stderr.count("\n"), run_id in again.stderr) == (5, 1, True)


def test_every_failed_run_is_retried_or_only_listed(autopilot: Autopilot, tmp_path: Path) -> None:
    first, second = failed_run(autopilot), failed_run(autopilot)

    listed = autopilot("retry", "--failed", "--since", "2h", "--dry-run")
    in_vain = autopilot("retry", "--failed")
    (tmp_path / "fixed").touch()
    retried = autopilot("retry", "--failed", "--since", "2h", "--json")
    nothing = autopilot("retry", "--failed")

    assert (listed.returncode, "2 would be retried" in listed.stdout) == (0, True), listed.stderr
    assert (in_vain.returncode, "2 retried: 2 failed." in in_vain.stdout) == (1, True), in_vain.stderr
    assert [(each["run_id"], each["status"]) for each in json.loads(retried.stdout)] == [
        (first, "success"),
        (second, "success"),
    ]
    assert (nothing.returncode, nothing.stdout) == (0, "Nothing to retry: no failed run matches.\n")


def test_a_rerun_is_a_new_run_and_a_finished_run_cannot_be_cancelled(autopilot: Autopilot, tmp_path: Path) -> None:
    run_id = failed_run(autopilot)
    (tmp_path / "fixed").touch()

    rerun = json.loads(autopilot("rerun", run_id, "--json").stdout)
    detail = json.loads(autopilot("show", rerun["run_id"], "--json").stdout)
    cancelled = autopilot("cancel", run_id)

    assert (rerun["status"], rerun["run_id"] == run_id) == ("success", False)
    assert detail["run"]["rerun_of"] == run_id
    assert (cancelled.returncode, cancelled.stderr.count("\n")) == (5, 1)


def test_a_run_whose_workflow_is_gone_can_be_seen_and_not_acted_on(autopilot: Autopilot, tmp_path: Path) -> None:
    run_id = failed_run(autopilot)
    (tmp_path / "main.py").write_text("")

    assert autopilot("show", run_id).returncode == 0
    refused = autopilot("retry", run_id)
    assert (refused.returncode, refused.stderr) == (
        4,
        "autopilot: main.py does not define workflow send_mail, and only its own code can act on its runs\n",
    )
