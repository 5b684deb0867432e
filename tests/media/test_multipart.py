"""The form in which servers give files to one another."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from homeserver.media.multipart import Malformed, Parts, after_file, before_file, boundary_of


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def read(data: bytes, size: int, boundary: bytes = b"b") -> tuple[dict[str, str], bytes]:
    parts = Parts(pieces(data, size), boundary)
    headers = await parts.headers()
    return headers, b"".join([piece async for piece in parts.file()])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100_000])
@pytest.mark.parametrize("body", [b"", b"hello", b"\r\n--", b"\r\n--c\r\n" * 50, bytes(range(256)) * 300])
async def test_what_is_written_can_be_read(body: bytes, size: int) -> None:
    """However the bytes are cut on their way, headers and file come out as they went in."""
    data = before_file("b", {"Content-Type": "image/png"}) + body + after_file("b")
    assert await read(data, size) == ({"content-type": "image/png"}, body)


@pytest.mark.parametrize(
    "data",
    [
        b"preamble\r\n--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b\r\nX: y\r\n\r\nfile\r\n--b--",
        b"--b  \r\n\r\n{}\r\n--b\r\nx:  y \r\n\r\nfile\r\n--b--\r\nepilogue",
        b"\r\n--b\r\n\r\n\r\n--b\r\nX: y\r\n\r\nfile\r\n--b--",
    ],
)
async def test_other_ways_to_write_it(data: bytes) -> None:
    """What other servers may write differently is read all the same."""
    assert await read(data, 5) == ({"x": "y"}, b"file")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"--b--\r\n", id="no part"),
        pytest.param(b"--b\r\n\r\n{}\r\n--b--\r\n", id="one part"),
        pytest.param(b"--b\r\n\r\n{}\r\n--b\r\n\r\nfile", id="no end"),
        pytest.param(b"--b\r\n\r\n{}\r\n--b\r\n\r\nfile\r\n--", id="half an end"),
        pytest.param(b"--b\r\n\r\n" + b"x" * 200_000, id="long JSON"),
        pytest.param(b"x" * 200_000, id="long preamble"),
        pytest.param(b"--b\r\n" + b"X: y\r\n" * 20_000, id="many headers"),
        pytest.param(b"--b\r\nX: " + b"y" * 200_000, id="long header"),
    ],
)
async def test_what_is_no_file(data: bytes) -> None:
    """What breaks off or has anything in excess is refused, and is not read to its end."""
    with pytest.raises(Malformed):
        await read(data, 1000)


def test_the_boundary() -> None:
    """The boundary is found as others write it, and only in multipart/mixed."""
    assert boundary_of("multipart/mixed; boundary=abc") == b"abc"
    assert boundary_of('Multipart/Mixed; charset=utf-8; boundary="a b;c"') == b"a b;c"
    for wrong in (
        "",
        "multipart/mixed",
        "text/html; boundary=abc",
        "multipart/mixed; boundary=" + '"' + "x" * 71 + '"',
    ):
        with pytest.raises(Malformed):
            boundary_of(wrong)
