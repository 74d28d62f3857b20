"""The files of a bundle that go into a function's archive, found without running them.

What a module imports of the bundle, at its top or inside a function, ships with it, and so does what that imports. A
module that is only named in a string is not seen. So Autopilot itself, which names its stores and public names in
strings, ships whole where it is a folder of the bundle, without the packages that no function needs.

The standard library's modulefinder would do, but fails on a folder without ``__init__.py``; grimp draws the graph of
installed packages, and a bundle's modules are files in a folder.
"""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from autopilot.errors import SourceInvalid

REQUIREMENTS = "requirements.txt"
_REQUIREMENT_FILES = ("-r", "--requirement", "-c", "--constraint")

PACKAGE = "autopilot"
_TOOLS = {"__main__.py", "__pycache__", "cli", "development", "provisioning", "testing"}
"""Parts of the package that only commands and tests use."""


def imported_files(root: Path, modules: Iterable[str]) -> set[str]:
    """The files below ``root`` that importing ``modules`` can read, as paths with slashes.

    Includes each package's ``__init__.py``. Autopilot's own files are left to :func:`package_files`, and what is not
    below ``root`` to the requirements.

    Raises:
        SourceInvalid: a file is not Python.
    """
    files: set[str] = set()
    open_modules = list(modules)
    seen: set[str] = set()
    while open_modules:
        module = open_modules.pop()
        if module in seen or module.partition(".")[0] == PACKAGE:
            continue
        seen.add(module)
        open_modules += _parents(module)
        path = _file_of(root, module)
        if path is not None:
            files.add(path.relative_to(root).as_posix())
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            open_modules += _imports(root, path, package)
    return files


def package_files(root: Path) -> set[str]:
    """The files of Autopilot itself that a function needs, templates included; none where the requirements install it.

    Raises:
        SourceInvalid: a file is not text, which Terraform cannot put in an archive.
    """
    files: set[str] = set()
    for part in (root / PACKAGE).glob("*"):
        if part.name in _TOOLS:
            continue
        for path in [part] if part.is_file() else part.rglob("*"):
            if path.is_dir() or path.suffix == ".pyc" or path.name.startswith("."):
                continue
            name = path.relative_to(root).as_posix()
            try:
                path.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise SourceInvalid(name, f"an archive takes text in UTF-8: {error}") from error
            files.add(name)
    return files


def requirement_files(root: Path) -> set[str]:
    """``requirements.txt`` and the files that it names.

    Raises:
        SourceInvalid: one of them does not exist.
    """
    files: set[str] = set()
    open_files = [REQUIREMENTS]
    while open_files:
        name = open_files.pop()
        if name in files:
            continue
        if not (root / name).is_file():
            raise SourceInvalid(name, "there is no such file; a function's build installs what it lists")
        files.add(name)
        for line in (root / name).read_text(encoding="utf-8").splitlines():
            option, _, value = line.strip().replace("=", " ", 1).partition(" ")
            if option in _REQUIREMENT_FILES:
                open_files.append((Path(name).parent / value.split("#")[0].strip()).as_posix())
    return files


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _file_of(root: Path, module: str) -> Path | None:
    base = root.joinpath(*module.split("."))
    candidates = (base / "__init__.py", base.with_name(f"{base.name}.py"))
    return next((path for path in candidates if path.is_file()), None)


def _imports(root: Path, path: Path, package: str) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise SourceInvalid(path.relative_to(root).as_posix(), f"not Python: {error}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(node, package)
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)  # each may be a module


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    base = package.split(".")[: len(package.split(".")) - (node.level - 1)]
    return ".".join([*base, *filter(None, [node.module])])
