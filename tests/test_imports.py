"""What a served function does without, so that its cold start does not wait for it."""

import urllib.request
from pathlib import Path

import pytest

from autopilot.development.function_server import FunctionServer

MAIN = """
import sys

# Importing one of these is an ImportError from here on.
sys.modules |= dict.fromkeys(("google.api_core", "google.auth", "google.cloud.firestore_v1", "grpc"))
sys.modules |= dict.fromkeys(("fastapi", "httpx", "itsdangerous", "jinja2", "rich", "typer"))

from autopilot import api_entry_point, entry_point

greeting = entry_point("greeting:Greeting")
api = api_entry_point()
"""

GREETING = """
from autopilot import BaseWorkflow, WorkflowManifest


class Greeting(BaseWorkflow):
    manifest = WorkflowManifest(name="greeting")

    async def execute(self, ctx, payload):
        return "hello"
"""


@pytest.mark.slow
def test_a_function_on_sqlite_runs_without_firestore_and_without_what_only_commands_and_other_workflows_need(
    tmp_path: Path,
) -> None:
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "greeting.py").write_text(GREETING)
    store = {"AUTOPILOT_STORE": "sqlite", "AUTOPILOT_SQLITE_PATH": str(tmp_path / "runs.db")}

    with (
        FunctionServer("greeting", source=tmp_path / "main.py", env=store) as server,
        urllib.request.urlopen(urllib.request.Request(server.url, method="POST"), timeout=10) as answer,
    ):
        persisted = answer.headers["Autopilot-Persisted"]

    assert persisted == "true"
