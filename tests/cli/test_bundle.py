"""This repository's own functions, through the command."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import command_environment

ROOT = Path(__file__).parents[2]


def run_uptime_check(database: Path, *options: str) -> subprocess.CompletedProcess[str]:
    payload = json.dumps({"targets": [{"url": "{url}"}]})
    command = [sys.executable, "-m", "autopilot", "run", "uptime_check", "--payload", payload, *options]
    environment = {**command_environment(), "AUTOPILOT_SQLITE_PATH": str(database)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.slow
def test_a_second_run_goes_on_from_what_the_first_left_on_disk(tmp_path: Path) -> None:
    database = tmp_path / "autopilot.db"

    first, second = run_uptime_check(database), run_uptime_check(database)

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert re.search(r"Total runs +1\n", plain(first.stdout))
    assert re.search(r"Total runs +2\n", plain(second.stdout))
    assert re.search(r"Success rate +100\.0 %\n", plain(second.stdout))


def plain(shown: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in shown.splitlines())
