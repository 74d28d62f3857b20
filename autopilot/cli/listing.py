"""Tables of which every column but the last is as wide as it needs to be."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

_GAP = "  "
_LEAST = 40
"""Where less than this is left of the line, what the last column says stands below it."""


def print_listing(
    console: Console, headers: tuple[str, ...], rows: Sequence[tuple[Text, ...]], *, indent: int = 0, right: str = ""
) -> None:
    """Print rows under their headers; the last column is cut to what is left of the line, or of a line of its own.

    Args:
        right: headers of columns of numbers, in one string.
    """
    lines = [tuple(Text(header, style="dim") for header in headers), *rows]
    widths = [max(line[index].cell_len for line in lines) for index in range(len(headers))]
    left = console.width - indent - sum(width + len(_GAP) for width in widths[:-1])
    is_beside = left >= min(_LEAST, widths[-1])
    for number, line in enumerate(lines):
        whole = Text(" " * indent)
        for cell, header, width in zip(line[:-1], headers, widths, strict=False):
            whole.append_text(_fitted(cell, width, is_number=header in right)).append(_GAP)
        if is_beside:
            whole.append_text(line[-1])
        _print(console, whole)
        if number and not is_beside and line[-1]:
            _print(console, Text(" " * indent + _GAP).append_text(line[-1]))


def _fitted(cell: Text, width: int, *, is_number: bool) -> Text:
    fitted = cell.copy()
    fitted.align("right" if is_number else "left", width)
    return fitted


def _print(console: Console, line: Text) -> None:
    line.rstrip()
    console.print(line, no_wrap=True, overflow="ellipsis")
