"""What ``autopilot dev`` shows first."""

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console
from starlette.responses import PlainTextResponse

from autopilot import BaseWorkflow, RunContext, Schedule, WorkflowInvalid, WorkflowManifest
from autopilot.development.first_screen import print_first_screen
from autopilot.development.local_app import LocalFunction

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVERY_HOUR, NIGHTLY = Schedule(cron="5 * * * *"), Schedule(name="night", cron="30 2 * * *", time_zone="Europe/Berlin")


def function(name: str, **fields: Any) -> LocalFunction:
    class Work(BaseWorkflow):
        manifest = WorkflowManifest(name=name, **fields)

        async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> None: ...

    return LocalFunction(f"{name}_function", Work(), PlainTextResponse("served"))


def screen(*functions: LocalFunction, errors: dict[str, Exception] | None = None, asks_for_key: bool = False) -> str:
    shown = io.StringIO()
    print_first_screen(
        Console(file=shown, width=100, highlight=False),
        functions,
        errors or {},
        url="http://127.0.0.1:8080",
        asks_for_key=asks_for_key,
        kept_in="runs.db (SQLite)",
        log_file="log.jsonl",
        environment="local",
        now=NOW,
    )
    return shown.getvalue()


def rows(shown: str) -> dict[str, list[str]]:
    """The words of each line, by its first."""
    return {words[0]: words[1:] for line in shown.splitlines() if (words := line.split())}


def test_each_workflow_has_its_address_and_its_soonest_run_in_that_schedules_time_zone() -> None:
    table = rows(screen(function("digest", schedules=(NIGHTLY, EVERY_HOUR)), function("report", schedules=(NIGHTLY,))))

    assert table["Workflow"] == ["Address", "Next", "run"]
    assert table["digest"] == ["http://127.0.0.1:8080/digest_function", "03-01", "12:05", "Etc/UTC"]
    assert table["report"] == ["http://127.0.0.1:8080/report_function", "03-02", "02:30", "Europe/Berlin"]


def test_a_workflow_without_a_next_run_says_why() -> None:
    table = rows(screen(function("on_demand"), function("off", schedules=(EVERY_HOUR,), enabled=False)))

    assert table["on_demand"][1:] == ["no", "schedule"]
    assert table["off"][1:] == ["disabled"]


def test_a_workflow_that_cannot_be_served_is_shown_with_its_error() -> None:
    errors = {"broken": SyntaxError("'(' was never closed"), "invalid": WorkflowInvalid("a:B", "there is no module a")}

    shown = screen(function("digest"), errors=errors)

    assert "✘ broken: SyntaxError: '(' was never closed" in shown
    assert "✘ invalid: there is no module a" in shown


@pytest.mark.parametrize("asks_for_key", (False, True))
def test_where_to_look_is_listed(*, asks_for_key: bool) -> None:
    table = rows(screen(function("digest"), asks_for_key=asks_for_key))

    assert table["Dashboard"] == ["http://127.0.0.1:8080/"]
    assert table["API"] == ["http://127.0.0.1:8080/api/v1"]
    assert table["History"] == ["runs.db", "(SQLite)"]
    assert table["Log"] == ["log.jsonl"]
    assert ("Sign-in" in table) is asks_for_key


def test_a_bundle_without_workflows_offers_no_run() -> None:
    assert "curl" in screen(function("digest"))
    assert "curl" not in screen()
