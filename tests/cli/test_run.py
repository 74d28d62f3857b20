"""``autopilot run``, as a process, against functions served by the real framework."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autopilot.cli.app import app
from tests.cli.conftest import Command


@pytest.mark.slow
def test_a_run_is_shown_with_the_totals_of_its_workflow(autopilot: Command) -> None:
    ended = autopilot("run", "greet", "--payload", '{"result": {"note": "caf\\u00e9 [red]x[/red]\\u001b[31m"}}')

    assert ended.returncode == 0, ended.stderr
    for shown in ("greet", "✔ success in 42 ms", "run-1", "café [red]x[/red]\\x1b[31m"):
        assert shown in ended.stdout
    totals = dict(re.findall(r"^  (\w[\w ]*?) {2,}(.+?) *$", ended.stdout, re.MULTILINE))
    assert totals == {
        "Total runs": "1,203",
        "Success rate": "99.8 %",
        "By status": "1,200 success, 3 failed",
        "Last run": "✔ success at 2026-01-02 03:04:05 UTC",
        "History": ".autopilot/autopilot.db (SQLite)",
    }
    assert max(len(line) for line in ended.stdout.splitlines()) <= 80
    assert "\x1b" not in ended.stdout


@pytest.mark.slow
def test_json_is_the_run_and_nothing_else(autopilot: Command) -> None:
    ended = autopilot("run", "greet", "--json", "--payload", '{"result": {"deep": [[1]]}}')

    run = json.loads(ended.stdout)
    assert (run["id"], run["result"], ended.returncode) == ("run-1", {"deep": [[1]]}, 0)


@pytest.mark.slow
def test_the_payload_arrives_as_it_was_typed_with_the_address_filled_in(autopilot: Command) -> None:
    ended = autopilot("run", "greet", "--json", "--payload", '{"quote": "\\" \' $HOME  two", "url": "{url}/x"}')

    result = json.loads(ended.stdout)["result"]
    assert result["quote"] == "\" ' $HOME  two"
    assert result["url"].startswith("http://127.0.0.1:")
    assert result["url"].endswith("/x")


@pytest.mark.slow
def test_a_failed_run_ends_with_1_and_the_functions_log(autopilot: Command) -> None:
    ended = autopilot("run", "greet", "--payload", '{"do": "fail"}')

    assert ended.returncode == 1
    assert "✘ failed" in ended.stdout
    assert "ValueError: boom" in ended.stdout
    assert "what the function logged" in ended.stderr
    assert ended.stdout.endswith("\n  autopilot show run-1\n")


@pytest.mark.slow
@pytest.mark.parametrize("status", ("skipped", "paused"))
def test_a_run_that_did_not_fail_ends_with_0(autopilot: Command, status: str) -> None:
    ended = autopilot("run", "greet", "--payload", json.dumps({"do": status}))

    assert (status in ended.stdout, ended.returncode) == (True, 0)


@pytest.mark.slow
def test_a_run_that_was_not_recorded_says_so(autopilot: Command) -> None:
    ended = autopilot("run", "greet", "--payload", '{"do": "forget"}')

    assert (ended.returncode, "this run was not recorded" in ended.stdout) == (0, True)
    assert "The function's log:" in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("answer", ("answer only", "answer with another run"))
def test_a_workflow_that_answers_with_its_result_alone_is_shown_by_its_record(autopilot: Command, answer: str) -> None:
    ended = autopilot("run", "greet", "--json", "--payload", json.dumps({"do": answer}))

    assert json.loads(ended.stdout)["id"] == "run-1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("payload", "code", "line"),
    (
        ({"do": "refuse"}, 2, "autopilot: payload of workflow greet: name: Field required\n"),
        (
            {"do": "unconfigured"},
            3,
            "autopilot: configuration of workflow greet: key: Field required (set GREET_KEY)\n",
        ),
    ),
)
def test_what_keeps_a_run_from_existing_is_one_line(autopilot: Command, payload: object, code: int, line: str) -> None:
    ended = autopilot("run", "greet", "--payload", json.dumps(payload))

    assert (ended.returncode, ended.stderr, ended.stdout) == (code, line, "")


@pytest.mark.slow
def test_a_function_that_dies_under_its_run_ends_with_3(autopilot: Command) -> None:
    ended = autopilot("run", "greet", "--payload", '{"do": "die"}')

    assert ended.returncode == 3
    assert ended.stderr.startswith("autopilot: function greet cannot be served: it ended without an answer")


@pytest.mark.slow
def test_an_unknown_workflow_is_one_line_that_lists_the_known(autopilot: Command) -> None:
    ended = autopilot("run", "helper")

    assert ended.returncode == 2
    assert ended.stderr == "autopilot: unknown workflow 'helper'; main.py has: greet\n"


@pytest.mark.parametrize(
    ("payload", "reason"),
    (
        ('{"a": 1,\n "b": }', "not JSON: Expecting value at line 2, column 7"),
        ("[1]", 'it must be a JSON object, such as {"key": "value"}, not an array'),
        ("null", 'it must be a JSON object, such as {"key": "value"}, not null'),
        ('{"a": NaN}', "not JSON: NaN is not a JSON number"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": "\udcff"}', "not UTF-8"),
    ),
)
def test_a_payload_that_is_no_json_object_is_one_line(
    bundle: Path, payload: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle)

    ended = CliRunner().invoke(app, ["run", "greet", "--payload", payload])

    assert (ended.exit_code, ended.stderr) == (2, f"autopilot: payload: {reason}\n")


@pytest.mark.slow
def test_a_wrong_setting_is_one_line(autopilot: Command) -> None:
    ended = autopilot("run", "greet", env={"AUTOPILOT_STORE": "postgres"})

    assert ended.returncode == 2
    assert ended.stderr.startswith("autopilot: AUTOPILOT_STORE: ")
    assert ended.stderr.count("\n") == 1


def test_a_folder_without_functions_is_one_line(autopilot: Command) -> None:
    ended = autopilot("run", "greet", "--source", "absent.py")

    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "there is no absent.py here" in ended.stderr
