"""Scan XML and HTML from anybody, well-formed or not, in time and memory that grow linearly with the text.

There is no DTD and no entity but HTML's own, so nothing can expand. Nothing recurses, and nothing is looked for twice:
a terminator that is missing is missed once.
"""

import html
import re
from collections.abc import Iterator
from itertools import islice
from typing import Literal, NamedTuple


class Token(NamedTuple):
    """A piece of a document."""

    kind: Literal["text", "cdata", "start", "end", "empty"]
    """``text`` has character references, ``cdata`` has none; ``empty`` is a start tag that ends itself."""
    name: str
    """Of a tag, in lower case and with its prefix."""
    content: str
    """The text as it stands, or the attributes of a tag, for :func:`attributes`."""


def scan(text: str) -> Iterator[Token]:
    """Cut ``text`` into tags and the text between them; comments, declarations and instructions are left out.

    A ``<`` that begins no markup is text. Markup that never ends takes the rest of the document with it, except CDATA,
    whose text is kept.
    """
    tag = _TAG
    terminators = _Terminators(text)
    position = 0
    while (opening := _OPENING.search(text, position)) is not None:
        start = opening.start()
        if start > position:
            yield Token("text", "", text[position:start])
        if opening[1] is None:
            found = tag.match(text, start)
            if found is None:
                # A quote that is never closed. It is looked for once: from here on, a tag ends at the next ">".
                tag, position = _TAG_WITHOUT_QUOTES, start
                continue
            slash, name, content = found.groups()
            yield Token("end" if slash else "empty" if content.endswith("/") else "start", name.lower(), content)
            position = found.end()
        elif opening[1] == "![CDATA[":
            position = terminators.behind("]]>", start + 9)
            yield Token("cdata", "", text[start + 9 : position].removesuffix("]]>"))
        elif opening[1] == "!--":
            position = terminators.behind("-->", start + 4)
        elif opening[1] == "?":
            position = terminators.behind("?>", start)
        else:
            position = terminators.behind(">", start)
            if "[" in text[start:position]:
                position = terminators.behind(">", terminators.behind("]", start))
    if position < len(text):
        yield Token("text", "", text[position:])


class _Terminators:
    """Finds what ends a piece of markup, and remembers what the rest of the text does not have."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._missing: set[str] = set()

    def behind(self, terminator: str, start: int) -> int:
        """The position behind the next ``terminator``, or the end of the text."""
        if terminator not in self._missing:
            found = self._text.find(terminator, start)
            if found >= 0:
                return found + len(terminator)
            self._missing.add(terminator)
        return len(self._text)


_OPENING = re.compile(r"<(?:(!\[CDATA\[|!--|!|\?)|/?[^\W\d])")
# Possessive, so that nothing is tried twice. A "<" outside of quotes begins another tag: this one was never closed.
_TAG = re.compile(r"""<(/?)([^\s<>/"'=]++)((?:[^<>"']++|"[^"]*+"|'[^']*+')*+)(?:>|(?=<))""")
_TAG_WITHOUT_QUOTES = re.compile(r"""<(/?)([^\s<>/"'=]++)([^<>]*+)>?""")
_ATTRIBUTE = re.compile(r"""([^\s=<>"'/]++)\s*+(?:=\s*+("[^"]*+"|'[^']*+'|[^\s"'>]*+))?""")
_MAX_ATTRIBUTES = 200
_REFERENCE = re.compile(r"&(?:#[0-9]{1,8}|#[xX][0-9a-fA-F]{1,7}|[A-Za-z][A-Za-z0-9]{1,31});")


def attributes(token: Token) -> dict[str, str]:
    """The first attributes of a tag, 200 at most, by their names in lower case; the first of a name counts."""
    found: dict[str, str] = {}
    for name, value in map(re.Match.groups, islice(_ATTRIBUTE.finditer(token.content), _MAX_ATTRIBUTES)):
        text = value or ""
        found.setdefault(name.lower(), unescaped(text[1:-1] if text[:1] in {'"', "'"} else text))
    return found


def unescaped(text: str) -> str:
    """Replace character references, numeric and HTML's own. An ampersand that begins none stays."""
    return _REFERENCE.sub(lambda found: html.unescape(found[0]), text) if "&" in text else text


_INLINE = frozenset(
    {"a", "abbr", "b", "bdi", "bdo", "cite", "code", "del", "dfn", "em", "font", "i", "ins", "kbd", "mark", "q", "s"}
    | {"samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr"}
)
_SILENT = frozenset({"script", "style", "head", "template"})
_FORMATTING = _INLINE | {"br", "div", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "img", "p", "pre"}


def text_of_html(fragment: str) -> str:
    """The text of an HTML fragment, without tags, scripts and styles."""
    pieces: list[str] = []
    silenced_by = ""
    for token in scan(fragment):
        if silenced_by:
            if token.kind == "end" and token.name == silenced_by:
                silenced_by = ""
        elif token.kind in {"text", "cdata"}:
            pieces.append(unescaped(token.content) if token.kind == "text" else token.content)
        elif token.kind == "start" and token.name in _SILENT:
            silenced_by = token.name
        elif token.name not in _INLINE:
            pieces.append(" ")
    return "".join(pieces)


def is_html(text: str) -> bool:
    """Tell a title that is HTML from one that speaks of it: it closes an element that formats text."""
    return "<" in text and any(token.kind in {"end", "empty"} and token.name in _FORMATTING for token in scan(text))
