"""The Makefile and its scripts, in a copy of their own: the environment is a stand-in that tells what it was given."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TELLS_ITS_ARGUMENTS = """#!/bin/sh
exec python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    return tmp_path


@pytest.fixture
def set_up(folder: Path) -> Path:
    python = folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(TELLS_ITS_ARGUMENTS)
    python.chmod(0o755)
    (folder / ".venv/.ready").touch()
    return folder


def make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # A make around the tests must not speak to the one inside.
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env={**inherited, **environment}, capture_output=True, text=True, check=False
    )


def arguments_of(ended: subprocess.CompletedProcess[str]) -> list[str]:
    assert ended.returncode == 0, ended.stderr
    arguments: list[str] = json.loads(ended.stdout)
    return arguments


@pytest.mark.parametrize(
    "payload",
    (
        """{"a": "it's \\"quoted\\""}""",
        '{"a": "$HOME $(shell echo no) $$ `id` ${x} $("}',
        '{"a":  "two  spaces; # no comment \\\\ \\n"}',
        '{"a":\n1}',
        "",
    ),
)
def test_a_payload_survives_make_and_the_shell(set_up: Path, payload: str) -> None:
    typed = make(set_up, "run", "WORKFLOW=feed_digest", f"PAYLOAD={payload}")

    assert arguments_of(typed) == ["-m", "autopilot", "run", "feed_digest", "--payload", payload]


def test_a_payload_is_taken_from_the_environment_too(set_up: Path) -> None:
    given = make(set_up, "run", WORKFLOW="feed_digest", PAYLOAD='{"a": "$x"}')

    assert arguments_of(given)[-1] == '{"a": "$x"}'


def test_the_default_run_checks_its_own_address(set_up: Path) -> None:
    arguments = arguments_of(make(set_up, "run"))

    assert arguments[3] == "uptime_check"
    assert json.loads(arguments[5]) == {"targets": [{"name": "this function", "url": "{url}"}]}


def test_another_workflow_has_no_default_payload(set_up: Path) -> None:
    assert arguments_of(make(set_up, "run", "WORKFLOW=feed_digest"))[3:] == ["feed_digest", "--payload", ""]


def test_dev_takes_a_port(set_up: Path) -> None:
    assert arguments_of(make(set_up, "dev", "PORT=9090")) == ["-m", "autopilot", "dev", "--port", "9090"]


def test_serve_takes_workflow_and_port(set_up: Path) -> None:
    arguments = arguments_of(make(set_up, "serve", "WORKFLOW=feed_digest", "PORT=9090"))

    assert arguments == ["-m", "autopilot", "serve", "feed_digest", "--port", "9090"]


def test_make_alone_lists_the_targets(set_up: Path) -> None:
    told = make(set_up).stdout

    for target in ("run", "dev", "serve", "test", "check", "bench", "setup", "clean"):
        assert f"\n  {target} " in told


@pytest.mark.parametrize(
    ("pythons", "line"),
    (
        ({}, "make: Python 3.11 or newer is needed, and none was found; see https://www.python.org/downloads/"),
        (
            {"python3": "echo 3.9"},
            "make: Python 3.11 or newer is needed, and the newest found is 3.9; see https://www.python.org/downloads/",
        ),
        (
            {"python3.12": 'case "$2" in *ensurepip*) exit 1;; *) echo 3.12;; esac', "python3": "echo 3.9"},
            "make: Python 3.12 has no venv module; install it (on Debian and Ubuntu: apt install python3.12-venv)",
        ),
        (
            {"python3.13": "echo 'shim: not installed' >&2; exit 127"},
            "make: Python 3.11 or newer is needed, and none was found; see https://www.python.org/downloads/",
        ),
    ),
    ids=["no python", "an old python", "a python without venv", "a shim without its python"],
)
def test_a_python_that_cannot_be_used_is_one_line(folder: Path, pythons: dict[str, str], line: str) -> None:
    for name, body in pythons.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)

    ended = subprocess.run(
        ["scripts/setup"], cwd=folder, env={"PATH": str(folder)}, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 1
    assert ended.stderr == f"{line}\n"
    assert not (folder / ".venv").exists()


@pytest.mark.parametrize(("ci", "code"), (({}, 0), ({"CI": "true"}, 1)), ids=["here", "in CI"])
def test_where_debian_13_cannot_be_had_the_tests_on_it_are_skipped_with_the_reason_and_fail_in_ci(
    folder: Path, ci: dict[str, str], code: int
) -> None:
    (folder / "id").write_text("#!/bin/sh\necho 1000\n")  # somebody who is not root
    (folder / "id").chmod(0o755)

    ended = subprocess.run(
        ["scripts/test-on-debian13"],
        cwd=folder,
        env={"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), **ci},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ended.returncode, ended.stderr) == (code, "== Not tested on Debian 13: chroot needs root\n")


def with_curl(folder: Path, script: str) -> dict[str, str]:
    """The environment of a machine whose curl does this."""
    curl = folder / "bin" / "curl"
    curl.parent.mkdir()
    curl.write_text(f"#!/bin/sh\n{script}\n")
    curl.chmod(0o755)
    return {"PATH": f"{curl.parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("curl", "reason"),
    (
        (
            "echo 'curl: (6) Could not resolve host: pypi.org' >&2; exit 6",
            "no vulnerability service answers (curl: (6)",
        ),
        ("""echo '{"vulnerabilities": []}'""", "the index that answers as pypi.org knows no vulnerabilities"),
    ),
)
def test_an_audit_without_a_service_is_skipped_with_its_reason(set_up: Path, curl: str, reason: str) -> None:
    ended = make(set_up, "audit", **with_curl(set_up, curl))

    assert ended.returncode == 0
    assert ended.stdout.startswith(f"audit skipped: {reason}")


def test_an_audit_asks_about_every_pinned_version_and_fails_with_it(set_up: Path) -> None:
    stand_in = set_up / ".venv/bin/python"
    stand_in.write_text('#!/bin/sh\nfor last; do :; done\ncat "$last" > audited; echo "$@"; exit 1\n')

    ended = make(set_up, "audit", **with_curl(set_up, """echo '{"vulnerabilities": [{"id": "PYSEC-2014-8"}]}'"""))

    assert ended.returncode != 0
    assert "pip_audit" in ended.stdout
    audited = (set_up / "audited").read_text().splitlines()
    for name in ("requirements.txt", "requirements-dev.txt", "constraints.txt"):
        pins = [line for line in (ROOT / name).read_text().splitlines() if "==" in line and not line.startswith("#")]
        assert pins
        assert set(pins) <= set(audited)
