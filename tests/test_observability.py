"""The lines that leave a process: each test logs in a process of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autopilot.observability import LOG_FILE_LIMIT, read_log

TRACE = "0af7651916cd43dd8448eb211c80319c"
CLOUD = {
    "K_SERVICE": "digest",
    "K_REVISION": "digest-001",
    "AUTOPILOT_STORE": "firestore",
    "AUTOPILOT_ENVIRONMENT": "production",
    "GOOGLE_CLOUD_PROJECT": "acme",
}
PREAMBLE = """
import asyncio, logging
import structlog
from pydantic import BaseModel
from autopilot import TriggerType
from autopilot.observability import configure_logging, request_context
from autopilot.settings import load_settings
from tests.run_logs import Digest, ScriptedRunLog, raising
settings = load_settings()
configure_logging(settings)
log = structlog.get_logger("test")

def run(work=None, payload=None):
    asyncio.run(Digest(work, run_log=ScriptedRunLog()).run(TriggerType.HTTP, payload))
"""


def output(code: str, env: dict[str, str], **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + code],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
        timeout=60,
        env={"PYTHONPATH": ".", "TZ": "UTC", **env, **variables},
    )
    assert done.stderr == ""
    return done.stdout


def in_cloud(code: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output(code, CLOUD).splitlines()]


class TestInTheCloud:
    def test_each_event_is_one_line_that_cloud_logging_understands(self) -> None:
        [line] = in_cloud('log.warning("it_happened", name="ü", lines="a\\nb", half="\\ud83d")')

        assert line["time"].endswith("Z")
        assert {name: line[name] for name in line if name != "time"} == {
            "message": "it_happened",
            "severity": "WARNING",
            "environment": "production",
            "name": "ü",
            "lines": "a\nb",
            "half": "\ud83d",
        }

    def test_lines_carry_the_trace_of_their_request(self) -> None:
        lines = in_cloud(f"""
for headers in (
    {{"traceparent": "00-{TRACE}-00f067aa0ba902b7-01"}},
    {{"x-cloud-trace-context": "{TRACE.upper()}/74;o=1"}},
    {{"x-cloud-trace-context": "{TRACE}"}},
    {{"traceparent": "nonsense", "x-cloud-trace-context": "{TRACE}/99;o=0", "function-execution-id": "abc"}},
    {{"traceparent": "00-short-1-01"}},
):
    with request_context(headers, settings):
        log.info("inside")
log.info("outside")
""")

        def field(name: str) -> list[Any]:
            return [line.get(f"logging.googleapis.com/{name}") for line in lines]

        assert field("trace") == [f"projects/acme/traces/{TRACE}"] * 4 + [None, None]
        assert field("spanId") == ["00f067aa0ba902b7", "000000000000004a", None, "0000000000000063", None, None]
        assert field("trace_sampled") == [True, True, False, False, None, None]
        assert field("labels") == [None, None, None, {"execution_id": "abc"}, None, None]

    def test_a_failed_run_is_one_error_that_error_reporting_groups(self) -> None:
        lines = in_cloud('run(raising(LookupError("no feed")))')

        [error] = [line for line in lines if line["severity"] == "ERROR"]
        assert (error["message"], error["status"], error["workflow"]) == ("workflow_run_completed", "failed", "digest")
        assert error["run_id"]
        assert error["stack_trace"].startswith("Traceback (most recent call last):\n")
        assert error["stack_trace"].endswith("LookupError: no feed")
        assert error["serviceContext"] == {"service": "digest", "version": "digest-001"}
        assert [line["severity"] for line in lines] == ["INFO", "ERROR"]

    def test_an_authors_lines_carry_the_run(self) -> None:
        lines = in_cloud("""
async def work(ctx, payload):
    ctx.log.info("mine", count=3)
    structlog.get_logger().info("deeper")
run(work)
""")

        mine, deeper = (line for line in lines if line["message"] in {"mine", "deeper"})
        assert (mine["workflow"], mine["attempt"], mine["count"]) == ("digest", 1, 3)
        assert mine["run_id"] == deeper["run_id"] == lines[-1]["run_id"]

    def test_payloads_and_what_validation_refused_are_not_logged(self) -> None:
        logged = output(
            """
class Inner(BaseModel):
    count: int

async def work(ctx, payload):
    Inner.model_validate({"count": payload["word"]})
run(work, {"word": "s3cret, input_type=fake", "other": "s3cret"})
""",
            CLOUD,
        )

        assert "Input should be a valid integer" in logged
        assert "s3cret" not in logged

    def test_a_traceback_shows_the_authors_frames_and_not_ours_between_them(self) -> None:
        lines = in_cloud("""
async def work(ctx, payload):
    try:
        {}["first"]
    except KeyError as error:
        raise LookupError("second") from error
run(work)
""")

        trace = lines[-1]["stack_trace"]
        assert f"{os.sep}autopilot{os.sep}" not in trace
        assert trace.count("in work") == 2
        assert "KeyError: 'first'" in trace

    def test_a_traceback_of_an_error_that_arose_in_our_frames_keeps_them(self) -> None:
        lines = in_cloud("""
async def work(ctx, payload):
    await ctx.step("no step", 3)
run(work)
""")

        assert "context.py" in lines[-1]["stack_trace"]

    def test_a_lone_surrogate_in_an_error_does_not_stop_the_log(self) -> None:
        lines = in_cloud('run(raising(ValueError("half a \\ud83d")))')

        assert lines[-1]["severity"] == "ERROR"

    def test_the_standard_librarys_warnings_have_the_same_form_and_its_information_is_silent(self) -> None:
        lines = in_cloud("""
logging.getLogger("httpx").info("HTTP Request: GET https://user:s3cret@host/")
logging.getLogger("httpx").warning("slow %s", "host")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("lib").exception("broken")
""")

        assert [(line["severity"], line["message"]) for line in lines] == [
            ("WARNING", "slow host"),
            ("ERROR", "broken"),
        ]
        assert lines[1]["stack_trace"].endswith("ZeroDivisionError: division by zero")
        assert all(line["environment"] == "production" for line in lines)


class TestInATerminal:
    def test_lines_are_short_and_readable(self) -> None:
        with_trace = f"""
with request_context({{"traceparent": "00-{TRACE}-00f067aa0ba902b7-01"}}, settings):
    log.info("it_happened", count=3)
"""
        line = output(with_trace, {}).rstrip()

        assert re.fullmatch(r"\d\d:\d\d:\d\d \[info +\] it_happened +count=3", line), line

    def test_times_are_local(self) -> None:
        code = 'log.info("now")'

        utc, tokyo = (int(output(code, {}, TZ=zone)[:2]) for zone in ("UTC", "Asia/Tokyo"))

        assert (tokyo - utc) % 24 in {9, 10}

    def test_a_failed_run_ends_with_its_traceback(self) -> None:
        logged = output('run(raising(LookupError("no feed")))', {}).rstrip()

        assert logged.endswith("LookupError: no feed")
        assert logged.count("Traceback") == 1

    def test_what_a_workflow_logs_does_not_command_the_terminal(self) -> None:
        escapes = r"\x1b]0;owned\x07 \x1b[2J \x9b31m \u202e"
        logged = output(
            f"""
class Rude:
    def __repr__(self):
        return "{escapes}"
log.info("{escapes}", title="{escapes}", thing=Rude(), **{{"{escapes}": 1}})
logging.getLogger("lib").warning("{escapes}")
run(raising(LookupError("{escapes}")))
""",
            {},
        )

        assert logged.count(r"\x1b]0;owned") == 6
        assert not set(logged) & set("\x1b\x07\x9b\u202e\r")

    def test_what_the_terminal_has_no_bytes_for_does_not_fail_a_run(self) -> None:
        logged = output('log.info("ü \\ud83d")', {}, PYTHONIOENCODING="ascii")

        assert r"\xfc \ud83d" in logged


class TestInTheLogFile:
    def test_a_run_has_its_events_and_the_warnings_of_libraries(self, tmp_path: Path) -> None:
        file = tmp_path / "logs" / "log.jsonl"
        work = """
async def work(ctx, payload):
    logging.getLogger("lib").warning("slow %s", "host")
    with request_context({"function-execution-id": "abc"}, settings):
        ctx.log.info("mine", half="\\ud83d")
    raise LookupError("no feed")
run(work)
log.info("outside of a run")
"""
        printed = output(work, {}, AUTOPILOT_LOG_FILE=str(file))

        every_event = [json.loads(line) for line in file.read_text().splitlines()]
        [run_id] = {event["run_id"] for event in every_event if "run_id" in event}
        slow, mine, completed = read_log(file, run_id)
        assert (slow["event"], slow["level"]) == ("slow host", "warning")
        assert (mine["event"], mine["half"], mine["attempt"]) == ("mine", "\ud83d", 1)
        assert completed["exception"].endswith("LookupError: no feed")
        assert re.match(r"\d{4}-\d\d-\d\dT.*[+]00:00$", completed["timestamp"])
        assert not any(name.startswith("logging.googleapis.com") for name in mine)
        assert [event["event"] for event in every_event][-1] == "outside of a run"
        assert "outside of a run" in printed

    @pytest.mark.parametrize("mask", (0o000, 0o022, 0o077))
    def test_only_its_owner_can_read_it(self, tmp_path: Path, mask: int) -> None:
        file = tmp_path / "kept" / ".autopilot" / "log.jsonl"

        before = os.umask(mask)
        try:
            output('log.info("it")', {}, AUTOPILOT_LOG_FILE=str(file))
        finally:
            os.umask(before)

        assert [path.stat().st_mode & 0o777 for path in (file, file.parent, file.parent.parent)] == [
            0o600,
            0o700,
            0o700,
        ]

    @pytest.mark.slow
    def test_a_large_file_is_rotated_when_it_is_opened_and_still_read(self, tmp_path: Path) -> None:
        file = tmp_path / "log.jsonl"
        old = json.dumps({"event": "old", "run_id": "r"}) + "\n"
        file.write_text(old + " " * LOG_FILE_LIMIT + "\n")
        code = 'log.info("new", run_id="r")'

        for _ in range(2):
            output(code, {}, AUTOPILOT_LOG_FILE=str(file))

        assert [event["event"] for event in read_log(file, "r")] == ["old", "new", "new"]
        assert file.stat().st_size < 1000
        assert sorted(path.name for path in tmp_path.iterdir()) == ["log.1.jsonl", "log.jsonl"]

    def test_processes_that_log_at_once_keep_each_others_lines_whole(self, tmp_path: Path) -> None:
        file = tmp_path / "log.jsonl"
        environ = {"PYTHONPATH": ".", "AUTOPILOT_LOG_FILE": str(file)}
        code = PREAMBLE + 'for _ in range(100): log.info("x" * 20_000, run_id="r")'
        processes = [
            subprocess.Popen([sys.executable, "-c", code], env=environ, stdout=subprocess.DEVNULL) for _ in range(2)
        ]
        assert [process.wait(60) for process in processes] == [0, 0]

        assert len(list(read_log(file, "r"))) == 200
