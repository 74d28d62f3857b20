"""``autopilot show``: the tries of a failed step, the effect of a retry, and the attempts that there were."""

import asyncio
import shlex
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from autopilot.cli.app import app
from autopilot.cli.retry_views import retry_command
from autopilot.core.run_log import reset_run_log_service
from autopilot.core.steps.keys import key_digest
from autopilot.core.store import RunStart, StepRecord, StepTry, Store
from autopilot.models import RunAttempt, RunStatus, StepStatus
from autopilot.storage.sqlite.store import SQLiteStore
from tests.cli.history import a_run

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
KEPT = "  All other recorded steps keep their results and do not run again."

Show = Callable[..., str]


@pytest.fixture
def show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Show]:
    """Shows a run that ended with these records, and whose retry begins again the steps with these keys."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("AUTOPILOT_URL", "AUTOPILOT_STORE", "AUTOPILOT_API_KEY", "AUTOPILOT_SQLITE_PATH"):
        monkeypatch.delenv(name, raising=False)
    reset_run_log_service()

    def show(records: list[StepRecord], again: list[str], **fields: Any) -> str:
        store = SQLiteStore(str(tmp_path / ".autopilot" / "autopilot.db"))
        asyncio.run(write(store, records, again, fields))
        store.close()
        shown: Result = CliRunner().invoke(app, ("show", "shown"))
        assert shown.exit_code == 0, shown.output
        return shown.stdout

    yield show
    reset_run_log_service()


async def write(store: Store, records: list[StepRecord], again: list[str], fields: dict[str, Any]) -> None:
    run = a_run("shown", started_at=NOON, status=RunStatus.RUNNING, completed_at=None)
    start = RunStart(run=run, owner="o", incarnation="n", lease_duration=timedelta(hours=1))
    await store.start_run(start)
    for record in records:
        await store.record_step(start.lease, record, expires_at=datetime(2999, 1, 1, tzinfo=UTC))
    ending = {"status": RunStatus.FAILED, "failed_steps": tuple(key_digest(key) for key in again)}
    await store.save_run(run.model_copy(update=ending | fields))


def a_step(key: str, begins: float, ends: float, status: str = "failed", **fields: Any) -> StepRecord:
    given: dict[str, Any] = {"attempt": 1, "tries": 1, "error_type": "OSError", "error": "full"}
    if status == "success":
        given |= {"error_type": None, "error": None, "result": "1"}
    times = {"started_at": NOON + timedelta(seconds=begins), "ended_at": NOON + timedelta(seconds=ends)}
    return StepRecord(key=key, status=StepStatus(status), **times | given | fields)


def a_try(begins: float, ends: float, error: str = "") -> StepTry:
    return StepTry(
        started_at=NOON + timedelta(seconds=begins),
        ended_at=NOON + timedelta(seconds=ends),
        error=error or None,
        error_type="OSError" if error else None,
    )


def about_retry(shown: str) -> list[str]:
    """The lines between the steps and the query."""
    lines = shown.splitlines()
    (begin,) = [number for number, line in enumerate(lines) if line.startswith("  A retry ") or "No step fai" in line]
    return [line for line in lines[begin : lines.index("  Query for Cloud Logging")] if line]


def test_a_retry_is_explained_before_it_is_made(show: Show) -> None:
    records = [a_step("charge", 0, 1), a_step("cancel_order", 1, 2, "success"), a_step("old", 0, 1, "success")]

    shown = show(records, ["charge", "cancel_order"])

    assert about_retry(shown) == ["  A retry runs again: charge, and cancel_order, which ran after it.", KEPT]
    assert "  autopilot retry shown   resume where it failed, once you have fixed it" in shown


@pytest.mark.parametrize(
    ("failed", "expected"),
    (
        (2, "load[0] and load[1]"),
        (3, "load[0], load[1] and load[2]"),
        (13, f"{', '.join(f'load[{number}]' for number in range(10))} and 3 more"),
    ),
)
def test_the_steps_of_a_retry_are_a_list(show: Show, failed: int, expected: str) -> None:
    records = [a_step(f"load[{number}]", 0, 9) for number in range(failed)]

    lines = about_retry(show(records, [record.key for record in records]))

    assert " ".join(line.strip() for line in lines) == f"A retry runs again: {expected}. {KEPT.strip()}"


@pytest.mark.parametrize(
    ("steps", "status", "expected"),
    (
        (0, "failed", "A retry runs the workflow's code from its start: this run recorded no steps."),
        (1, "failed", "No step failed this run: a retry runs the workflow's own code again, and no recorded step."),
        (
            1,
            "cancelled",
            "A retry runs no recorded step again: they keep their results, and the run continues from there.",
        ),
    ),
)
def test_a_retry_that_runs_no_step_again_says_so(show: Show, steps: int, status: str, expected: str) -> None:
    shown = show([a_step("fetch", 0, 1, "success")] * steps, [], status=RunStatus(status))

    assert about_retry(shown) == [f"  {expected}"]


def test_a_run_that_succeeded_has_nothing_to_say_of_a_retry(show: Show) -> None:
    assert "retry" not in show([a_step("fetch", 0, 1, "success")], [], status=RunStatus.SUCCESS)


@pytest.mark.parametrize(
    ("interrupted", "others", "warning"),
    (
        (["pay"], [], "It may already have taken effect."),
        (["pay"], ["charge"], "One of them may already have taken effect."),
        (["pay", "send[%2F]"], [], "They may already have taken effect."),
        (["pay", "send[%2F]"], ["charge"], "2 of them may already have taken effect."),
    ),
)
def test_interrupted_steps_come_with_the_command_that_confirms_them(
    show: Show, interrupted: list[str], others: list[str], warning: str
) -> None:
    records = [a_step(key, 0, 1, "interrupted") for key in interrupted] + [a_step(key, 0, 1) for key in others]

    shown = show(records, [*interrupted, *others])

    confirmed = ["--again-interrupted pay", *["--again-interrupted 'send[/]'"][: len(interrupted) - 1]]
    assert about_retry(shown)[2:] == [
        f"  {warning} Check first, then confirm:",
        f"  autopilot retry shown {' '.join(confirmed)}",
    ]
    assert "resume where it failed" not in shown


def test_the_tries_of_a_failed_step_are_listed(show: Show) -> None:
    tries = (a_try(0, 1, "the line is busy"), a_try(5, 5.5, "the line is dead"))
    steps = [a_step("charge", 0, 11, tries=4, history=tries), a_step("fetch", 0, 3, "success", tries=2)]

    lines = show(steps, ["charge"]).splitlines()

    begin = lines.index("  Tries of charge, 11 s in all")
    assert lines[begin + 1 : begin + 7] == [
        "  Started (UTC)   Duration",
        "  06-01 12:00:00     1.0 s",
        "    OSError: the line is busy",
        "  06-01 12:00:05    500 ms",
        "    OSError: the line is dead",
        "  2 more without a record: cut off, or before the last 10",
    ]
    assert not any("Tries of fetch" in line for line in lines)


def test_a_step_that_failed_at_once_has_no_list_of_tries(show: Show) -> None:
    assert "Tries of" not in show([a_step("charge", 0, 1, history=(a_try(0, 1, "no"),))], ["charge"])


def test_a_key_is_shown_as_people_read_it(show: Show) -> None:
    key = "fetch[https:%2F%2Fexample.com%2Fa%20b]"

    shown = show([a_step(key, 0, 1)], [key])

    assert "Failed step  fetch[https://example.com/a b]" in shown
    assert "  fetch[https://example.com/a b]  ✘ failed" in shown
    assert "  A retry runs again: fetch[https://example.com/a b]." in shown


def test_a_cancellation_is_no_attempt(show: Show) -> None:
    first = RunAttempt(number=1, started_at=NOON, ended_at=NOON + timedelta(seconds=2), ending=RunStatus.CANCELLED)

    shown = show([], [], status=RunStatus.CANCELLED, attempt=2, attempts=(first,))

    assert "Attempts  1 " in shown
    assert "Ended (UTC)" not in shown


@pytest.mark.parametrize("key", ("pay", "pay[a b]", "pay[it's]", "pay[$HOME `x`]", "pay[a\nb\\'\x1bc\u202e]", "pay[ä]"))
def test_the_command_confirms_in_a_shell_what_it_names(key: str) -> None:
    command = retry_command("r", [key, "second"], " --url https://x")

    script = f'autopilot() {{ printf "%s\\0" "$@"; }}; {command}'
    words = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout.decode().split("\0")

    assert words[:-1] == [
        "retry",
        "r",
        "--again-interrupted",
        key,
        "--again-interrupted",
        "second",
        "--url",
        "https://x",
    ]
    assert command.isprintable()
    assert not key.isprintable() or shlex.split(command)[4] == key
