"""The files of a bundle that a function needs: what its modules import, found without running them.

An import is the declaration: what a workflow's module imports of the bundle, at its top or inside a function, ships
with it, and so does what that imports. A module that is only named in a string is not seen.
"""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from autopilot.errors import SourceInvalid

REQUIREMENTS = "requirements.txt"
_REQUIREMENT_FILES = ("-r", "--requirement", "-c", "--constraint")


def imported_files(root: Path, modules: Iterable[str], *, without: str | None = None) -> set[str]:
    """The files below ``root`` that importing ``modules`` can read, as paths with slashes.

    Packages that have an ``__init__.py`` come with it. What is not below ``root`` is somebody else's, and left out, as
    is the package ``without`` and what only it imports.

    Raises:
        SourceInvalid: a file is not Python.
    """
    files: set[str] = set()
    open_modules = list(modules)
    seen: set[str] = set()
    while open_modules:
        module = open_modules.pop()
        if module in seen or (without is not None and f"{module}.".startswith(f"{without}.")):
            continue
        seen.add(module)
        open_modules += _parents(module)
        path = _file_of(root, module)
        if path is not None:
            files.add(path.relative_to(root).as_posix())
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            open_modules += _imports(root, path, package)
    return files


def data_files(root: Path, package: str) -> set[str]:
    """The files of a package below ``root``, and of the packages in it, that are no Python: templates, styles.

    Raises:
        SourceInvalid: one is no text, which Terraform cannot put in an archive.
    """
    files: set[str] = set()
    for path in root.joinpath(*package.split(".")).rglob("*"):
        if path.is_dir() or path.suffix in {".py", ".pyc"}:
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
        SourceInvalid: one of them is not there.
    """
    files: set[str] = set()
    open_files = [REQUIREMENTS]
    while open_files:
        name = open_files.pop()
        if name in files:
            continue
        if not (root / name).is_file():
            raise SourceInvalid(name, "it is not there; a function's build installs what it lists")
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
        raise SourceInvalid(path.relative_to(root).as_posix(), f"it is not Python: {error}") from error
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
