"""Markdown that shows what others wrote without letting them write Markdown or HTML."""

import html
import json
import re

_MARKUP = re.compile(r"([\\`*_\[\]#~|!])")


def in_markdown(text: str) -> str:
    """One line of plain text, written so that Markdown shows it as it is: no markup, no HTML, no entities."""
    return _MARKUP.sub(r"\\\1", html.escape(text, quote=False))


def link(text: str, address: str | None) -> str:
    """``text`` as a link to ``address`` (see :func:`functions._feeds.safe_link`); without one, as text."""
    return f"[{in_markdown(text)}]({address})" if address is not None else in_markdown(text)


class MarkdownPage:
    """A page that is written block by block, with room for so many bytes of lines.

    Args:
        heading: the first block.
        room: bytes that :meth:`has_room_for` can give away.
    """

    def __init__(self, heading: str, room: int) -> None:
        self._blocks = [heading]
        self._room = room

    def has_room_for(self, line: str) -> bool:
        """Take the room that ``line`` needs as JSON, if there is that much left."""
        size = len(json.dumps(line, ensure_ascii=False).encode())
        if size > self._room:
            return False
        self._room -= size
        return True

    def add(self, *lines: str) -> None:
        """Add a block."""
        self._blocks.append("\n".join(lines))

    @property
    def text(self) -> str:
        return "\n\n".join(self._blocks) + "\n"
