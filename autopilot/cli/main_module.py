"""The text of a bundle's ``main.py``: one line for each function, added without touching the rest."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

_MODULE, _FUNCTION = "autopilot.entry_point", "entry_point"


class MainModuleUnreadable(ValueError):
    """The text is not Python; the message says where."""


@dataclass(frozen=True, slots=True)
class _FunctionLine:
    name: str
    first: int
    """Its first line, counted from 0."""
    end: int
    """The line after its last one."""


def names_in(text: str) -> set[str]:
    """Every name that the module's top level binds.

    Raises:
        MainModuleUnreadable: it is not Python.
    """
    names: set[str] = set()
    for node in _parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        else:
            bound = (part for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store))
            names |= {part.id for part in bound}
    return names


def with_function(text: str, name: str, path: str) -> str:
    """``text`` with the line ``name = entry_point("path")``, before the first function whose name is greater.

    Raises:
        MainModuleUnreadable: it is not Python.
    """
    tree = _parse(text)
    maker = _maker(tree)
    if maker is None:
        return with_function(_with_import(text, tree), name, path)
    lines = _lines(text)
    line = f'{name} = {maker}("{path}")'
    functions = list(_functions(tree, maker))
    greater = next((index for index, function in enumerate(functions) if function.name > name), len(functions))
    if greater:
        _insert(lines, functions[greater - 1].end, line)
    elif functions:
        _insert(lines, _above_its_comment(lines, functions[0].first), line)
    else:
        _insert(lines, len(lines), "", line)
    return "".join(lines)


def _parse(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise MainModuleUnreadable(str(error)) from None


def _maker(tree: ast.Module) -> str | None:
    """The name by which the module knows ``entry_point``."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == _MODULE and not node.level:
            for alias in node.names:
                if alias.name == _FUNCTION:
                    return alias.asname or alias.name
    return None


def _with_import(text: str, tree: ast.Module) -> str:
    lines = _lines(text)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    docstring = tree.body[:1] if ast.get_docstring(tree) is not None else []
    above = imports[-1:] or docstring
    gap = [] if imports or not docstring else [""]
    _insert(lines, above[0].end_lineno or 0 if above else 0, *gap, f"from {_MODULE} import {_FUNCTION}")
    return "".join(lines)


def _functions(tree: ast.Module, maker: str) -> Iterator[_FunctionLine]:
    for node in tree.body:
        match node:
            case ast.Assign(
                targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id=called)), lineno=first, end_lineno=int(end)
            ) if called == maker:
                yield _FunctionLine(name, first - 1, end)


def _lines(text: str) -> list[str]:
    # Not str.splitlines: to Python a form feed ends no line.
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _insert(lines: list[str], position: int, *added: str) -> None:
    newline = "\r\n" if any(line.endswith("\r\n") for line in lines) else "\n"
    if position and not lines[position - 1].endswith("\n"):
        lines[position - 1] += newline
    lines[position:position] = [f"{line}{newline}" for line in added]


def _above_its_comment(lines: list[str], position: int) -> int:
    while position and lines[position - 1].startswith("#"):
        position -= 1
    return position
