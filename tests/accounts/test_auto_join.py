"""Rooms that new users join by themselves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import quote

import asyncpg

from homeserver.accounts.auto_join import order_joins
from homeserver.main import running_server
from homeserver.services import Services
from tests.support.api import PASSWORD, Api, open_api
from tests.support.servers import server_config

_ROOMS = ["#welcome:test.example", "#missing:test.example", "#far:elsewhere.example"]


async def _work_done(services: Services) -> None:
    """Returns once all that this server can do by itself has been done."""
    async with asyncio.timeout(30):
        while await services.pool.fetchval(
            "SELECT count(*) FROM jobs WHERE finished_ts IS NULL AND params->>'room' LIKE '%:test.example'"
        ):
            await services.pool.execute("SELECT pg_sleep(0.02)")


async def _joined(api: Api) -> list[str]:
    rooms: list[str] = (await api.get("/joined_rooms")).body["joined_rooms"]
    return rooms


async def test_new_users_are_in_the_rooms_of_the_configuration(database: str, tmp_path: Path) -> None:
    """Whoever registers joins the rooms that there are; one that is missing or can't be reached keeps nobody out."""
    registration = {"mode": "open", "auto_join_rooms": _ROOMS}
    config = server_config(database, tmp_path, registration=registration)
    async with running_server(config) as server, open_api(server.url) as api:
        alice = await api.register("alice")
        await _work_done(server.services)
        assert await _joined(alice) == []
        body = {"preset": "public_chat", "room_alias_name": "welcome"}
        room_id = (await alice.post("/createRoom", body)).body["room_id"]
        bob = await api.register("bob")
        await _work_done(server.services)
        assert await _joined(bob) == [room_id]
        member = await alice.get(f"/rooms/{quote(room_id)}/state/m.room.member/{quote(bob.user_id)}")
        assert member.body["membership"] == "join"


async def test_a_private_room_stays_private(database: str, tmp_path: Path) -> None:
    """Naming a room in the configuration lets nobody into it whom its rules keep out."""
    registration = {"mode": "open", "auto_join_rooms": ["#private:test.example"]}
    config = server_config(database, tmp_path, registration=registration)
    async with running_server(config) as server, open_api(server.url) as api:
        alice = await api.register("alice")
        await _work_done(server.services)
        await alice.post("/createRoom", {"preset": "private_chat", "room_alias_name": "private"})
        bob = await api.register("bob")
        await _work_done(server.services)
        assert await _joined(bob) == []
        failed = await server.services.pool.fetchval("SELECT error FROM jobs WHERE target = '@bob:test.example'")
        assert failed


async def test_what_was_ordered_is_done_after_a_restart(database: str, tmp_path: Path) -> None:
    """A server that dies right after the registration joins the room when it is back."""
    config = server_config(database, tmp_path, registration={"mode": "open"})
    async with running_server(config) as server, open_api(server.url) as api:
        alice = await api.register("alice")
        body = {"preset": "public_chat", "room_alias_name": "welcome"}
        room_id = (await alice.post("/createRoom", body)).body["room_id"]
        bob = await api.register("bob")
    conn = await asyncpg.connect(database)
    async with conn.transaction():
        await order_joins(conn, bob.user_id, ["#welcome:test.example"])
    await conn.close()
    async with running_server(config) as server, open_api(server.url) as api:
        await _work_done(server.services)
        again = await api.login("bob", PASSWORD)
        assert await _joined(again) == [room_id]
        assert bob.user_id == again.user_id


async def test_guests_and_made_users_join_nothing(database: str, tmp_path: Path) -> None:
    """Only who registers is taken along: no guest."""
    registration = {"mode": "open", "guests": True, "auto_join_rooms": _ROOMS}
    config = server_config(database, tmp_path, registration=registration)
    async with running_server(config) as server, open_api(server.url) as api:
        assert (await api.post("/register?kind=guest", {})).status == 200
        assert await server.services.pool.fetchval("SELECT count(*) FROM jobs") == 0
