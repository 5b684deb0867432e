"""Where devices meet to sign one of them in: one small text at a time, and no write lost unseen.

# spec: msc/4388#insecure-rendezvous-session
"""

from __future__ import annotations

import asyncio
import re
from email.utils import parsedate_to_datetime
from pathlib import Path

import asyncpg
import pytest

from homeserver.main import running_server
from tests.support.api import Answer, Api, open_api
from tests.support.servers import server_config

_PATHS = ("/_matrix/client/v1/rendezvous", "/_matrix/client/unstable/io.element.msc4388/rendezvous")
_PATH = _PATHS[0]
_OLD = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous"


@pytest.mark.parametrize("path", _PATHS)
async def test_two_devices_talk(api: Api, path: str) -> None:
    """One makes a session, both read and write in turn, and after the end there is nothing."""
    begun = (await api.post(path, {"data": "hello from A"})).body
    assert begun["expires_in_ms"] > 250_000
    place = f"{path}/{begun['id']}"
    seen = (await api.get(place)).body
    assert (seen["data"], seen["sequence_token"]) == ("hello from A", begun["sequence_token"])
    written = await api.put(place, {"data": "hello from B", "sequence_token": seen["sequence_token"]})
    assert written.status == 200
    read = (await api.get(place)).body
    assert (read["data"], read["sequence_token"]) == ("hello from B", written.body["sequence_token"])
    assert (await api.delete(place)).body == {}
    for answer in (
        await api.get(place),
        await api.delete(place),
        await api.put(place, {"data": "x", "sequence_token": read["sequence_token"]}),
    ):
        assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")


async def test_the_same_text_again_is_another_write(api: Api) -> None:
    """Two devices that write the same can tell whose it is, by the token."""
    begun = (await api.post(_PATH, {"data": "same"})).body
    place = f"{_PATH}/{begun['id']}"
    written = (await api.put(place, {"data": "same", "sequence_token": begun["sequence_token"]})).body
    assert written["sequence_token"] != begun["sequence_token"]


@pytest.mark.parametrize("path", _PATHS)
async def test_a_write_that_has_not_seen_the_last_one(api: Api, path: str) -> None:
    """It is refused, unless it is the same once more: then the answer was lost on the way."""
    begun = (await api.post(path, {"data": ""})).body
    place, token = f"{path}/{begun['id']}", begun["sequence_token"]
    first = (await api.put(place, {"data": "B", "sequence_token": token})).body
    again = await api.put(place, {"data": "B", "sequence_token": token})
    assert (again.status, again.body) == (200, first)
    other = await api.put(place, {"data": "C", "sequence_token": token})
    errcode = "M_CONCURRENT_WRITE" if path == _PATH else "IO_ELEMENT_MSC4388_CONCURRENT_WRITE"
    assert (other.status, other.errcode) == (409, errcode)
    assert (await api.get(place)).body["data"] == "B"


async def test_of_many_writes_at_once_one_succeeds(api: Api) -> None:
    """However many come at the same moment with the same token."""
    begun = (await api.post(_PATH, {"data": ""})).body
    place = f"{_PATH}/{begun['id']}"
    bodies = [{"data": str(number), "sequence_token": begun["sequence_token"]} for number in range(8)]
    answers = await asyncio.gather(*(api.put(place, body) for body in bodies))
    assert sorted(answer.status for answer in answers) == [200] + [409] * 7


async def test_large_texts_are_refused(api: Api) -> None:
    """4096 bytes are the most, however they are written."""
    assert (await api.post(_PATH, {"data": "x" * 4096})).status == 200
    for data in ("x" * 4097, "é" * 2049):
        answer = await api.post(_PATH, {"data": data})
        assert (answer.status, answer.errcode) == (413, "M_TOO_LARGE")
    assert (await api.post(_PATH, {"data": "x", "y": "z" * 100_000})).status == 413


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": 5}, {"data": {"a": "b"}}])
async def test_what_is_no_text(api: Api, body: dict[str, object]) -> None:
    """Only a text can be left."""
    assert (await api.post(_PATH, body)).status == 400


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Mode": "navigate"}, {"Sec-Fetch-Dest": "document"}])
async def test_nobody_can_make_a_page_of_it(api: Api, headers: dict[str, str]) -> None:
    """A browser that goes there is shown nothing of what somebody left."""
    begun = (await api.post(_PATH, {"data": "<script>"})).body
    assert (await api.get(f"{_PATH}/{begun['id']}", headers=headers)).status == 403


async def test_sessions_expire(api: Api, database: str) -> None:
    """After five minutes a session is gone, and with the next one from the database too."""
    place = f"{_PATH}/{(await api.post(_PATH, {'data': ''})).body['id']}"
    conn = await asyncpg.connect(database)
    await conn.execute("UPDATE rendezvous_sessions SET expires_ts = expires_ts - 300000")
    assert (await api.get(place)).status == 404
    await api.post(_PATH, {"data": ""})
    assert await conn.fetchval("SELECT count(*) FROM rendezvous_sessions") == 1
    await conn.close()


async def _text(
    api: Api, method: str, path: str, text: bytes | None = None, content_type: str = "text/plain", **headers: str
) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if text is not None:
        sent["Content-Type"] = content_type
    return await api.request(method, path, body=text, headers=sent)


async def test_the_older_form(api: Api) -> None:
    """Plain text, with ETags: what js-sdk does.  # spec: msc/4388#etag-based-rendezvous-api"""
    begun = await _text(api, "POST", _OLD, b"hello from A")
    assert begun.status == 201
    assert begun.body["url"].startswith(f"{api.url}{_OLD}/")
    place = begun.body["url"].removeprefix(api.url)
    assert re.fullmatch(r'"[\w-]+"', begun.headers["ETag"])
    assert parsedate_to_datetime(begun.headers["Expires"]) > parsedate_to_datetime(begun.headers["Last-Modified"])
    assert "ETag" in begun.headers["Access-Control-Expose-Headers"]
    assert "no-store" in begun.headers["Cache-Control"]
    read = await _text(api, "GET", place)
    assert (read.status, read.body, read.headers["Content-Type"]) == (200, b"hello from A", "text/plain")
    etag = read.headers["ETag"]
    unchanged = await _text(api, "GET", place, If_None_Match=etag)
    assert (unchanged.status, unchanged.body, unchanged.headers["ETag"]) == (304, b"", etag)
    written = await _text(api, "PUT", place, b"hello from B", If_Match=f"W/{etag}")
    assert written.status == 202
    assert written.headers["ETag"] != etag
    stale = await _text(api, "PUT", place, b"hello from C", If_Match=etag)
    assert (stale.status, stale.errcode) == (412, "M_CONCURRENT_WRITE")
    assert stale.headers["ETag"] == written.headers["ETag"]
    assert (await _text(api, "PUT", place, b"hello from C")).status == 400
    assert (await _text(api, "GET", place, If_None_Match=etag)).body == b"hello from B"
    assert (await _text(api, "DELETE", place)).status == 204
    assert (await _text(api, "GET", place)).status == 404


async def test_what_the_older_form_refuses(api: Api) -> None:
    """Large and other bodies; the two forms do not see each other's sessions."""
    assert (await _text(api, "POST", _OLD, b"x" * 4097)).status == 413
    assert (await _text(api, "POST", _OLD, b"<p>", "text/html")).status == 400
    place = (await _text(api, "POST", _OLD, b"text")).body["url"].rpartition("/")[2]
    assert (await api.get(f"{_PATH}/{place}")).status == 404
    other = (await api.post(_PATH, {"data": "text"})).body["id"]
    assert (await _text(api, "GET", f"{_OLD}/{other}")).status == 404


async def test_browsers_may_send_the_headers(api: Api) -> None:
    """A web client asks first whether it may.  # spec: client-server-api/#web-browser-clients"""
    answer = await api.request("OPTIONS", _OLD)
    assert {"If-Match", "If-None-Match"} <= set(answer.headers["Access-Control-Allow-Headers"].split(", "))


@pytest.mark.parametrize(("who", "anonymous", "user"), [("anyone", 200, 200), ("users", 403, 200), ("off", 404, 404)])
async def test_who_may_begin(database: str, tmp_path: Path, who: str, anonymous: int, user: int) -> None:
    """The operator says so; clients find out by asking, and in /versions."""
    async with (
        running_server(server_config(database, tmp_path, sessions={"rendezvous": who})) as server,
        open_api(server.url) as api,
    ):
        alice = await api.register("alice")
        assert (await api.post(_PATH, {"data": ""})).status == anonymous
        assert (await alice.post(_PATH, {"data": ""})).status == user
        features = (await api.get("/_matrix/client/versions")).body["unstable_features"]
        assert features["org.matrix.msc4108"] is (who != "off")
        if who == "off":
            assert (await api.get(_PATH)).errcode == "M_UNRECOGNIZED"
        else:
            assert (await api.get(_PATH)).body == {"create_available": who == "anyone"}
            assert (await alice.get(_PATH)).body == {"create_available": True}


async def test_it_is_limited(database: str, tmp_path: Path) -> None:
    """An address can't fill the database."""
    limits = {"enabled": True, "rendezvous": {"per_second": 0.01, "burst": 3}}
    config = server_config(database, tmp_path, rate_limits=limits)
    async with running_server(config) as server, open_api(server.url) as api:
        answers = [await api.post(_PATH, {"data": ""}) for _ in range(5)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
