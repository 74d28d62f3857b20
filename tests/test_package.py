"""What a wheel of Autopilot carries."""

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_is_the_typed_package_and_the_command_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr

    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry_points = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()

    assert {name.split("/")[0] for name in names} == {"autopilot", "autopilot_workflows-0.1.0.dist-info"}
    assert "autopilot/py.typed" in names
    templates = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("autopilot/cli/templates/**/*.tmpl")}
    assert templates
    assert templates <= set(names)
    assert "autopilot_workflows-0.1.0.dist-info/licenses/LICENSE" in names
    assert "autopilot = autopilot.cli:main" in entry_points


def test_every_requirement_is_pinned_and_within_the_range_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ranges = [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
    ]
    pinned = _pins("requirements.txt") | _pins("requirements-dev.txt")

    for requirement in ranges:
        name, _, least = requirement.partition(">=")
        assert _numbers(pinned[name]) >= _numbers(least or "0"), requirement


def test_what_is_deployed_is_what_the_package_needs_in_the_cloud_and_what_the_workflows_need() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = project["dependencies"] + extras["firestore"] + extras["api"]

    assert set(_pins("requirements.txt")) == {each.partition(">=")[0] for each in needed} | {
        "cryptography",
        "httpcore",
    }


def test_the_classifiers_name_the_pythons_that_are_tested_which_are_the_oldest_and_the_deployed_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: "
    named = [each.removeprefix(prefix) for each in project["classifiers"] if each.startswith(prefix)]
    tested = re.search(r"python: (\[.*\])", (ROOT / ".github/workflows/deploy.yml").read_text())
    deployed = re.search(r'default +\S* "python3(\d+)"', (ROOT / "terraform/variables.tf").read_text())

    assert tested is not None
    assert deployed is not None
    assert named == json.loads(tested[1])
    assert named == [project["requires-python"].removeprefix(">="), f"3.{deployed[1]}"]


def test_no_requirement_is_pinned_twice() -> None:
    direct = [*_pins("requirements.txt"), *_pins("requirements-dev.txt")]

    assert len(set(direct)) == len(direct)
    assert set(direct).isdisjoint(name.lower().replace("_", "-") for name in _pins("constraints.txt"))


def _pins(file: str) -> dict[str, str]:
    lines = (ROOT / file).read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith(("#", "-"))]
    assert all(line.count("==") == 1 for line in wanted), f"{file}: a line without =="
    return dict(line.split("==") for line in wanted)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
