"""The text of a bundle's ``main.py``, read and extended without running it."""

import re
import symtable

_ENTRY_POINT_LINE = re.compile(r"^(\w+) *= *entry_point\(.*\).*$", re.MULTILINE)


def function_names(text: str) -> list[str]:
    """The names that are assigned an ``entry_point(...)`` on one line."""
    return [line[1] for line in _ENTRY_POINT_LINE.finditer(text)]


def defines(text: str, name: str) -> bool:
    """Return True if the module uses ``name`` at its top level.

    Raises:
        SyntaxError, ValueError: the text is not Python.
    """
    return name in symtable.symtable(text, "main.py", "exec").get_identifiers()


def with_function(text: str, name: str, line: str) -> str | None:
    """``text`` with ``line``, which defines ``name``, below the last ``entry_point`` line.

    Returns:
        None if there is no such line, or the module would not define ``name`` afterwards: the place is not plain to see.
    """
    if not (lines := list(_ENTRY_POINT_LINE.finditer(text))):
        return None
    last = lines[-1]
    line_end = "\r" if last[0].endswith("\r") else ""  # the rest of a Windows line end, which stays what it is
    extended = f"{text[: last.end()]}\n{line}{line_end}{text[last.end() :]}"
    try:
        return extended if defines(extended, name) else None
    except SyntaxError:
        return None
