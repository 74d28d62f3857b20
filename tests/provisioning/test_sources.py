"""Which files of a bundle a function needs."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from autopilot.errors import SourceInvalid
from autopilot.provisioning.sources import imported_files, package_files, requirement_files

ROOT = Path(__file__).parents[2]


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_what_is_imported_comes_with_all_that_it_imports(tmp_path: Path) -> None:
    write(
        tmp_path,
        jobs__one="import os, jobs.shared\nfrom jobs import names\nfrom lib.deep.core import thing\n",
        jobs__shared="def late():\n    from jobs.lazy import value\n",
        jobs__lazy="value = 1",
        jobs__names="",
        jobs__other="import jobs.one",
        lib__deep__core="from . import sibling\nfrom ..top import x\nfrom .sibling import y",
        lib__deep__sibling="",
        lib__top="x = 1",
        lib__unused="",
    )
    for package in ("jobs", "lib/deep"):
        (tmp_path / package / "__init__.py").write_text("")

    files = imported_files(tmp_path, ["jobs.one"])

    assert files == {
        "jobs/__init__.py",
        "jobs/lazy.py",
        "jobs/names.py",
        "jobs/one.py",
        "jobs/shared.py",
        "lib/deep/__init__.py",
        "lib/deep/core.py",
        "lib/deep/sibling.py",
        "lib/top.py",
    }


def test_autopilot_itself_is_not_searched_for_imports(tmp_path: Path) -> None:
    write(tmp_path, main="from autopilot.api import entry\nimport jobs", autopilot__api__entry="import lib", lib="")
    write(tmp_path, jobs="import autopilot_jobs", autopilot_jobs="")

    assert imported_files(tmp_path, ["main"]) == {"main.py", "jobs.py", "autopilot_jobs.py"}


def test_autopilot_ships_whole_but_for_its_tools(tmp_path: Path) -> None:
    needed = {"__init__.py", "core/engine.py", "pages/page.css", "pages/start.html"}
    tools = {"__main__.py", "cli/app.py", "development/dev.py", "provisioning/a.py", "testing/deep/a.py"}
    leftovers = {"pages/.DS_Store", "core/__pycache__/engine.cpython-313.pyc"}
    for name in needed | tools | leftovers:
        path = tmp_path / "autopilot" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\xff" if name in leftovers else b"")

    assert package_files(tmp_path) == {f"autopilot/{name}" for name in needed}


def test_a_bundle_that_installs_autopilot_ships_none_of_it(tmp_path: Path) -> None:
    assert package_files(tmp_path) == set()


def test_data_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "autopilot" / "pages").mkdir(parents=True)
    (tmp_path / "autopilot" / "pages" / "icon.png").write_bytes(b"\x89PNG")

    with pytest.raises(SourceInvalid, match=r"autopilot/pages/icon\.png: an archive takes text in UTF-8"):
        package_files(tmp_path)


def test_modules_that_import_each_other_end(tmp_path: Path) -> None:
    write(tmp_path, a="import b", b="import a")

    assert imported_files(tmp_path, ["a"]) == {"a.py", "b.py"}


def test_a_file_that_is_not_python_is_named(tmp_path: Path) -> None:
    write(tmp_path, broken="def (")

    with pytest.raises(SourceInvalid, match=r"broken\.py: not Python"):
        imported_files(tmp_path, ["broken"])


def test_requirements_come_with_the_files_they_name(tmp_path: Path) -> None:
    (tmp_path / "pins").mkdir()
    (tmp_path / "requirements.txt").write_text("-c pins/all.txt  # everything\n--requirement=more.txt\nhttpx==1\n")
    (tmp_path / "more.txt").write_text("-r pins/extra.txt\n")
    (tmp_path / "pins" / "all.txt").write_text("a==1\n")
    (tmp_path / "pins" / "extra.txt").write_text("-c all.txt\n")

    files = requirement_files(tmp_path)

    assert files == {"requirements.txt", "more.txt", "pins/all.txt", "pins/extra.txt"}


def test_a_missing_file_that_requirements_name_is_named(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("-c constraints.txt\n")

    with pytest.raises(SourceInvalid, match=r"constraints\.txt: there is no such file"):
        requirement_files(tmp_path)


def copy(files: set[str], folder: Path) -> None:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)


LOADS_ALL_THAT_IT_NAMES = """
import sys
from importlib import import_module
from pathlib import Path

import autopilot
from autopilot.core.run_log import STORES

for name in autopilot.__all__:
    getattr(autopilot, name)
for opener in STORES.values():
    import_module(opener.partition(":")[0])
import_module("autopilot.api.app")
ours = [module for name, module in sys.modules.items() if name.partition(".")[0] == "autopilot"]
print(all(Path(module.__file__).is_relative_to(Path.cwd()) for module in ours), len(ours) > 40)
for tool in ("cli", "development", "provisioning", "testing"):
    try:
        import_module(f"autopilot.{tool}")
    except ModuleNotFoundError:
        print(tool, "is absent")
"""


@pytest.mark.slow
def test_what_ships_of_autopilot_loads_every_public_name_and_store_and_no_tool(tmp_path: Path) -> None:
    copy(package_files(ROOT), tmp_path)

    loaded = subprocess.run(
        [sys.executable, "-c", LOADS_ALL_THAT_IT_NAMES],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert loaded.stdout.splitlines() == [
        "True True",
        "cli is absent",
        "development is absent",
        "provisioning is absent",
        "testing is absent",
    ], loaded.stderr
