"""``autopilot runs``, ``show`` and ``logs``, on the history of this machine."""

import json
from collections.abc import Callable, Iterator
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
    assert header.split() == ["Run", "Workflow", "Status", "Began", "(UTC)", "Took"]
    assert [line.split()[:4] for line in (lines[0], *lines[2:])] == [
        ["f0123456789a", "digest", "✘", "failed"],
        ["other", "shop", "✔", "success"],
        ["yesterday", "digest", "✔", "success"],
    ]
    assert lines[1].startswith("  ValueError: [red]x")


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
        (("digest", "-s", "success", "--since", "1d"), []),
        (("--limit", "1"), [FAILED.id]),
    ),
)
def test_runs_are_chosen_by_the_store(invoke: Invoke, arguments: tuple[str, ...], found: list[str]) -> None:
    page = json.loads(invoke("runs", *arguments, "--json").stdout)

    assert [run["id"] for run in page["runs"]] == found
    assert (page["next_cursor"] is None) == (arguments != ("--limit", "1"))


def test_no_runs_are_a_word(invoke: Invoke) -> None:
    listed = invoke("runs", "digest", "--status", "paused")

    assert (listed.exit_code, listed.stdout) == (0, "no such runs in .autopilot/autopilot.db (SQLite)\n")


def test_a_workflow_that_is_not_known_ends_with_4_and_one_that_has_not_run_with_0(
    invoke: Invoke, tmp_path: Path
) -> None:
    (tmp_path / "main.py").write_text(
        'from autopilot.function.entry_point import entry_point\nnever = entry_point("functions.never:Never")\n'
    )

    unknown, never = invoke("runs", "unknown", "--json"), invoke("runs", "never")

    assert (unknown.exit_code, unknown.stdout, never.exit_code) == (4, "", 0)
    assert (
        unknown.stderr
        == "autopilot: main.py names no workflow 'unknown', and none has run in .autopilot/autopilot.db (SQLite)\n"
    )
    assert invoke("retry", "--failed", "--workflow", "unknown").exit_code == 4


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
        "Failed at  send[",
        "Error      ValueError: [red]x[/red]",
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

    assert not {"\x1b", "\x07", "\u202e"} & set(shown.stdout)
    assert "[red]x" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_json_is_the_run_with_its_steps_and_nothing_else(invoke: Invoke) -> None:
    detail = json.loads(invoke("show", FAILED.id, "--json").stdout)

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

    assert (refused.exit_code, refused.stderr) == (2, "autopilot: 2 runs begin with twin: type more of the id\n")


def test_a_run_of_two_workflows_is_told_apart(invoke: Invoke, tmp_path: Path) -> None:
    write_more(tmp_path)

    refused, told = invoke("show", "same"), invoke("show", "same", "-w", "shop", "--json")

    assert refused.stderr == "autopilot: run same is known to digest, shop: say which with --workflow\n"
    assert json.loads(told.stdout)["run"]["workflow_id"] == "shop"


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
    assert shown.stdout == "03:04:05 info    sent\\x1b[31m n=2\n error   broke\nTraceback\\x1b\n"
    assert [event["event"] for event in json.loads(as_json.stdout)] == ["sent\x1b[31m", "broke"]


def test_a_cancelled_run_can_go_on_without_being_mended(invoke: Invoke, tmp_path: Path) -> None:
    write_runs(str(tmp_path / ".autopilot" / "autopilot.db"), a_run("stopped", status=RunStatus.CANCELLED))

    shown = invoke("show", "stopped").stdout

    assert "  autopilot retry stopped   goes on where it ended\n" in shown
    assert "  autopilot rerun stopped   a new run of the same payload\n" in shown


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
    assert "what `autopilot dev`, `run` and `serve` log in this folder is kept there" in shown.stderr


def test_the_query_for_cloud_logging_can_be_had_alone(invoke: Invoke) -> None:
    assert invoke("logs", FAILED.id, "--query").stdout.startswith(f'jsonPayload.run_id="{FAILED.id}"\ntimestamp>="')


@pytest.mark.parametrize(
    ("arguments", "told"),
    (
        (("runs", "--since", "yesterday"), "is not a valid duration"),
        (("runs", "--limit", "0"), "--limit"),
        (("runs", "--status", "lost"), "--status"),
        (("runs", "--url", "ftp://x"), "is no address"),
        (("runs", "--url", "http://example.com"), "must be https"),
        (("retry",), "say which"),
        (("retry", "a", "--failed"), "say which"),
        (("retry", "a", "--dry-run"), "go with --failed"),
    ),
)
def test_wrong_use_ends_with_2(invoke: Invoke, arguments: tuple[str, ...], told: str) -> None:
    refused = invoke(*arguments)

    assert (refused.exit_code, refused.stdout) == (2, "")
    assert told in refused.stderr


def test_a_store_that_is_away_ends_with_3(invoke: Invoke, tmp_path: Path) -> None:
    reset_run_log_service()
    (tmp_path / ".autopilot" / "autopilot.db").write_bytes(b"no database at all, and long enough to tell" * 40)

    refused = invoke("runs")

    assert (refused.exit_code, refused.stderr.count("\n")) == (3, 1)


def write_more(folder: Path) -> None:
    twins = (a_run("twin-1"), a_run("twin-2"), a_run("same"), a_run("same", workflow_id="shop"))
    write_runs(str(folder / ".autopilot" / "autopilot.db"), *twins)
