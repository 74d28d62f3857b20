"""Decode text from elsewhere by what it says of its encoding, as far as that can be believed."""

import codecs
import re
from collections.abc import Iterator

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,39}")
_LATIN = "cp1252"
# Read as browsers read them (encoding.spec.whatwg.org): an older name means what extends it.
_EXTENDED_BY = {
    "ascii": _LATIN,
    "iso8859-1": _LATIN,
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}
_KNOWN = frozenset(
    {"utf-8", "koi8-r", "koi8-u", "mac-roman", "cp866", "cp874", "cp932", "cp949", "gb18030", "big5", "big5hkscs"}
    | {"euc_jp", "iso2022_jp"}
    | {f"cp125{number}" for number in range(9)}
    | {f"iso8859-{number}" for number in range(2, 17)}
)
"""What pages are written in. Python's other codecs are none (base64), or slow on bytes that are made for it (punycode)."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
_CHUNK = 64 * 1024


def decode(body: bytes, *declared: str | None) -> str:
    """Decode ``body``; bytes that fit no encoding become U+FFFD.

    Args:
        declared: names of encodings, the most credible first. One that is unknown or does not fit is passed over. A
            Latin one, which fits everything and is many servers' default, is believed only of what is not UTF-8.
    """
    for mark, name in _MARKS:
        if body.startswith(mark):
            return _decoded(body, name, errors="replace")
    names = [name for name in map(_codec, declared) if name is not None]
    for name in sorted([*names, "utf-8"], key=_LATIN.__eq__):
        try:
            return _decoded(body, name)
        except UnicodeError:
            continue
    return _decoded(body, names[0] if names else _LATIN, errors="replace")


def _decoded(body: bytes, name: str, *, errors: str = "strict") -> str:
    # In chunks: a codec keeps every other thread waiting until it returns.
    chunks: Iterator[bytes] = (body[start : start + _CHUNK] for start in range(0, len(body), _CHUNK))
    return "".join(codecs.iterdecode(chunks, name, errors))


def _codec(label: str | None) -> str | None:
    if label is None or _LABEL.fullmatch(label) is None:
        return None
    try:
        name = codecs.lookup(label).name
    except LookupError:
        return None
    name = _EXTENDED_BY.get(name, name)
    return name if name in _KNOWN else None
