"""Which changes of a bundle's files restart what serves it."""

from pathlib import Path

import pytest
from watchfiles import Change

from autopilot.development.files import changes, matters


@pytest.mark.parametrize("name", ("main.py", "functions/a.py", ".env", "functions/templates/page.html"))
@pytest.mark.parametrize("change", Change)
def test_a_source_its_data_and_the_env_file_matter(tmp_path: Path, name: str, change: Change) -> None:
    assert matters(tmp_path, tmp_path / name, change)


@pytest.mark.parametrize(
    "name",
    (
        ".venv/a.py",
        "env/lib/a.py",
        "tests/test_a.py",
        "functions/__pycache__/a.py",
        "notes.txt",
        ".autopilot/a.py",
        ".main.py.swp",
        "functions",
    ),
)
@pytest.mark.parametrize("change", Change)
def test_environments_tests_and_hidden_files_do_not(tmp_path: Path, name: str, change: Change) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "pyvenv.cfg").touch()

    assert not matters(tmp_path, tmp_path / name, change)


@pytest.mark.parametrize(("name", "expected"), (("a.py", True), ("notes.txt", False), ("__pycache__/a.py", False)))
def test_an_added_folder_matters_for_the_files_in_it(tmp_path: Path, *, name: str, expected: bool) -> None:
    path = tmp_path / "functions" / "deep" / name
    path.parent.mkdir(parents=True)
    path.touch()

    assert matters(tmp_path, tmp_path / "functions", Change.added) is expected
    assert not matters(tmp_path, tmp_path / "functions", Change.modified)


def test_changes_are_reported_together_and_silence_too(tmp_path: Path) -> None:
    found = changes(tmp_path, or_every_seconds=0.05)
    before = next(found)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "main.py").touch()
    (tmp_path / "greeting.py").touch()
    after = next(paths for paths in found if paths)

    assert before == []
    assert after == ["greeting.py", "main.py"]
