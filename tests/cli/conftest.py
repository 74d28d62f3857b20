"""A bundle whose functions answer as the HTTP contract says, and the command as a process in its folder."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BUNDLE = '''
import json, os
import functions_framework

RUN = {
    "id": "run-1", "workflow_id": "greet", "status": "success", "trigger_type": "http",
    "started_at": "2026-01-02T03:04:05Z", "completed_at": "2026-01-02T03:04:06Z", "duration_ms": 42,
}
ERRORS = {
    "refuse": (422, "payload of workflow greet: name: Field required"),
    "unconfigured": (503, "configuration of workflow greet: key: Field required (set GREET_KEY)"),
}


@functions_framework.http
def greet(request):
    if request.path == "/runs/run-1":
        return RUN
    if request.method == "GET":
        return {"manifest": {}, "total_runs": 1203, "success_rate": 99.8, "last_run": RUN,
                "by_status": {"success": 1200, "failed": 3}}
    payload = request.get_json(silent=True) or {}
    asked = payload.get("do", "")
    headers = {"Autopilot-Run-Id": "run-1", "Autopilot-Persisted": "false" if asked == "forget" else "true"}
    if asked in ERRORS:
        status, message = ERRORS[asked]
        return {"error": {"code": asked, "message": message, "details": []}}, status
    if asked == "die":
        os._exit(3)
    if asked == "fail":
        print("what the function logged")
        return {**RUN, "status": "failed", "error": "boom", "error_type": "ValueError"}, 500, headers
    if asked == "answer with another run":
        return {**RUN, "id": "run-0"}, 200, headers
    if asked == "answer only":
        return {"hello": "world"}, 200, headers
    status = asked if asked in {"skipped", "paused"} else "success"
    return {**RUN, "status": status, "result": payload.get("result", payload)}, 200, headers


greet.workflow_path = "functions.greet:Greet"


def helper():
    """Not a workflow."""
'''

GREETING_MAIN = """
from autopilot import entry_point

greet = entry_point("greeting:Greet", name="greet")
"""
GREETING = """
from autopilot import BaseWorkflow, WorkflowManifest


class Greet(BaseWorkflow):
    manifest = WorkflowManifest(name="greet")

    async def execute(self, ctx, payload):
        return "hello"
"""


def write_greeting(folder: Path) -> None:
    """The smallest bundle that works."""
    (folder / "main.py").write_text(GREETING_MAIN)
    (folder / "greeting.py").write_text(GREETING)


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(BUNDLE)
    return tmp_path


@pytest.fixture
def autopilot(bundle: Path) -> Command:
    """The command, run in the folder of the bundle, 80 columns wide."""

    def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "autopilot", *arguments],
            cwd=bundle,
            env={**command_environment(), **(env or {})},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    return run


def command_environment() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AUTOPILOT_", "FIRESTORE_"))}
    return {**kept, "PYTHONPATH": root, "COLUMNS": "80"}
