"""Markdown that shows text from elsewhere without interpreting it as Markdown or HTML."""

import html
import re

from functions._mentions import without_mentions

_MARKUP = re.compile(r"([\\`*_\[\]#~|!])")


def in_markdown(text: str) -> str:
    """Escape one line of plain text so that Markdown shows it unchanged: no markup, no HTML, no entities, no mentions."""
    return _MARKUP.sub(r"\\\1", html.escape(without_mentions(text), quote=False))


def link(text: str, address: str | None) -> str:
    """Link ``text`` to ``address`` (see :func:`functions._feed_parser.safe_link`); without one, only escape it."""
    return f"[{in_markdown(text)}]({address})" if address is not None else in_markdown(text)


class MarkdownPage:
    """A page that is written block by block, ``heading`` first."""

    def __init__(self, heading: str) -> None:
        self._blocks = [heading]

    def add(self, *lines: str) -> None:
        """Add a block."""
        self._blocks.append("\n".join(lines))

    @property
    def text(self) -> str:
        return "\n\n".join(self._blocks) + "\n"
