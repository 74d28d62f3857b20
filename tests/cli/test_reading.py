"""``autopilot runs``, ``show`` and ``logs``, on the history of this machine."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from autopilot.cli.app import app
from autopilot.core.run_log import reset_run_log_service
from autopilot.models import RunStatus
from tests.cli.history import FAILED, a_run, write_history, write_runs

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Invoke]:
    """The command in this process, 80 columns wide, in a folder with a history and without a bundle."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("AUTOPILOT_URL", "AUTOPILOT_STORE", "AUTOPILOT_API_KEY", "AUTOPILOT_SQLITE_PATH"):
        monkeypatch.delenv(name, raising=False)
    reset_run_log_service()
    write_history(str(tmp_path / ".autopilot" / "autopilot.db"))
    yield lambda *arguments: CliRunner().invoke(app, arguments)
    reset_run_log_service()


def test_runs_are_listed_newest_first(invoke: Invoke) -> None:
    listed = invoke("runs")

    assert listed.exit_code == 0, listed.output
    header, *lines = listed.stdout.splitlines()
    assert header.split() == ["Run", "Workflow", "Status", "Started", "(UTC)", "Duration"]
    assert [line.split()[:4] for line in (lines[0], *lines[2:])] == [
        ["f0123456789a", "digest", "✘", "failed"],
        ["other", "shop", "✔", "success"],
        ["yesterday", "digest", "✔", "success"],
    ]
    assert lines[1].startswith("  ValueError: [red]x")


def write_june(folder: Path) -> None:
    """Four runs whose every shown value is stated here."""
    june = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
    write_runs(
        str(folder / ".autopilot" / "autopilot.db"),
        a_run("1a" * 16, started_at=june, completed_at=june + timedelta(milliseconds=840), duration_ms=840),
        a_run(
            "2b" * 16,
            workflow_id="take_order",
            trigger_type="http",
            started_at=june + timedelta(hours=1, seconds=9),
            completed_at=june + timedelta(hours=1, minutes=3, seconds=14),
            duration_ms=185_000,
            status=RunStatus.FAILED,
            error_type="ValueError",
            error="the card was declined\nby the bank",
        ),
        a_run(
            "3c" * 16,
            workflow_id="take_order",
            trigger_type="http",
            started_at=june + timedelta(days=1),
            completed_at=None,
            duration_ms=None,
            status=RunStatus.SLEEPING,
        ),
        a_run(
            "4d" * 16,
            workflow_id="take_order",
            trigger_type="http",
            started_at=june + timedelta(days=2),
            completed_at=june + timedelta(days=2),
            duration_ms=2_400,
            status=RunStatus.CANCELLED,
        ),
    )


def test_a_list_shows_each_run_in_a_line_and_its_error_below(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "june").mkdir()
    monkeypatch.chdir(tmp_path / "june")
    reset_run_log_service()
    write_june(tmp_path / "june")

    listed, two = invoke("runs"), invoke("runs", "take_order", "--limit", "2")

    assert listed.stdout.splitlines() == [
        "Run           Workflow    Status       Started (UTC)    Duration",
        "4d4d4d4d4d4d  take_order  ✘ cancelled  06-03 12:00:00      2.4 s",
        "3c3c3c3c3c3c  take_order  … sleeping   06-02 12:00:00",
        "2b2b2b2b2b2b  take_order  ✘ failed     06-01 13:00:09  3 min 5 s",
        "  ValueError: the card was declined by the bank",
        "1a1a1a1a1a1a  digest      ✔ success    06-01 12:00:00     840 ms",
    ]
    assert [line.split()[0] for line in two.stdout.splitlines()] == ["Run", "4d4d4d4d4d4d", "3c3c3c3c3c3c", "There"]


def test_a_run_is_shown_with_its_own_values(invoke: Invoke, tmp_path: Path) -> None:
    write_june(tmp_path)

    shown = invoke("show", "2b2b").stdout
    facts = dict(re.findall(r"^│ (\w[\w ]*?) {2,}(.+?) *│$", shown, re.MULTILINE))

    assert "─ take_order ─" in shown.splitlines()[0]
    assert "✘ failed in 3 min 5 s" in shown.splitlines()[1]
    assert facts.pop("Started").startswith("2026-06-01 13:00:09 UTC, ")
    assert facts == {
        "Error": "ValueError: the card was declined",
        "Run": "2b" * 16,
        "Trigger": "http",
        "Ended": "2026-06-01 13:03:14 UTC",
        "Attempts": "1",
    }
    assert shown[shown.index("  Query for") :].splitlines() == [
        "  Query for Cloud Logging",
        f'  jsonPayload.run_id="{"2b" * 16}"',
        '  timestamp>="2026-06-01T12:55:09Z"',
        '  timestamp<="2026-06-01T13:08:14Z"',
        "",
        "  autopilot retry 2b2b2b2b2b2b   resume where it failed, once you have fixed it",
        "  autopilot rerun 2b2b2b2b2b2b   start a new run with the same payload",
    ]


def test_steps_are_shown_with_their_tries_and_errors(invoke: Invoke) -> None:
    shown = invoke("show", FAILED.id).stdout.splitlines()

    start = shown.index("  Step       Status     Tries  Duration")
    assert shown[start + 1 : start + 3] == [
        "  fetch      ✔ success      2    250 ms",
        "  send[[re]  ✘ failed       2    250 ms",
    ]
    assert shown[start + 3].startswith("    ValueError: [red]x[/red] \\x1b[31m")


@pytest.mark.parametrize("columns", (60, 80, 140))
def test_a_list_has_room_for_what_went_wrong(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    cancelled = a_run("c" * 32, workflow_id="take_an_order_now", status=RunStatus.CANCELLED, duration_ms=182_000)
    write_runs(str(tmp_path / ".autopilot" / "autopilot.db"), cancelled)

    listed = invoke("runs").stdout

    assert "ValueError: [red]x[/red] \\x1b[31m" in listed
    assert "3 min 2 s" in listed
    assert max(map(len, listed.splitlines())) <= columns


@pytest.mark.parametrize(
    ("arguments", "found"),
    (
        (("digest",), [FAILED.id, "yesterday"]),
        (("--status", "success"), ["other", "yesterday"]),
        (("--since", "2h"), [FAILED.id, "other"]),
        (("--until", "30m"), ["other", "yesterday"]),
        (("--since", "2h", "--until", "30m"), ["other"]),
        (("digest", "-s", "success", "--since", "1d"), []),
        (("--limit", "1"), [FAILED.id]),
    ),
)
def test_runs_are_filtered(invoke: Invoke, arguments: tuple[str, ...], found: list[str]) -> None:
    page = json.loads(invoke("runs", *arguments, "--json").stdout)

    assert [run["id"] for run in page["runs"]] == found
    assert (page["next_cursor"] is None) == (arguments != ("--limit", "1"))


@pytest.mark.parametrize("until", ("2h", "3h"))
def test_a_time_that_ends_before_it_begins_is_refused(invoke: Invoke, until: str) -> None:
    listed = invoke("runs", "--since", "2h", "--until", until)

    assert (listed.exit_code, listed.stdout) == (2, "")
    assert listed.stderr == "autopilot: --until: it must be a shorter time ago than --since\n"


def test_a_list_of_no_runs_says_where_there_are_none(invoke: Invoke) -> None:
    listed = invoke("runs", "digest", "--status", "paused")

    assert (listed.exit_code, listed.stdout) == (0, "no matching runs in .autopilot/autopilot.db (SQLite)\n")


def test_a_workflow_that_is_not_known_ends_with_4_and_one_that_has_not_run_with_0(
    invoke: Invoke, tmp_path: Path
) -> None:
    (tmp_path / "main.py").write_text(
        'from autopilot import entry_point\nnever = entry_point("functions.never:Never")\n'
    )

    unknown, never = invoke("runs", "unknown", "--json"), invoke("runs", "never")

    assert (unknown.exit_code, unknown.stdout, never.exit_code) == (4, "", 0)
    assert (
        unknown.stderr == "autopilot: unknown workflow 'unknown': main.py does not define it, and it has no runs in "
        ".autopilot/autopilot.db (SQLite)\n"
    )
    assert invoke("retry", "--failed", "--workflow", "unknown").exit_code == 4


@pytest.mark.usefixtures("fresh_imports")
def test_a_workflow_that_has_not_run_is_known_by_its_own_name_and_not_only_by_its_line(
    invoke: Invoke, tmp_path: Path
) -> None:
    (tmp_path / "main.py").write_text(
        "from autopilot import entry_point\n"
        'for name in ("never",):\n    globals()[name] = entry_point("never_run:Never", name=name)\n'
    )
    (tmp_path / "never_run.py").write_text(
        "from autopilot import BaseWorkflow, WorkflowManifest\n\n\n"
        'class Never(BaseWorkflow):\n    manifest = WorkflowManifest(name="never_before")\n\n'
        "    async def execute(self, ctx, payload): ...\n"
    )

    listed = invoke("runs", "never_before")

    assert (listed.exit_code, listed.stdout) == (0, "no matching runs in .autopilot/autopilot.db (SQLite)\n")


def test_a_look_leaves_nothing_behind(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    reset_run_log_service()

    listed, shown = invoke("runs"), invoke("show", "unknown")

    assert (listed.stdout, shown.exit_code) == ("no runs in .autopilot/autopilot.db (SQLite)\n", 4)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("typed", (FAILED.id, FAILED.id[:8]))
def test_a_run_is_shown_with_what_a_person_at_night_needs(invoke: Invoke, typed: str) -> None:
    shown = invoke("show", typed)

    assert shown.exit_code == 0, shown.output
    for text in (
        "✘ failed in 1.2 s",
        FAILED.id,
        "Failed step  send[",
        "Error        ValueError: [red]x[/red]",
        "version 7, source abcdef0123456789",
        " min ago",
        "Attempts  1",
        "✔ success",
        f'jsonPayload.run_id="{FAILED.id}"',
        f"autopilot retry {FAILED.id[:12]}",
        f"autopilot rerun {FAILED.id[:12]}",
    ):
        assert text in shown.stdout


@pytest.mark.parametrize("arguments", (("runs",), ("show", FAILED.id)))
def test_what_a_run_says_is_shown_and_not_obeyed(invoke: Invoke, arguments: tuple[str, ...]) -> None:
    shown = invoke(*arguments)

    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(shown.stdout)
    assert "[red]x" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_json_is_the_run_with_its_steps_and_nothing_else(invoke: Invoke) -> None:
    shown = invoke("show", FAILED.id, "--json").stdout
    detail = json.loads(shown)

    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(shown)
    assert detail["run"]["error"] == FAILED.error
    assert [step["key"] for step in detail["steps"]] == ["fetch", "send[[re]"]
    assert detail["failed_step"] == "send[[re]"


def test_an_unknown_run_ends_with_4(invoke: Invoke) -> None:
    unknown, foreign = invoke("show", "unknown"), invoke("show", "other", "--workflow", "digest")

    assert (unknown.exit_code, unknown.stdout, foreign.exit_code) == (4, "", 4)
    assert unknown.stderr == (
        "autopilot: there is no run 'unknown' in .autopilot/autopilot.db (SQLite); `autopilot runs` lists them\n"
    )


def test_a_beginning_that_two_runs_have_is_not_guessed_at(invoke: Invoke, tmp_path: Path) -> None:
    write_more(tmp_path)

    refused = invoke("show", "twin")

    assert (refused.exit_code, refused.stderr) == (2, "autopilot: 2 runs start with twin; type more of the id\n")


def test_a_run_of_two_workflows_is_told_apart(invoke: Invoke, tmp_path: Path) -> None:
    write_more(tmp_path)

    refused, chosen = invoke("show", "same"), invoke("show", "same", "-w", "shop", "--json")

    assert refused.stderr == "autopilot: digest and shop both have a run same; choose one with --workflow\n"
    assert json.loads(chosen.stdout)["run"]["workflow_id"] == "shop"


def test_broken_code_is_no_obstacle_to_looking(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("from nowhere import nothing")

    assert invoke("show", FAILED.id).exit_code == 0


def test_a_log_that_was_kept_is_shown_for_one_run(invoke: Invoke, tmp_path: Path) -> None:
    events = (
        {
            "timestamp": "2026-01-02T03:04:05+00:00",
            "level": "info",
            "event": "sent\x1b[31m",
            "run_id": FAILED.id,
            "n": 2,
        },
        {"timestamp": "2026-01-02T03:04:06+00:00", "level": "info", "event": "elsewhere", "run_id": "other"},
        {"level": "error", "event": "broke", "run_id": FAILED.id, "exception": "Traceback\x1b"},
    )
    lines = [json.dumps(event) for event in events]
    (tmp_path / ".autopilot" / "log.jsonl").write_text("\n".join([*lines, lines[0][:40]]))

    shown, as_json = invoke("logs", FAILED.id[:8]), invoke("logs", FAILED.id, "--json")

    assert shown.exit_code == 0, shown.output
    assert shown.stdout == "03:04:05 info    sent\\x1b[31m n=2\n         error   broke\nTraceback\\x1b\n"
    assert [event["event"] for event in json.loads(as_json.stdout)] == ["sent\x1b[31m", "broke"]


def test_a_cancelled_run_can_be_retried_without_a_fix(invoke: Invoke, tmp_path: Path) -> None:
    write_runs(str(tmp_path / ".autopilot" / "autopilot.db"), a_run("stopped", status=RunStatus.CANCELLED))

    shown = invoke("show", "stopped").stdout

    assert "  autopilot retry stopped   resume where it ended\n" in shown
    assert "  autopilot rerun stopped   start a new run with the same payload\n" in shown


def test_the_line_that_failed_is_shown_where_its_log_is_kept(invoke: Invoke, tmp_path: Path) -> None:
    without = invoke("show", FAILED.id)
    trace = f'Traceback (most recent call last):\n  File "{tmp_path}/sending.py", line 7, in send\n    smtp()\nValueError: x'
    event = {"level": "error", "event": "workflow_run_completed", "run_id": FAILED.id, "exception": trace}
    (tmp_path / ".autopilot" / "log.jsonl").write_text(json.dumps(event))

    shown = invoke("show", FAILED.id)

    assert "sending.py:7 in send" in shown.stdout
    assert f"autopilot logs {FAILED.id[:12]} " in shown.stdout
    assert not {"Raised at", "autopilot logs"} & {line.strip(" │")[:14].strip() for line in without.stdout.splitlines()}


def test_a_run_without_a_log_here_says_why(invoke: Invoke) -> None:
    shown = invoke("logs", FAILED.id)

    assert (shown.exit_code, shown.stdout) == (4, "")
    assert "has no lines of this run" in shown.stderr


def test_the_query_for_cloud_logging_can_be_had_alone(invoke: Invoke) -> None:
    assert invoke("logs", FAILED.id, "--query").stdout.startswith(f'jsonPayload.run_id="{FAILED.id}"\ntimestamp>="')


@pytest.mark.parametrize(
    ("arguments", "reason"),
    (
        (("runs", "--since", "yesterday"), "is not a valid duration"),
        (("runs", "--limit", "0"), "--limit"),
        (("runs", "--status", "lost"), "--status"),
        (("runs", "--url", "ftp://x"), "is not a URL"),
        (("runs", "--url", "http://example.com"), "must use https"),
        (("retry",), "name a RUN"),
        (("retry", "a", "--failed"), "name a RUN"),
        (("retry", "a", "--dry-run"), "used with --failed"),
        (("retry", "--failed", "--again-interrupted", "pay"), "used with one RUN"),
    ),
)
def test_wrong_use_ends_with_2(invoke: Invoke, arguments: tuple[str, ...], reason: str) -> None:
    refused = invoke(*arguments)

    assert (refused.exit_code, refused.stdout) == (2, "")
    assert reason in refused.stderr


def test_a_store_that_is_away_ends_with_3(invoke: Invoke, tmp_path: Path) -> None:
    reset_run_log_service()
    (tmp_path / ".autopilot" / "autopilot.db").write_bytes(b"no database at all, and long enough to tell" * 40)

    refused = invoke("runs")

    assert (refused.exit_code, refused.stderr.count("\n")) == (3, 1)


def write_more(folder: Path) -> None:
    twins = (a_run("twin-1"), a_run("twin-2"), a_run("same"), a_run("same", workflow_id="shop"))
    write_runs(str(folder / ".autopilot" / "autopilot.db"), *twins)
