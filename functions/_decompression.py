"""Decompression of HTTP bodies, chunk by chunk, up to a number of bytes."""

import zlib
from collections.abc import Callable
from typing import Protocol

MAX_GZIP_MEMBERS = 1000
"""An empty member is 20 bytes and costs as much to begin as a large one."""

_GZIP_MAGIC = b"\x1f\x8b"


class BodyCompressedOtherwise(Exception):
    """The body's ``Content-Encoding`` is none that is known here."""


class Decompressor(Protocol):
    """Decompresses one body.

    Attributes:
        name: what the body is said to be, for people.
    """

    name: str

    def decompress(self, chunk: bytes, limit: int) -> bytes:
        """Return what ``chunk`` adds to the body: at most ``limit`` bytes, and the rest of it is lost.

        Raises:
            zlib.error: the data is not valid.
        """
        ...

    @property
    def is_complete(self) -> bool:
        """Whether the body may end here. One without a single byte may."""
        ...


def decompressor_for(content_encoding: str) -> Decompressor:
    """Choose by the ``Content-Encoding`` of the body.

    As in a browser, what is no coding at all does not count: some servers give a charset there.

    Raises:
        BodyCompressedOtherwise: it is a coding other than gzip and deflate, or several codings.
    """
    codings = [coding for each in content_encoding.split(",") if (coding := each.strip().lower()) in _DECOMPRESSORS]
    if len(codings) > 1:
        raise BodyCompressedOtherwise
    decompressor = _DECOMPRESSORS[codings[0]] if codings else _Identity
    if decompressor is None:
        raise BodyCompressedOtherwise
    return decompressor()


class _Identity:
    name = "text"
    is_complete = True

    def decompress(self, chunk: bytes, limit: int) -> bytes:
        return chunk[:limit]


class _Gzip:
    """One gzip member or several, one after the other; zeros or other bytes behind the last one do not count."""

    name = "gzip"

    def __init__(self) -> None:
        self._member: zlib._Decompress | None = None
        self._members = 0
        self._before = b""
        """The first byte of what may be another member."""
        self._has_ended = False

    def decompress(self, chunk: bytes, limit: int) -> bytes:
        body = bytearray()
        data = self._before + chunk
        self._before = b""
        while data and len(body) < limit and (member := self._member or self._next_member(data)) is not None:
            body += member.decompress(data, limit - len(body))
            data = member.unused_data
            self._member = None if member.eof else member
        return bytes(body)

    def _next_member(self, data: bytes) -> "zlib._Decompress | None":
        if self._has_ended:
            return None
        if self._members and not data.startswith(_GZIP_MAGIC):
            # A single first byte waits for the next chunk.
            self._before = data if data == _GZIP_MAGIC[:1] else b""
            self._has_ended = not self._before
            return None
        if self._members == MAX_GZIP_MEMBERS:
            raise zlib.error("too many members")
        self._members += 1
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)

    @property
    def is_complete(self) -> bool:
        return self._member is None


class _Deflate:
    """Deflate data with zlib's header, as the standard has it, or without, as some servers send it."""

    name = "deflate"

    def __init__(self) -> None:
        self._stream: zlib._Decompress | None = None
        self._header = b""

    def decompress(self, chunk: bytes, limit: int) -> bytes:
        if self._stream is None:
            self._header += chunk
            if len(self._header) < 2:
                return b""
            self._stream = zlib.decompressobj(wbits=zlib.MAX_WBITS if _is_zlib(self._header) else -zlib.MAX_WBITS)
            chunk = self._header
        return self._stream.decompress(chunk, limit) if not self._stream.eof and limit > 0 else b""

    @property
    def is_complete(self) -> bool:
        return self._stream.eof if self._stream is not None else not self._header


def _is_zlib(data: bytes) -> bool:
    """Whether ``data`` begins with zlib's header (RFC 1950): method 8, and a checksum of its two bytes."""
    return data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0


_DECOMPRESSORS: dict[str, Callable[[], Decompressor] | None] = {
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
    **dict.fromkeys(["aes128gcm", "br", "compress", "dcb", "dcz", "exi", "pack200-gzip", "x-compress", "zstd"]),
}
"""By content coding: those that IANA registers. None for those that are not known here."""
