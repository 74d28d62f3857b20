"""Imports point downwards only."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent

LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "autopilot.errors",
        "autopilot.loopback",
        "autopilot.models",
        "autopilot.observability",
        "autopilot.private_files",
        "autopilot.settings",
        "autopilot.text",
        "autopilot.version",
    ),
    ("autopilot.core",),
    ("autopilot.context", "autopilot.storage"),
    ("autopilot.base_workflow",),
    ("autopilot.bundle",),
    ("autopilot.function",),
    ("autopilot.dispatch",),
    ("autopilot.api",),
    ("autopilot.dashboard",),
    ("autopilot.dashboard.entry_point",),
    ("autopilot",),
    ("functions", "autopilot.provisioning", "autopilot.testing"),
    ("autopilot.pytest_plugin",),
    ("autopilot.development",),
    ("autopilot.cli",),
    ("autopilot.__main__", "main"),
)
"""From the bottom; the package itself is the facade that authors import from. The longest name that fits decides."""


@cache
def modules() -> dict[str, Path]:
    paths = [*ROOT.glob("autopilot/**/*.py"), *ROOT.glob("functions/**/*.py"), ROOT / "main.py"]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


@cache
def imports(path: Path) -> list[tuple[str, bool]]:
    """Each module that is imported, and whether that is inside a function."""
    return list(_imports(path))


def _imports(path: Path) -> Iterator[tuple[str, bool]]:
    tree = ast.parse(path.read_text())
    at_the_top = set(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((name.name, node not in at_the_top) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a thing comes from"
            assert node.module is not None
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                yield whole if whole in modules() else node.module, node not in at_the_top


def layer(module: str) -> int:
    best = max((name for names in LAYERS for name in names if module == name or module.startswith(f"{name}.")), key=len)
    assert best != "autopilot" or module == "autopilot", f"{module} is in no layer: add it where it belongs"
    return next(number for number, names in enumerate(LAYERS) if best in names)


def ours(name: str) -> bool:
    return name.partition(".")[0] in {"autopilot", "functions", "main"}


def test_every_import_points_downwards() -> None:
    upwards = {
        (module, imported)
        for module, path in modules().items()
        for imported, _ in imports(path)
        if ours(imported) and layer(imported) > layer(module)
    }

    assert upwards == set()


def test_no_module_imports_another_in_a_circle() -> None:
    edges = {
        module: {name for name, _ in imports(path) if ours(name) and name != module}
        for module, path in modules().items()
    }
    while ends := {module for module, needs in edges.items() if not needs & edges.keys()}:
        edges = {module: needs for module, needs in edges.items() if module not in ends}

    assert edges == {}


def test_autopilot_knows_nothing_of_a_bundle() -> None:
    bundled = {
        (module, name)
        for module, path in modules().items()
        if module.startswith("autopilot")
        for name, _ in imports(path)
        if name.partition(".")[0] in {"functions", "main"}
    }

    assert bundled == set()


def test_functions_import_what_is_public_and_nothing_else_of_the_package() -> None:
    inner = {
        (module, name)
        for module, path in modules().items()
        if module.startswith("functions")
        for name, _ in imports(path)
        if name.startswith("autopilot.")
    }

    assert inner == set()


def test_only_the_stores_know_a_database() -> None:
    drivers = {
        module
        for module, path in modules().items()
        for name, _ in imports(path)
        if name == "sqlite3" or name.startswith(("google.api_core", "google.cloud"))
    }

    assert drivers
    assert all(module.startswith("autopilot.storage.") for module in drivers)


def test_only_the_settings_read_the_environment() -> None:
    readers = {
        module
        for module, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
    }

    # The local server passes its environment to the process that it starts; doctor looks where google-auth looks.
    assert readers == {"autopilot.settings", "autopilot.development.function_server", "autopilot.cli.doctor"}
