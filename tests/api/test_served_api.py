"""The API under the real functions-framework, beside the function that it calls."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from autopilot.development.function_server import FunctionServer

MAIN = """
from autopilot import api_entry_point, entry_point

greeting = entry_point("greeting:Greeting")
api = api_entry_point()
"""

GREETING = """
import asyncio
from pathlib import Path

from autopilot import BaseWorkflow, WorkflowManifest


class Greeting(BaseWorkflow):
    manifest = WorkflowManifest(name="greeting")

    async def execute(self, ctx, payload):
        while (gate := payload.get("gate")) and not Path(gate).exists():
            await asyncio.sleep(0.01)
        return await ctx.step("say", self._say)

    async def _say(self):
        return "hello"
"""


@pytest.mark.slow
@pytest.mark.parametrize("asgi", (False, True))
def test_a_run_is_triggered_through_the_api_and_seen_in_the_page(tmp_path: Path, *, asgi: bool) -> None:
    source = tmp_path / "main.py"
    source.write_text(MAIN)
    (tmp_path / "greeting.py").write_text(GREETING)
    env: dict[str, str | None] = {"AUTOPILOT_STORE": "sqlite", "AUTOPILOT_SQLITE_PATH": str(tmp_path / "runs.db")}
    greeting = FunctionServer("greeting", source=source, env=env, asgi=asgi)
    urls = {"AUTOPILOT_FUNCTION_URLS": json.dumps({"greeting": greeting.url})}

    gate = tmp_path / "gate"

    with greeting, FunctionServer("api", source=source, env=env | urls, asgi=asgi) as api:
        trigger = f"{api.url}/api/v1/workflows/greeting/trigger"
        held = httpx.post(trigger, json={"gate": str(gate)}, headers={"Prefer": "wait=1"}, timeout=20)
        gate.touch()
        # Nobody is connected to the function any more: it finishes by itself.
        ended = until_over(f"{api.url}{held.headers['location']}")
        accepted = httpx.post(f"{api.url}/api/v1/workflows/greeting/trigger", json={}, timeout=20).json()
        run = httpx.get(f"{api.url}{accepted['location']}", timeout=10).json()
        page = httpx.get(f"{api.url}/workflows/greeting/runs/{accepted['run_id']}", timeout=10)
        style = httpx.get(f"{api.url}/static/dashboard.css", timeout=10)

    assert (held.status_code, held.json()["status"], ended["status"]) == (202, "running", "success")
    assert (ended["attempt"], ended["result"]) == (1, "hello")
    assert (accepted["status"], run["run"]["result"], run["steps"][0]["key"]) == ("success", "hello", "say")
    assert "hello" in page.text
    assert style.headers["content-type"].startswith("text/css")
    assert "Traceback" not in api.log_text()


def until_over(url: str) -> dict[str, Any]:
    """The run, as soon as it is over."""
    while True:
        run: dict[str, Any] = httpx.get(url, timeout=10).json()["run"]
        if run["completed_at"] is not None:
            return run
