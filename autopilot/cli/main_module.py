"""The text of a bundle's ``main.py``: one line for each function, added without touching the rest."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

_MODULE, _FUNCTION, _API = "autopilot.function.entry_point", "entry_point", "api_entry_point"


class MainModuleUnreadable(ValueError):
    """The text is not Python; the message says where."""


@dataclass(frozen=True, slots=True)
class _MadeFunction:
    """A statement ``name = maker(...)``."""

    name: str
    call: ast.Call
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


def functions_in(text: str) -> list[str]:
    """The names of the functions that ``entry_point`` makes in it, without running anything.

    Raises:
        MainModuleUnreadable: it is not Python.
    """
    tree = _parse(text)
    return [function.name for function in _made_by(tree, _imported_as(tree, _FUNCTION))]


def with_function(text: str, name: str, path: str) -> str:
    """``text`` with the line ``name = entry_point("path")``, before the first function whose name is greater.

    A call of ``api_entry_point``, which stands below the functions, gets the name as one more argument.

    Raises:
        MainModuleUnreadable: it is not Python.
    """
    tree = _parse(text)
    maker = _imported_as(tree, _FUNCTION)
    if maker is None:
        return with_function(_with_import(text, tree), name, path)
    lines = _lines(text)
    functions = list(_made_by(tree, maker))
    api = next(_made_by(tree, _imported_as(tree, _API)), None)
    if api is not None:
        _add_argument(lines, api.call, name)
    line = f'{name} = {maker}("{path}")'
    smaller = [function for function in functions if function.name < name]
    if functions and functions[0] in smaller:
        before = next((index for index, function in enumerate(functions) if function.name > name), len(functions))
        _insert(lines, functions[before - 1].end, line)
    elif functions:
        _insert(lines, _above_its_comment(lines, functions[0].first), line)
    elif api is not None:
        _insert(lines, _above_its_comment(lines, api.first), line, "")
    else:
        _insert(lines, len(lines), "", line)
    return "".join(lines)


def _parse(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise MainModuleUnreadable(str(error)) from None


def _imported_as(tree: ast.Module, function: str) -> str | None:
    """The name by which the module knows a function of :mod:`autopilot.function.entry_point`."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == _MODULE and not node.level:
            for alias in node.names:
                if alias.name == function:
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


def _made_by(tree: ast.Module, maker: str | None) -> Iterator[_MadeFunction]:
    for node in tree.body:
        match node:
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Call(func=ast.Name(id=called)) as call,
                lineno=first,
                end_lineno=int(end),
            ) if called == maker:
                yield _MadeFunction(name, call, first - 1, end)


def _add_argument(lines: list[str], call: ast.Call, name: str) -> None:
    names = [argument for argument in call.args if isinstance(argument, ast.Name)]
    greater = next((argument for argument in names if argument.id > name), None)
    if greater is not None:
        _splice(lines, greater.lineno, greater.col_offset, f"{name}, ")
    elif call.args:
        last = call.args[-1]
        _splice(lines, last.end_lineno or 0, last.end_col_offset or 0, f", {name}")
    else:
        separator = ", " if call.keywords else ""
        opening = _after_the_parenthesis(lines, call)
        _splice(lines, call.func.end_lineno or 0, opening, f"{name}{separator}")


def _after_the_parenthesis(lines: list[str], call: ast.Call) -> int:
    line = lines[(call.func.end_lineno or 1) - 1].encode()
    return line.index(b"(", call.func.end_col_offset or 0) + 1


def _splice(lines: list[str], line: int, column: int, text: str) -> None:
    """Put ``text`` at a place as :mod:`ast` counts it: lines from 1, columns in bytes of UTF-8."""
    whole = lines[line - 1].encode()
    lines[line - 1] = (whole[:column] + text.encode() + whole[column:]).decode()


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
