"""Bundles that tests write into a folder and import in this process."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def fresh_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget, after the test, what it imported from its folder."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "main", raising=False)
    yield
    for name in [name for name, module in sys.modules.items() if _is_below(tmp_path, module)]:
        del sys.modules[name]


def _is_below(folder: Path, module: ModuleType) -> bool:
    names = getattr(module, "__dict__", {})
    places = [names.get("__file__") or "/", *(names.get("__path__") or ())]
    return any(Path(place).is_relative_to(folder) for place in places)
