"""Files: uploading, downloading, parts of them, and what a browser is told about them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from homeserver.main import Server
from tests.support.api import Answer, Api
from tests.support.media import UPLOAD, stored, upload

_V1 = "/_matrix/client/v1/media"
_LEGACY = "/_matrix/media/v3"


async def download(user: Api, place: str, **options: Any) -> Answer:
    return await user.get(f"{_V1}/download/{place}", **options)


async def test_what_was_uploaded_comes_back(alice: Api) -> None:
    """A download gives the bytes, type and name of the upload, under headers that keep browsers from running it."""
    place = await upload(alice, b"hello", "Text/Plain; charset=UTF-8; x=y", "notes.txt")
    answer = await download(alice, place)
    assert (answer.status, answer.body) == (200, b"hello")
    headers = answer.headers
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert headers["Content-Disposition"] == 'inline; filename="notes.txt"'
    assert headers["Content-Length"] == "5"
    assert headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'; script-src 'none';")
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert "immutable" in headers["Cache-Control"]
    again = await download(alice, place, headers={"If-None-Match": headers["ETag"]})
    assert (again.status, again.body) == (304, b"")


async def test_an_empty_file_is_a_file(alice: Api) -> None:
    """An upload of nothing is kept, and without a type it is mere bytes."""
    answer = await download(alice, await upload(alice, b"", None))
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Type"] == "application/octet-stream"


async def test_equal_files_are_kept_once(server: Server, alice: Api) -> None:
    """Two uploads of the same bytes have two addresses and one file, and nothing else is left lying."""
    first, second = await upload(alice, b"same"), await upload(alice, b"same", "image/png")
    assert first != second
    assert len(stored(server)) == 1
    assert (await download(alice, second)).headers["Content-Type"] == "image/png"


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("text/html", "attachment"),
        ("image/svg+xml", "attachment"),
        ("application/xhtml+xml", "attachment"),
        ("application/pdf", "attachment"),
        ("text/javascript", "attachment"),
        ("image/png", "inline"),
        ("video/mp4", "inline"),
        ("image/png\tx", "attachment"),
        ("nonsense", "attachment"),
    ],
)
async def test_only_what_no_browser_runs_is_shown_in_place(alice: Api, content_type: str, kind: str) -> None:
    """A page that says it is a page is attached; nothing is guessed from the bytes."""
    place = await upload(alice, b"<html><script>alert(1)</script></html>", content_type)
    answer = await download(alice, place)
    assert answer.headers["Content-Disposition"].split(";")[0] == kind
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("name", "disposition"),
    [
        ('a"b.txt', 'inline; filename="a_b.txt"'),
        ("a\r\nSet-Cookie: x=1", 'inline; filename="aSet-Cookie_ x=1"'),
        ("../../etc/passwd", 'inline; filename="_.._etc_passwd"'),
        ("\u202efdp.exe", 'inline; filename="fdp.exe"'),
        ("Grüße.txt", "inline; filename*=utf-8''Gr%C3%BC%C3%9Fe.txt"),
        ("...", "inline"),
    ],
)
async def test_a_name_can_not_leave_its_header(alice: Api, name: str, disposition: str) -> None:
    """Quotes, line breaks, paths and characters that turn text round are taken out of names."""
    answer = await download(alice, await upload(alice, b"x", name=name))
    assert answer.headers["Content-Disposition"] == disposition
    assert "Set-Cookie" not in answer.headers


async def test_a_name_in_the_path_wins(alice: Api) -> None:
    """The name that the address ends with is the one to save under."""
    place = await upload(alice, b"x", name="old.txt")
    answer = await download(alice, f"{place}/new%2F%22name.txt")
    assert answer.headers["Content-Disposition"] == 'inline; filename="new__name.txt"'


@pytest.mark.parametrize(
    ("wanted", "status", "body", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=5-9999999999999999999", 206, b"56789", "bytes 5-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=5-4", 416, None, "bytes */10"),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("bytes=" + "0-1," * 5000 + "0-1", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
        ("bytes=-99999999999999999999999", 200, b"0123456789", None),
    ],
)
async def test_parts(alice: Api, wanted: str, status: int, body: bytes | None, content_range: str | None) -> None:
    """One range of bytes is given as asked; what lies outside is refused, and several are not worth their cost."""
    place = await upload(alice, b"0123456789")
    if len(wanted) > 16_000:
        wanted = wanted[:16_000]
    answer = await download(alice, place, headers={"Range": wanted})
    assert answer.status == status
    assert answer.headers.get("Content-Range") == content_range
    if body is not None:
        assert answer.body == body


async def test_a_part_of_another_file_is_the_whole(alice: Api) -> None:
    """With an If-Range that does not fit, the whole file comes."""
    place = await upload(alice, b"0123456789")
    answer = await download(alice, place, headers={"Range": "bytes=0-1", "If-Range": '"other"'})
    assert (answer.status, answer.body) == (200, b"0123456789")


async def test_head(alice: Api) -> None:
    """HEAD tells the size and sends nothing."""
    place = await upload(alice, b"0123456789")
    answer = await alice.request("HEAD", f"{_V1}/download/{place}")
    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", "10")
    assert (await download(alice, place)).body == b"0123456789"


@pytest.mark.parametrize(
    "place",
    [
        "test.example/nothing",
        "test.example/..%2F..%2Fsigning.key",
        "test.example/%2E%2E",
        "..%2F..%2Fetc/passwd",
        "test.example/a%00b",
        "test.example/" + "a" * 300,
        "not%20a%20server/abc",
        "%F0%9F%92%A9/abc",
    ],
)
async def test_paths_lead_nowhere(alice: Api, place: str) -> None:
    """An address is letters and numbers at a server; anything else is not found, and no file is opened by it."""
    answer = await download(alice, place)
    assert answer.status in (400, 404)
    assert answer.errcode in ("M_NOT_FOUND", "M_INVALID_PARAM")


async def test_files_are_for_those_who_are_signed_in(api: Api, alice: Api) -> None:
    """Without a token there is neither an upload nor a download, at the old addresses neither."""
    place = await upload(alice, b"secret")
    assert (await download(api, place)).errcode == "M_MISSING_TOKEN"
    assert (await api.post(UPLOAD, body=b"x")).errcode == "M_MISSING_TOKEN"
    legacy = await api.get(f"{_LEGACY}/download/{place}")
    assert (legacy.status, legacy.errcode) == (404, "M_NOT_FOUND")


async def test_config(alice: Api) -> None:
    """The largest size is told, at the old address too."""
    for path in (f"{_V1}/config", f"{_LEGACY}/config"):
        assert (await alice.get(path)).body == {"m.upload.size": 50 * 1024 * 1024}


async def test_upload_later(alice: Api) -> None:
    """An address can be asked for first; who downloads from it waits until the file is there."""
    created = await alice.post("/_matrix/media/v1/create")
    place = created.body["content_uri"].removeprefix("mxc://")
    early = await download(alice, place, query={"timeout_ms": "0"})
    assert (early.status, early.errcode) == (504, "M_NOT_YET_UPLOADED")
    waiting = asyncio.create_task(download(alice, place, query={"timeout_ms": "30000"}))
    put = await alice.put(f"{_LEGACY}/upload/{place}", body=b"late", headers={"Content-Type": "text/plain"})
    assert put.status == 200, put
    assert (await waiting).body == b"late"
    again = await alice.put(f"{_LEGACY}/upload/{place}", body=b"other")
    assert (again.status, again.errcode) == (409, "M_CANNOT_OVERWRITE_MEDIA")
    assert (await download(alice, place)).body == b"late"


async def test_an_address_is_its_owners(api: Api, alice: Api) -> None:
    """Nobody else can fill an address, and none can be filled that was not asked for."""
    bob = await api.register("bob")
    place = (await alice.post("/_matrix/media/v1/create")).body["content_uri"].removeprefix("mxc://")
    answer = await bob.put(f"{_LEGACY}/upload/{place}", body=b"x")
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
    for unknown in ("test.example/abc", "elsewhere.example/abc"):
        assert (await alice.put(f"{_LEGACY}/upload/{unknown}", body=b"x")).status == 404


async def test_two_uploads_to_one_address(alice: Api) -> None:
    """Of uploads to one address at once exactly one counts."""
    place = (await alice.post("/_matrix/media/v1/create")).body["content_uri"].removeprefix("mxc://")
    bodies = [b"%d" % number for number in range(5)]
    answers = await asyncio.gather(*(alice.put(f"{_LEGACY}/upload/{place}", body=body) for body in bodies))
    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409, 409]
    winner = next(body for body, answer in zip(bodies, answers, strict=True) if answer.status == 200)
    assert (await download(alice, place)).body == winner


async def test_few_addresses_wait(alice: Api) -> None:
    """Who leaves addresses unfilled is given no more of them."""
    for _ in range(20):
        assert (await alice.post("/_matrix/media/v1/create")).status == 200
    answer = await alice.post("/_matrix/media/v1/create")
    assert (answer.status, answer.errcode) == (429, "M_LIMIT_EXCEEDED")
