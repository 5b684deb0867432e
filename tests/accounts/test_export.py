"""The copy of everything that is kept about a user."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import asyncpg

from homeserver.accounts.export import write_export
from homeserver.media.store import DiskStore
from homeserver.storage.account_export import NOT_EXPORTED, SECTIONS
from homeserver.storage.accounts import find_account
from tests.support.api import Api
from tests.support.media import upload

_PATH = "/_matrix/client/unstable/org.talkpai/account/export"


def _files(archive: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        return {
            name: json.loads(opened.read(name)) if name.endswith(".json") else opened.read(name).decode()
            for name in opened.namelist()
        }


async def test_a_user_gets_everything_and_nothing_of_others(alice: Api) -> None:
    """Profile, devices with addresses, account data, rooms, receipts, reports and every event sent are in it."""
    bob = await alice.as_token(None).register("bob")
    room_id = (await alice.post("/createRoom", {"preset": "public_chat", "name": "Den"})).body["room_id"]
    await bob.post(f"/join/{room_id}", {})
    sent = []
    for number, sender in ((1, alice), (2, bob), (3, alice)):
        content = {"msgtype": "m.text", "body": f"number {number}"}
        sent.append(await sender.put(f"/rooms/{room_id}/send/m.room.message/{number}", content))
    await alice.post(f"/rooms/{room_id}/receipt/m.read/{sent[-1].body['event_id']}", {})
    await alice.post(f"/users/{bob.user_id}/report", {"reason": "rude"})
    await alice.put(f"/profile/{alice.user_id}/displayname", {"displayname": "Alice"})
    await alice.put(f"/profile/{alice.user_id}/org.example.colour", {"org.example.colour": {"rgb": [1, 2, 3]}})
    await alice.put(f"/user/{alice.user_id}/account_data/org.example", {"nul": "\0", "own": True})
    await alice.put(f"/user/{alice.user_id}/rooms/{room_id}/account_data/org.example", {"in": "room"})
    uploaded = await upload(alice, b"a file")
    answer = await alice.get(_PATH)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/zip")
    assert answer.headers["Cache-Control"] == "no-store"
    files = _files(answer.body)
    assert files.pop(f"media/{uploaded.partition('/')[2]}") == "a file"
    assert [(one["uri"], one["size"]) for one in files["media.json"]] == [(f"mxc://{uploaded}", 6)]
    assert set(files) == {"README.txt", "events.json", *(section.file for section in SECTIONS)}
    assert alice.user_id in files["README.txt"]
    assert files["account.json"][0]["displayname"] == "Alice"
    assert files["profile.json"] == [{"name": "org.example.colour", "value": {"rgb": [1, 2, 3]}}]
    assert [device["device_id"] for device in files["devices.json"]] == [alice.device_id]
    data = {(datum["room_id"], datum["type"]): datum["content"] for datum in files["account_data.json"]}
    assert data[None, "org.example"] == {"nul": "\0", "own": True}
    assert data[room_id, "org.example"] == {"in": "room"}
    assert [(room["room_id"], room["membership"]) for room in files["rooms.json"]] == [(room_id, "join")]
    assert [report["reason"] for report in files["reports.json"]] == ["rude"]
    assert [receipt["room_id"] for receipt in files["receipts.json"]] == [room_id]
    said = [event["content"]["body"] for event in files["events.json"] if event["type"] == "m.room.message"]
    assert said == ["number 1", "number 3"]
    assert {event["sender"] for event in files["events.json"]} == {alice.user_id}
    whole = str(files)
    assert alice.token is not None
    assert alice.token not in whole
    assert "$2b$" not in whole


async def test_each_table_about_users_is_exported_or_not_on_purpose(database: str) -> None:
    """A table with rows of users is in the copy, or among those that say nothing to them; every query runs."""
    conn = await asyncpg.connect(database)
    try:
        rows = await conn.fetch("SELECT table_name FROM information_schema.columns WHERE column_name = 'user_nid'")
        read = {table for section in SECTIONS for table in section.tables}
        others = {"room_aliases", "reports", "audit_log"}
        assert {row["table_name"] for row in rows} == (read - others) | NOT_EXPORTED
        assert read & NOT_EXPORTED == set()
    finally:
        await conn.close()


async def test_nobody_else_gets_it(alice: Api) -> None:
    """Without a token there is nothing; another's copy is for administrators."""
    assert (await alice.as_token(None).get(_PATH)).status == 401
    assert (await alice.get(f"/_synapse/admin/v1/users/{alice.user_id}/export")).status == 403


async def test_a_large_account_is_written_in_little_memory(alice: Api, database: str, tmp_path: Path) -> None:
    """Memory does not grow with what there is: twenty megabytes of account data are written in a few."""
    conn = await asyncpg.connect(database)
    try:
        account = await find_account(conn, alice.user_id)
        assert account is not None
        await conn.execute(
            "INSERT INTO account_data (user_nid, room_nid, type, content, pos) SELECT $1, 0, 'org.example.' || n, "
            "convert_to('{\"a\":\"' || repeat(md5(n::text), 320) || '\"}', 'UTF8'), n FROM generate_series(1, 2000) n",
            account.user_nid,
        )
        tracemalloc.start()
        with (tmp_path / "export.zip").open("wb") as file:
            await write_export(conn, DiskStore(tmp_path), account, file)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    finally:
        await conn.close()
    assert peak < 12 * 1024**2
    assert len(_files((tmp_path / "export.zip").read_bytes())["account_data.json"]) >= 2000
