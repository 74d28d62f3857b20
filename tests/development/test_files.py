import os
from pathlib import Path

import pytest

from autopilot.development.files import changed, file_times


@pytest.mark.parametrize("name", ("main.py", "functions/a.py", ".env", "functions/templates/page.html"))
def test_a_file_that_matters_is_watched(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    before = file_times(tmp_path)
    path.write_text("1")
    made = file_times(tmp_path)
    os.utime(path, ns=(1, 1))
    written = file_times(tmp_path)
    path.unlink()

    assert changed(before, made) == changed(made, written) == changed(written, file_times(tmp_path)) == [str(path)]


@pytest.mark.parametrize(
    "name",
    (".venv/a.py", "env/lib/a.py", "tests/test_a.py", "functions/__pycache__/a.py", "notes.txt", ".autopilot/a.py"),
)
def test_what_does_not_matter_is_not(tmp_path: Path, name: str) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env/pyvenv.cfg").touch()
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()

    assert file_times(tmp_path) == {}
