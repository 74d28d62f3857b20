"""Compressed bodies, however they are cut into chunks."""

import gzip
import itertools
import zlib
from collections.abc import AsyncIterator, Iterable

import httpx
import pytest
from hypothesis import given, strategies as st

from functions._decompression import MAX_GZIP_MEMBERS, decompressor_for
from functions._web_client import FetchFailed, read_body

LIMIT = 10_000
EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"


def response(chunks: Iterable[bytes], encoding: str) -> httpx.Response:
    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return httpx.Response(200, headers={"content-encoding": encoding}, content=stream())


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@given(
    parts=st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    size=st.sampled_from((1, 2, 7, 1000)),
    padding=st.sampled_from((b"", bytes(1), bytes(700), b"\x1f", b"anything")),
)
async def test_the_members_of_a_gzip_body_are_one_body(parts: list[bytes], size: int, padding: bytes) -> None:
    data = b"".join(map(gzip.compress, parts)) + padding

    assert await read_body(response(cut(data, size), "gzip"), LIMIT) == (b"".join(parts), True)


@pytest.mark.parametrize("size", (1, 2, 1000))
@pytest.mark.parametrize("wbits", (zlib.MAX_WBITS, -zlib.MAX_WBITS))
async def test_deflate_may_have_zlibs_header_or_none(wbits: int, size: int) -> None:
    body = b"all systems go" * 50

    assert await read_body(response(cut(zlib.compress(body, wbits=wbits), size), "Deflate "), LIMIT) == (body, True)


@pytest.mark.parametrize("encoding", ("gzip", "x-gzip", "deflate", "identity", ""))
async def test_a_body_without_a_byte_is_complete(encoding: str) -> None:
    assert await read_body(response([], encoding), LIMIT) == (b"", True)


@pytest.mark.parametrize(
    ("encoding", "data"),
    (
        # The time that gzip's header has would give the test another name in each process.
        ("gzip", gzip.compress(b"x" * 500, mtime=0) + gzip.compress(b"y" * 500, mtime=0)),
        ("deflate", zlib.compress(b"x" * 500)),
    ),
    ids=("gzip", "deflate"),
)
async def test_a_compressed_body_is_truncated_wherever_it_breaks_off(encoding: str, data: bytes) -> None:
    first = len(gzip.compress(b"x" * 500)) if encoding == "gzip" else 0
    for length in range(1, len(data)):
        if encoding == "gzip" and length in {first, first + 1}:
            continue  # one whole member, and a byte that begins nothing
        with pytest.raises(FetchFailed, match=f"its body is truncated: its {encoding} data breaks off"):
            await read_body(response([data[:length]], encoding), LIMIT)


@pytest.mark.parametrize("length", (LIMIT - 1, LIMIT, LIMIT + 1, 3 * LIMIT))
@pytest.mark.parametrize("encoding", ("gzip", "deflate", "identity"))
async def test_no_more_is_returned_than_the_limit(length: int, encoding: str) -> None:
    body = bytes(length)
    data = {"gzip": gzip.compress(body), "deflate": zlib.compress(body), "identity": body}[encoding]

    read = await read_body(response(cut(data, 64), encoding), LIMIT)

    assert read == (body[:LIMIT], length <= LIMIT)


@pytest.mark.parametrize("encoding", ("br", "zstd", "gzip, gzip", "gzip, br", "identity, BR"))
async def test_another_compression_is_refused(encoding: str) -> None:
    with pytest.raises(FetchFailed, match="compressed in a way that was not asked for"):
        await read_body(response([b"..."], encoding), LIMIT)


@pytest.mark.parametrize("encoding", ("utf-8", "UTF-8, identity", "none", "binary", "text/html", ","))
async def test_what_is_no_compression_is_passed_over(encoding: str) -> None:
    assert await read_body(response([b"plain"], encoding), LIMIT) == (b"plain", True)
    assert await read_body(response([gzip.compress(b"plain")], f"{encoding}, gzip"), LIMIT) == (b"plain", True)


@pytest.mark.parametrize("encoding", ("gzip", "deflate"))
async def test_what_is_not_compressed_is_not_valid(encoding: str) -> None:
    with pytest.raises(FetchFailed, match=f"its body is not valid {encoding}"):
        await read_body(response([b"<html>all systems go</html>"], encoding), LIMIT)


async def test_a_body_that_goes_on_for_ever_and_has_nothing_in_it_is_given_up() -> None:
    endless = itertools.chain([zlib.compress(b"")[:2]], itertools.repeat(EMPTY_BLOCK * 100))

    assert await read_body(response(endless, "deflate"), LIMIT) == (b"", False)


def test_a_body_of_too_many_members_is_not_valid() -> None:
    decompressor = decompressor_for("gzip")
    member = gzip.compress(b"")

    assert decompressor.decompress(member * MAX_GZIP_MEMBERS, LIMIT) == b""
    with pytest.raises(zlib.error, match="too many members"):
        decompressor.decompress(member, LIMIT)
