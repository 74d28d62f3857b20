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
import asyncio
from datetime import timedelta
from pathlib import Path

from autopilot import BaseWorkflow, WorkflowManifest


class Send(BaseWorkflow):
    manifest = WorkflowManifest(name="send_mail")

    async def execute(self, ctx, payload):
        await ctx.step("fetch", self.note, "fetched")
        if order := payload.get("order"):
            limit = timedelta(milliseconds=50)
            return await ctx.step("pay", self.pay, key=order, semantics="at_most_once", timeout=limit)
        return await ctx.step("send", self.send)

    async def note(self, word):
        with Path("notes.txt").open("a") as notes:
            notes.write(word + " ")

    async def pay(self):
        await self.note("paid")
        if not Path("fixed").exists():
            await asyncio.Event().wait()
        return "paid"

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


def failed_run(autopilot: Autopilot, payload: str = "{}") -> str:
    ended = autopilot("run", "send", "--payload", payload, "--json")
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
    assert "Raised at    sending.py:31 in send" in shown.stdout
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


def test_an_interrupted_step_runs_again_only_when_it_is_named(autopilot: Autopilot, tmp_path: Path) -> None:
    run_id = failed_run(autopilot, '{"order": "no. 7"}')
    (tmp_path / "fixed").touch()
    command = f"autopilot retry {run_id} --again-interrupted 'pay[no. 7]'"

    refused = autopilot("retry", run_id[:8])
    other = autopilot("retry", run_id, "--again-interrupted", "fetch")
    notes_before = (tmp_path / "notes.txt").read_text()
    confirmed = autopilot("retry", run_id[:8], "--again-interrupted", "pay[no. 7]", "--json")

    assert (refused.returncode, other.returncode) == (5, 5)
    assert refused.stderr == (
        f"autopilot: run {run_id} was not retried, because these steps may already have taken effect: pay[no. 7]. "
        f"Check whether they did, then type\n  {command}\n"
    )
    assert notes_before == "fetched paid "
    assert (confirmed.returncode, json.loads(confirmed.stdout)["status"]) == (0, "success"), confirmed.stderr
    assert (tmp_path / "notes.txt").read_text() == "fetched paid paid "


def test_runs_with_an_interrupted_step_are_left_when_all_are_retried(autopilot: Autopilot, tmp_path: Path) -> None:
    interrupted = failed_run(autopilot, '{"order": "7"}')
    plain = failed_run(autopilot)
    (tmp_path / "fixed").touch()

    retried = autopilot("retry", "--failed")
    as_json = autopilot("retry", "--failed", "--json")

    assert retried.returncode == 1
    assert retried.stdout.splitlines() == [
        f"{interrupted}  send_mail  not retried: a step may already have taken effect",
        f"{plain}  send_mail  ✔ success",
        "1 retried: 1 success. 1 not retried.",
        "",
        "Steps of these runs may already have taken effect. Check whether they did, then type",
        f"  autopilot retry {interrupted} --again-interrupted 'pay[7]'",
    ]
    assert (tmp_path / "notes.txt").read_text() == "fetched paid fetched "
    (outcome,) = json.loads(as_json.stdout)
    assert (outcome["run_id"], outcome["status"], outcome["interrupted"]) == (interrupted, None, ["pay[7]"])


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
