"""The command where a part of what it can use is not installed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import command_environment, write_greeting

ABSENT = """
import sys


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.startswith({absent!r}):
            raise ModuleNotFoundError("not there", name=name)


sys.meta_path.insert(0, Absent())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "absent", "extra"),
    (
        (("--version",), "typer", "cli"),
        (("manifest",), "google.cloud.firestore", "firestore"),
        (("runs",), "google.cloud.firestore", "firestore"),
        (("dev",), "google.cloud.firestore", "firestore"),
    ),
)
def test_what_is_not_installed_is_one_line_that_says_how_to_get_it(
    tmp_path: Path, arguments: tuple[str, ...], absent: str, extra: str
) -> None:
    write_greeting(tmp_path)
    (tmp_path / "sitecustomize.py").write_text(ABSENT.format(absent=absent))
    environment = command_environment()
    environment |= {
        "PYTHONPATH": f"{tmp_path}:{environment['PYTHONPATH']}",
        "AUTOPILOT_STORE": "firestore",
        "FIRESTORE_EMULATOR_HOST": "127.0.0.1:1",
        "GOOGLE_CLOUD_PROJECT": "shop",
    }

    ended = subprocess.run(
        [sys.executable, "-m", "autopilot", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1), ended.stderr
    assert f"pip install 'autopilot-workflows[{extra}]'" in ended.stderr
