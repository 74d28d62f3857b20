"""Which files of a bundle a function needs."""

from pathlib import Path

import pytest

from autopilot.errors import SourceInvalid
from autopilot.provisioning.sources import data_files, imported_files, requirement_files

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


def test_a_package_can_be_left_out_with_what_only_it_imports(tmp_path: Path) -> None:
    write(tmp_path, main="import lib.api.app, lib.api_keys\n", lib__api__app="import lib.charts, lib.times")
    write(tmp_path, lib__charts="", lib__times="", lib__api_keys="import lib.times")

    files = imported_files(tmp_path, ["main"], without="lib.api")

    assert files == {"main.py", "lib/api_keys.py", "lib/times.py"}


def test_the_data_of_a_package_is_what_is_no_python(tmp_path: Path) -> None:
    write(tmp_path, lib__api__app="", lib__api__pages__start="")
    for name in ("pages/static/page.css", "pages/start.html", "__pycache__/app.cpython-313.pyc", "../other.html"):
        (tmp_path / "lib" / "api" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lib" / "api" / name).write_text("…")

    assert data_files(tmp_path, "lib.api") == {"lib/api/pages/start.html", "lib/api/pages/static/page.css"}
    assert data_files(tmp_path, "somebody.elses") == set()


def test_data_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "icon.png").write_bytes(b"\x89PNG")

    with pytest.raises(SourceInvalid, match=r"lib/icon\.png: an archive takes text in UTF-8"):
        data_files(tmp_path, "lib")


def test_modules_that_import_each_other_end(tmp_path: Path) -> None:
    write(tmp_path, a="import b", b="import a")

    assert imported_files(tmp_path, ["a"]) == {"a.py", "b.py"}


def test_a_file_that_is_not_python_is_named(tmp_path: Path) -> None:
    write(tmp_path, broken="def (")

    with pytest.raises(SourceInvalid, match=r"broken\.py: it is not Python"):
        imported_files(tmp_path, ["broken"])


def test_requirements_come_with_the_files_they_name(tmp_path: Path) -> None:
    (tmp_path / "pins").mkdir()
    (tmp_path / "requirements.txt").write_text("-c pins/all.txt  # everything\n--requirement=more.txt\nhttpx==1\n")
    (tmp_path / "more.txt").write_text("-r pins/extra.txt\n")
    (tmp_path / "pins" / "all.txt").write_text("a==1\n")
    (tmp_path / "pins" / "extra.txt").write_text("-c all.txt\n")

    files = requirement_files(tmp_path)

    assert files == {"requirements.txt", "more.txt", "pins/all.txt", "pins/extra.txt"}


def test_a_file_that_requirements_name_and_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("-c constraints.txt\n")

    with pytest.raises(SourceInvalid, match=r"constraints\.txt: it is not there"):
        requirement_files(tmp_path)


def test_a_function_does_not_carry_the_command_nor_the_generator() -> None:
    files = imported_files(ROOT, ["main"])

    assert "autopilot/storage/firestore/store.py" in files
    assert "autopilot/storage/sqlite/store.py" in files
    assert not [
        file for file in files if file.startswith(("autopilot/cli", "autopilot/provisioning", "tests/", "functions/"))
    ]
