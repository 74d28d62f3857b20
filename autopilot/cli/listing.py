"""Tables of which every column but the last is as wide as it needs to be."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

_GAP = 2
_LEAST = 12
"""Narrower than this the last column says nothing, and is left out."""


def print_listing(
    console: Console, headers: tuple[str, ...], rows: Sequence[tuple[Text, ...]], *, indent: int = 0, right: str = ""
) -> None:
    """Print rows under their headers; the last column is cut to what is left of the line.

    Args:
        right: headers of columns of numbers, in one string.
    """
    lines = [tuple(Text(header, style="dim") for header in headers), *rows]
    widths = [max(line[index].cell_len for line in lines) for index in range(len(headers))]
    used = sum(widths[:-1]) + _GAP * (len(headers) - 1) + indent
    left = min(widths[-1], console.width - used)
    table = Table.grid(padding=(0, _GAP, 0, 0))
    for header, width in zip(headers[:-1], widths[:-1], strict=True):
        table.add_column(width=width, no_wrap=True, justify="right" if header in right else "left")
    is_shown = left >= min(_LEAST, widths[-1])
    if is_shown:
        table.add_column(width=left, no_wrap=True, overflow="ellipsis")
    for line in lines:
        cells = line if is_shown else line[:-1]
        table.add_row(*(Text(" " * (indent if index == 0 else 0)) + cell for index, cell in enumerate(cells)))
    if indent:
        table.columns[0].width = widths[0] + indent
    console.print(table)
