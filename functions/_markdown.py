"""Markdown that shows text from elsewhere without interpreting it as Markdown or HTML."""

import html
import json
import re

_MARKUP = re.compile(r"([\\`*_\[\]#~|!])")
_MENTION = re.compile(r"@(?=\w)")


def in_markdown(text: str) -> str:
    """Escape one line of plain text so that Markdown shows it unchanged: no markup, no HTML, no entities.

    A zero-width space follows each ``@`` before a word: Slack, Discord and Mattermost notify nobody then. They have no
    escape for a mention; those of Slack in angle brackets (``<!channel>``) are escaped as HTML.
    """
    return _MARKUP.sub(r"\\\1", _MENTION.sub("@\u200b", html.escape(text, quote=False)))


def link(text: str, address: str | None) -> str:
    """Link ``text`` to ``address`` (see :func:`functions._feed_parser.safe_link`); without one, only escape it."""
    return f"[{in_markdown(text)}]({address})" if address is not None else in_markdown(text)


class MarkdownPage:
    """A page that is written block by block, with a limited number of bytes for its lines.

    Args:
        heading: the first block.
        room: the bytes that :meth:`has_room_for` can give away.
    """

    def __init__(self, heading: str, room: int) -> None:
        self._blocks = [heading]
        self._room = room

    def has_room_for(self, line: str) -> bool:
        """Reserve the bytes that ``line`` needs as JSON; False if there are not enough left."""
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
