"""The end of accounts: what is gone at once, what is finished later whatever happens, and the way back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest

from homeserver.accounts.deactivate import deactivate, reactivate
from homeserver.main import Server, running_server
from homeserver.protocol.errors import Forbidden
from homeserver.storage import account_rows
from homeserver.storage.audit_log import Actor
from tests.support.api import PASSWORD, Api, open_api
from tests.support.client import eventually
from tests.support.media import upload
from tests.support.servers import server_config

ACTOR = Actor("@root:test.example", "192.0.2.1")
_MESSAGE = {"msgtype": "m.text", "body": "a heron on the pond"}


@asynccontextmanager
async def _connected(database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    conn = await asyncpg.connect(database)
    try:
        yield conn
    finally:
        await conn.close()


async def _membership(asking: Api, room_id: str, user_id: str) -> str:
    answer = await asking.get(f"/rooms/{quote(room_id)}/state/m.room.member/{quote(user_id)}")
    found: str = answer.body["membership"]
    return found


async def _end(ending: Api, **fields: Any) -> None:
    auth = {"type": "m.login.password", "user": ending.user_id, "password": PASSWORD}
    assert (await ending.post("/account/deactivate", {"auth": auth, **fields})).status == 200


async def test_what_is_ordered_while_the_server_is_down_is_done_when_it_starts(database: str, tmp_path: Path) -> None:
    """Rooms are left, invitations declined and knocks taken back by whichever process comes next."""
    config = server_config(database, tmp_path)
    async with running_server(config) as server, open_api(server.url) as api:
        alice, bob = await api.register("alice"), await api.register("bob")
        joined = (await bob.post("/createRoom", {"preset": "public_chat"})).body["room_id"]
        await alice.post(f"/join/{quote(joined)}", {})
        invited = (await bob.post("/createRoom", {"invite": [alice.user_id]})).body["room_id"]
        rules = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
        knocked = (await bob.post("/createRoom", {"initial_state": [rules]})).body["room_id"]
        assert (await alice.post(f"/knock/{quote(knocked)}", {})).status == 200
    async with _connected(database) as conn:
        await deactivate(conn, ACTOR, alice.user_id)
        # As if a process had died in the middle of it, a moment ago and for the first time.
        await conn.execute("UPDATE jobs SET status = 'active', attempts = 1, claimed_until = created_ts")
    async with running_server(config) as server, open_api(server.url) as api:
        bob = await api.login("bob")
        for room_id in (joined, invited, knocked):

            async def is_left(room_id: str = room_id) -> bool:
                return await _membership(bob, room_id, alice.user_id) == "leave"

            await eventually(is_left, f"leaving {room_id}")


async def test_nothing_that_lets_anyone_in_or_proves_anything_is_left(alice: Api, database: str) -> None:
    """Sessions, keys, backups, OpenID tokens and the profile are gone in the transaction that ends the account."""
    keys = {"master_key": {"user_id": alice.user_id, "usage": ["master"], "keys": {"ed25519:abc": "abc"}}}
    await alice.post("/keys/device_signing/upload", keys)
    await alice.post("/room_keys/version", {"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {}})
    await alice.post(f"/user/{alice.user_id}/openid/request_token", {})
    await alice.put(f"/profile/{alice.user_id}/org.example.colour", {"org.example.colour": "red"})
    async with _connected(database) as conn:
        await deactivate(conn, ACTOR, alice.user_id)
        left = {
            table: await conn.fetchval(f"SELECT count(*) FROM {table}")
            for table in (*account_rows.ENDED, "devices", "access_tokens", "device_keys", "room_keys")
        }
    assert {table for table, count in left.items() if count} == set()


async def test_what_stays_bound_elsewhere_is_said(alice: Api, database: str) -> None:
    """Who has bound an address at an identity server is told that it has not been taken away there."""
    async with _connected(database) as conn:
        await conn.execute(
            "INSERT INTO bound_threepids (user_nid, medium, address, id_server) "
            "SELECT user_nid, 'email', 'alice@example.org', 'id.example' FROM accounts"
        )
    auth = {"type": "m.login.password", "user": alice.user_id, "password": PASSWORD}
    answer = await alice.post("/account/deactivate", {"auth": auth})
    assert answer.body == {"id_server_unbind_result": "no-support"}


async def test_each_table_about_users_is_decided(database: str) -> None:
    """A table with rows of users must say what becomes of them when an account ends."""
    async with _connected(database) as conn:
        rows = await conn.fetch(
            "SELECT table_name FROM information_schema.columns "
            "WHERE column_name = 'user_nid' AND table_schema = 'public'"
        )
    decided = [*account_rows.ENDED, *account_rows.ERASED, *account_rows.KEPT]
    assert {row["table_name"] for row in rows} == set(decided)
    assert len(decided) == len(set(decided))


async def test_the_erased_are_unheard_by_who_came_later(alice: Api, database: str) -> None:
    """Who was in the room sees what was said; who joins afterwards sees that something was, and cannot find it."""
    bob, carol = await alice.as_token(None).register("bob"), await alice.as_token(None).register("carol")
    room_id = (await bob.post("/createRoom", {"preset": "public_chat"})).body["room_id"]
    await alice.post(f"/join/{quote(room_id)}", {})
    sent = (await alice.put(f"/rooms/{quote(room_id)}/send/m.room.message/1", _MESSAGE)).body["event_id"]
    await alice.put(f"/user/{alice.user_id}/account_data/m.direct", {"x": ["y"]})
    await _end(alice, erase=True)
    await carol.post(f"/join/{quote(room_id)}", {})
    path = f"/rooms/{quote(room_id)}/event/{quote(sent)}"
    assert (await bob.get(path)).body["content"] == _MESSAGE
    assert (await carol.get(path)).body["content"] == {}
    page = (await carol.get(f"/rooms/{quote(room_id)}/messages", query={"dir": "b", "limit": "50"})).body["chunk"]
    assert [event["content"] for event in page if event["event_id"] == sent] == [{}]
    around = (await carol.get(f"/rooms/{quote(room_id)}/context/{quote(sent)}")).body
    assert around["event"]["content"] == {}
    search = {"search_categories": {"room_events": {"search_term": "heron"}}}
    assert (await carol.post("/search", search)).body["search_categories"]["room_events"]["results"] == []
    async with _connected(database) as conn:
        assert await conn.fetchval("SELECT count(*) FROM account_data") == 0


async def test_the_files_of_the_erased_are_gone(server: Server, alice: Api) -> None:
    """What the erased have uploaded nobody is given any more, but for what is kept as evidence; others' files stay."""
    bob = await alice.as_token(None).register("bob")
    hers, evidence, his = [await upload(user, name) for user, name in ((alice, b"1"), (alice, b"2"), (bob, b"3"))]
    await server.services.pool.execute(
        "UPDATE media SET quarantined_by = '@root:test.example' WHERE media_id = $1", evidence.partition("/")[2]
    )
    await _end(alice, erase=True)

    async def is_gone() -> bool:
        return (await bob.get(f"/_matrix/client/v1/media/download/{hers}")).status == 404

    await eventually(is_gone, "the file to be gone")
    left = await server.services.pool.fetch("SELECT media_id FROM media ORDER BY media_nid")
    assert [row["media_id"] for row in left] == [evidence.partition("/")[2], his.partition("/")[2]]


async def test_who_is_only_deactivated_is_still_heard(alice: Api) -> None:
    """Without erase, those who come later see what was said as ever."""
    bob, carol = await alice.as_token(None).register("bob"), await alice.as_token(None).register("carol")
    room_id = (await bob.post("/createRoom", {"preset": "public_chat"})).body["room_id"]
    await alice.post(f"/join/{quote(room_id)}", {})
    sent = (await alice.put(f"/rooms/{quote(room_id)}/send/m.room.message/1", _MESSAGE)).body["event_id"]
    await _end(alice)
    await carol.post(f"/join/{quote(room_id)}", {})
    assert (await carol.get(f"/rooms/{quote(room_id)}/event/{quote(sent)}")).body["content"] == _MESSAGE


async def test_the_last_administrator_does_not_end_by_accident(alice: Api, database: str) -> None:
    """Whoever is the only administrator is told to make another one first; two at once can't both go."""
    bob = await alice.as_token(None).register("bob")
    async with _connected(database) as conn, _connected(database) as other:
        await conn.execute("UPDATE accounts SET admin = true")
        await conn.execute("UPDATE accounts SET locked = true WHERE user_nid = (SELECT max(user_nid) FROM accounts)")
        with pytest.raises(Forbidden):  # the other one is locked out
            await deactivate(conn, ACTOR, alice.user_id, keep_one=True)
        await conn.execute("UPDATE accounts SET locked = false")
        first = conn.transaction()
        await first.start()
        await deactivate(conn, ACTOR, alice.user_id, keep_one=True)
        second = asyncio.create_task(deactivate(other, ACTOR, bob.user_id, keep_one=True))
        await asyncio.wait({second}, timeout=0.2)
        assert not second.done()
        await first.commit()
        with pytest.raises(Forbidden):
            await second
    assert (await bob.get("/account/whoami")).status == 200


async def test_an_account_can_be_taken_back(alice: Api, database: str) -> None:
    """With a new password the user is back under the old name, and nothing that was deleted is."""
    await alice.put(f"/profile/{alice.user_id}/displayname", {"displayname": "Alice"})
    async with _connected(database) as conn:
        hashed = await conn.fetchval("SELECT password_hash FROM accounts")
        await deactivate(conn, ACTOR, alice.user_id, erase=True)
        await reactivate(conn, ACTOR, alice.user_id, hashed)
        actions = [row["action"] for row in await conn.fetch("SELECT action FROM audit_log ORDER BY audit_id")]
    assert actions == ["user.deactivate", "user.reactivate"]
    back = await alice.as_token(None).login("alice")
    assert (await back.get(f"/profile/{alice.user_id}")).body == {}
