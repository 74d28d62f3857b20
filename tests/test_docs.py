"""What the documents say holds: their Python runs, their links lead somewhere."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("terraform/*.md")])


def python_blocks(document: Path) -> list[str]:
    """The blocks that are whole programs; those marked ``py`` are fragments to read."""
    return re.findall(r"^```python\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("document", [pytest.param(path, id=path.name) for path in DOCUMENTS if python_blocks(path)])
def test_the_python_in_a_document_runs_from_top_to_bottom(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ModuleType(f"page_{document.stem}")
    monkeypatch.setitem(sys.modules, page.__name__, page)  # pydantic looks annotations up in a class's module

    for block in python_blocks(document):
        exec(compile(block, str(document), "exec"), vars(page))


@pytest.mark.parametrize("document", [pytest.param(path, id=path.name) for path in DOCUMENTS])
def test_the_links_in_a_document_lead_to_files_that_are_there(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())

    assert [target for target in targets if not (document.parent / target).exists()] == []
