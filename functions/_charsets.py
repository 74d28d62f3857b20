"""The text of pages and feeds, in the charset that they declare."""

import codecs
import re

FALLBACK = "cp1252"
"""What browsers take a page for that is not UTF-8 and declares nothing."""

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_FIRST_TAGS = ((b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"))
_CHUNK = 64 * 1024
_DECLARATION_WITHIN = 1024
_DECLARED = re.compile(
    rb"""<\?xml[^>]{0,200}?\sencoding\s*=\s*["']([\w.:-]{1,40})|<meta[^>]{0,200}?\bcharset\s*=\s*["']?\s*([\w.:-]{1,40})""",
    re.IGNORECASE,
)

# Python has codecs that are no charsets, and one that takes quadratic time (punycode): these are those of the web.
_CHARSETS = frozenset(
    [
        "utf-8",
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "cp866",
        "koi8-r",
        "koi8-u",
        "mac-roman",
        "mac-cyrillic",
        "cp874",
        "cp1250",
        "cp1251",
        "cp1252",
        "cp1253",
        "cp1254",
        "cp1255",
        "cp1256",
        "cp1257",
        "cp1258",
        "iso8859-2",
        "iso8859-3",
        "iso8859-4",
        "iso8859-5",
        "iso8859-6",
        "iso8859-7",
        "iso8859-8",
        "iso8859-10",
        "iso8859-13",
        "iso8859-14",
        "iso8859-15",
        "iso8859-16",
        "gb18030",
        "big5hkscs",
        "euc_jp",
        "iso2022_jp",
        "cp932",
        "cp949",
    ]
)
_MEANT = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}
"""What browsers read a charset as: the larger one that pages use under its name."""

_ALSO_KNOWN_AS = {
    "dos-874": "cp874",
    "iso-8859-8-i": "iso8859-8",
    "unicode-1-1-utf-8": "utf-8",
    "windows-31j": "cp932",
    "windows-874": "cp874",
    "windows-949": "cp949",
    "x-euc-jp": "euc_jp",
    "x-gbk": "gb18030",
    "x-mac-cyrillic": "mac-cyrillic",
    "x-sjis": "cp932",
    "x-x-big5": "big5hkscs",
}
"""Labels that browsers know and Python does not."""


def page_text(body: bytes, declared: str | None) -> str:
    """Decode a page; what its charset does not have becomes U+FFFD.

    As in a browser, a byte order mark counts before ``declared``, the charset of the Content-Type, and that before what
    the page's first 1,024 bytes declare (``<meta charset>``, ``<?xml encoding>``). A charset that is not known, or none,
    is UTF-8 if the body is, else Windows-1252.
    """
    for mark, marked in _BYTE_ORDER_MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(marked, errors="replace")
    charset = _codec(declared) or _codec(_declared_inside(body))
    if charset is not None:
        return _decoded(body, charset)
    # A cut-off last character does not make it another charset.
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        return decoder.decode(body)
    except UnicodeDecodeError:
        return _decoded(body, FALLBACK)


def feed_text(body: bytes, declared: str | None) -> str:
    """Decode a feed; what its charset does not have becomes U+FFFD.

    As :func:`page_text`, except that a charset that does not fit is passed over, and that UTF-8 counts before a Latin
    one: that fits everything, and is the default of servers and of templates that know nothing of the text.
    """
    for mark, charset in (*_BYTE_ORDER_MARKS, *_FIRST_TAGS):
        if body.startswith(mark):
            return _decoded(body, charset).removeprefix("\ufeff")
    # What does not begin like UTF-16 is not, but half of all bytes could be read as it.
    named = map(_codec, (declared, _declared_inside(body)))
    charsets = [charset for charset in named if charset is not None and not charset.startswith("utf-16")]
    for charset in sorted([*charsets, "utf-8"], key=FALLBACK.__eq__):
        try:
            return _decoded(body, charset, errors="strict")
        except UnicodeError:
            continue
    return _decoded(body, charsets[0] if charsets else FALLBACK)


def _decoded(body: bytes, charset: str, *, errors: str = "replace") -> str:
    # In chunks: a codec keeps every other thread waiting until it returns, and replacing 4 MB takes half a second.
    chunks = (body[start : start + _CHUNK] for start in range(0, len(body), _CHUNK))
    return "".join(codecs.iterdecode(chunks, charset, errors))


def _declared_inside(body: bytes) -> str | None:
    found = _DECLARED.search(body[:_DECLARATION_WITHIN])
    charset = (found[1] or found[2]).decode("ascii", errors="replace") if found is not None else None
    # What could be read to find the declaration is not UTF-16.
    return "utf-8" if charset is not None and charset.lower().startswith("utf-16") else charset


def _codec(label: str | None) -> str | None:
    """The name of Python's codec for a charset's label; None if it is no charset of the web."""
    if label is None:
        return None
    label = label.strip().lower()
    try:
        name = _ALSO_KNOWN_AS.get(label) or codecs.lookup(label).name
    except (LookupError, ValueError):
        return None
    charset = _MEANT.get(name, name)
    return charset if charset in _CHARSETS else None
