"""``autopilot init`` and ``autopilot new``: bundles that are really made, tested and run."""

import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from autopilot.cli.app import app
from autopilot.version import VERSION
from tests.cli.conftest import command_environment

ROOT = Path(__file__).parents[2]

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """The command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, arguments)

    return run


def in_bundle(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=command_environment(),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_a_new_bundle_pins_this_version(invoke: Invoke, tmp_path: Path) -> None:
    made = invoke("init", "shop")

    assert made.exit_code == 0, made.output
    assert f"autopilot-workflows[api,firestore]=={VERSION}\n" in text(tmp_path / "shop/requirements.txt")
    assert f"autopilot-workflows[cli]=={VERSION}\n" in text(tmp_path / "shop/requirements-dev.txt")
    assert ".autopilot/\n" in text(tmp_path / "shop/.gitignore")
    assert not re.search(r"\$\$|\$\{", text(tmp_path / "shop/README.md"))


def test_a_bundle_can_take_the_package_from_a_path_or_an_address(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "a wheel.whl").touch()

    invoke("init", "one", "--package", "a wheel.whl")
    invoke("init", "two", "--package", "git+https://example.com/autopilot@v1")
    wrong = invoke("init", "three", "--package", "absent.whl")

    assert f"autopilot-workflows[cli] @ {(tmp_path / 'a wheel.whl').as_uri()}\n" in text(
        tmp_path / "one/requirements-dev.txt"
    )
    assert "autopilot-workflows[api,firestore] @ git+https://example.com/autopilot@v1\n" in text(
        tmp_path / "two/requirements.txt"
    )
    assert (wrong.exit_code, wrong.stderr.count("\n"), (tmp_path / "three").exists()) == (2, 1, False)


@pytest.mark.slow
def test_a_new_bundle_passes_its_tests_and_its_lint_and_runs(invoke: Invoke, tmp_path: Path) -> None:
    invoke("init", "shop")
    folder = tmp_path / "shop"

    tested = in_bundle(folder, "pytest", "-q", "-p", "no:asyncio")
    linted = in_bundle(folder, "ruff", "check", "--select", "E,F,I,UP,B,ANN", "--line-length", "120", ".")
    ran = in_bundle(folder, "autopilot", "run", "hello", "--payload", '{"name": "Ada"}')

    assert (tested.returncode, "3 passed" in tested.stdout) == (0, True), tested.stdout
    assert linted.returncode == 0, linted.stdout
    assert (ran.returncode, "Hello, Ada!" in ran.stdout) == (0, True), ran.stdout + ran.stderr


@pytest.mark.slow
def test_a_new_workflow_is_served_and_passes_its_test(invoke: Invoke, tmp_path: Path) -> None:
    invoke("init", "shop")
    folder = tmp_path / "shop"

    added = in_bundle(folder, "autopilot", "new", "take_order")
    tested = in_bundle(folder, "pytest", "-q", "-p", "no:asyncio")
    ran = in_bundle(folder, "autopilot", "run", "take_order")

    assert added.returncode == 0, added.stderr
    assert "6 passed" in tested.stdout, tested.stdout
    assert ran.returncode == 0, ran.stderr
    assert text(folder / "main.py").endswith(
        'hello = entry_point("functions.hello:Hello")\n'
        'take_order = entry_point("functions.take_order:TakeOrder")\n\n'
        "api = api_entry_point()\n"
    )


def configuration_of_this_repository() -> dict[str, bytes]:
    """What git has of ``terraform/``, less its tests and the variables of this bundle's workflows."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "terraform"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    names = [name for name in listed.split("\0") if name and not name.startswith("terraform/tests/")]
    names.remove("terraform/workflows.auto.tfvars.json")
    return {name: (ROOT / name).read_bytes() for name in names}


def configuration_in(bundle: Path) -> dict[str, bytes]:
    paths = [path for path in (bundle / "terraform").rglob("*") if path.is_file()]
    return {path.relative_to(bundle).as_posix(): path.read_bytes() for path in paths}


def test_a_new_bundle_has_this_repositorys_configuration(invoke: Invoke, tmp_path: Path) -> None:
    invoke("init", "shop")

    assert configuration_in(tmp_path / "shop") == configuration_of_this_repository()


@pytest.mark.slow
def test_a_wheel_that_was_built_from_the_sources_writes_the_same(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    built = subprocess.run(build, capture_output=True, text=True, check=False)  # the wheel from the archive of sources
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")

    made = subprocess.run(
        [sys.executable, "-m", "autopilot", "init", "shop"],
        cwd=tmp_path,
        env=command_environment() | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert made.returncode == 0, made.stderr
    assert configuration_in(tmp_path / "shop") == configuration_of_this_repository()


def test_a_configuration_is_brought_to_a_bundle_that_has_none(invoke: Invoke, tmp_path: Path) -> None:
    refused = invoke("init", ".", "--terraform")
    (tmp_path / "main.py").touch()

    added = invoke("init", ".", "--terraform")
    again = invoke("init", ".", "--terraform")

    assert (refused.exit_code, refused.stderr) == (2, "autopilot: . is not a bundle: it has no main.py\n")
    assert "+ terraform/versions.tf" in added.stdout
    assert again.stdout == f"terraform is now the configuration of Autopilot {VERSION}\n"
    assert configuration_in(tmp_path) == configuration_of_this_repository()


def test_what_a_bundle_changed_of_its_configuration_is_replaced_when_that_is_said(
    invoke: Invoke, tmp_path: Path
) -> None:
    invoke("init", "shop")
    (tmp_path / "shop/terraform/names.tf").write_text("# mine")
    (tmp_path / "shop/terraform/more.tf").write_text("# mine too")
    (tmp_path / "shop/terraform/apis.tf").unlink()

    refused = invoke("init", "shop", "--terraform")
    left = text(tmp_path / "shop/terraform/names.tf"), (tmp_path / "shop/terraform/apis.tf").exists()
    replaced = invoke("init", "shop", "--terraform", "--overwrite")
    alone = invoke("init", "shop", "--overwrite")

    assert (refused.exit_code, "in names.tf; nothing was changed" in refused.stderr) == (2, True)
    assert left == ("# mine", False)
    assert [line for line in replaced.stdout.splitlines() if line.startswith("  ")] == [
        "  + shop/terraform/apis.tf",
        "  ~ shop/terraform/names.tf",
    ]
    assert configuration_in(tmp_path / "shop") == configuration_of_this_repository() | {
        "terraform/more.tf": b"# mine too"
    }
    assert (alone.exit_code, alone.stderr) == (2, "autopilot: --overwrite is used with --terraform\n")


def test_a_folder_that_is_not_empty_is_left_alone(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    refused = invoke("init", ".")

    assert (refused.exit_code, refused.stderr) == (
        2,
        "autopilot: . is not an empty folder; nothing was changed\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_in_the_way_of_a_bundle_is_one_line(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    refused = invoke("init", "file/shop")

    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    "name", ("Shop", "2nd", "a-b", "", "class", "match", "print", "api", "x" * 31, "a_", "../x", "x\n")
)
def test_a_name_that_cannot_be_one_changes_nothing(invoke: Invoke, tmp_path: Path, name: str) -> None:
    invoke("init", "shop")
    before = snapshot(tmp_path)

    refused = invoke("new", name, "--source", "shop/main.py")

    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "cannot name a workflow" in refused.stderr
    assert snapshot(tmp_path) == before


def test_a_workflow_that_is_there_is_left_as_it_is(invoke: Invoke, tmp_path: Path) -> None:
    invoke("init", "shop")
    (tmp_path / "shop/tests/test_half.py").write_text("mine")
    before = snapshot(tmp_path)

    same, half, name = (invoke("new", name, "--source", "shop/main.py") for name in ("hello", "half", "entry_point"))

    assert same.stderr == "autopilot: functions/hello.py and tests/test_hello.py already exist; nothing was changed\n"
    assert half.stderr == "autopilot: tests/test_half.py already exists; nothing was changed\n"
    assert name.stderr == "autopilot: shop/main.py already uses the name entry_point; nothing was changed\n"
    assert {same.exit_code, half.exit_code, name.exit_code} == {2}
    assert snapshot(tmp_path) == before


def test_a_main_module_that_is_not_python_is_one_line(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("def (")

    refused = invoke("new", "shop")

    assert (refused.exit_code, refused.stderr.startswith("autopilot: main.py cannot be read: ")) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["main.py"]


def test_a_bundles_test_runner_is_the_one_of_this_repository() -> None:
    pinned = next(line for line in text(ROOT / "requirements-dev.txt").splitlines() if line.startswith("pytest=="))

    assert f"{pinned}\n" in text(ROOT / "autopilot/cli/templates/bundle/requirements-dev.txt.tmpl")


def snapshot(folder: Path) -> dict[Path, str]:
    return {path: text(path) for path in folder.rglob("*") if path.is_file()}


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
