"""What administrators and users who want to be forgotten do here, as other servers see it."""

from __future__ import annotations

import time

import pytest

from homeserver.accounts.deactivate import deactivate
from homeserver.admin_api.delete_room import order_deletion
from homeserver.storage.audit_log import Actor
from homeserver.storage.blocked_rooms import block_room
from tests.support.client import RequestFailed, eventually
from tests.support.federating import Network, Node

ACTOR = Actor("@boss:test.example")


async def _membership(node: Node, room_id: str, user_id: str) -> str | None:
    found: str | None = await node.services.pool.fetchval(
        "SELECT m.membership FROM room_members m JOIN rooms r USING (room_nid) JOIN users u USING (user_nid) "
        "WHERE r.room_id = $1 AND u.user_id = $2",
        room_id,
        user_id,
    )
    return found


async def test_the_erased_are_not_told_of_any_more(network: Network) -> None:
    """A server that asks for old messages of somebody who wanted to be forgotten gets them redacted."""
    one, two = await network.server(), await network.server()
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    carol = await one.user("carol")
    await carol.join(room_id)
    said = await carol.send(room_id, "what Carol said")
    kept = await alice.send(room_id, "what Alice said")
    async with one.services.pool.acquire() as conn:
        await deactivate(conn, ACTOR, carol.user_id, erase=True)
    await bob.join(room_id, via=one.name)
    pdus = await two.remote.backfill(one.name, room_id, [kept], 10)
    contents = {pdu["content"].get("body") for pdu in pdus}
    assert "what Alice said" in contents
    assert "what Carol said" not in contents
    assert (await two.remote.get_event(one.name, said))["content"] == {}


async def test_others_are_told_who_left_before_a_room_is_deleted(network: Network) -> None:
    """Deleting a room that others are in too takes our users out of it there, and only then everything away here."""
    one, two = await network.server(), await network.server()
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id, via=one.name)
    await alice.send(room_id, "hello")
    room = await one.services.timeline.room(room_id)
    params = {"new_room_user_id": None, "room_name": "x", "message": "x", "room_version": "12"}
    async with one.services.pool.acquire() as conn, conn.transaction():
        await order_deletion(conn, ACTOR, room, params | {"block": False, "purge": True, "force_purge": False})
    one.services.jobs.wake()

    async def is_gone() -> bool:
        count = await one.services.pool.fetchval("SELECT count(*) FROM events WHERE room_nid = $1", room.nid)
        open_jobs = await one.services.pool.fetchval("SELECT count(*) FROM jobs WHERE finished_ts IS NULL")
        return bool(count == 0 and open_jobs == 0)

    async def has_left() -> bool:
        return await _membership(two, room_id, alice.user_id) == "leave"

    await eventually(is_gone, "the room to be gone")
    await eventually(has_left, "the other server to know")
    # Nothing stands in the way of coming back, over those who are still there.
    await alice.join(room_id, via=two.name)
    assert await _membership(one, room_id, bob.user_id) == "join"


async def test_nobody_is_invited_from_elsewhere_to_a_room_that_is_blocked(network: Network) -> None:
    """An invitation of another server's user to a room that is kept out is refused, and leaves nothing here."""
    one, two = await network.server(), await network.server()
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await bob.create_room(preset="private_chat")
    async with one.services.pool.acquire() as conn:
        await block_room(conn, room_id, ACTOR.name, int(time.time() * 1000))
    with pytest.raises(RequestFailed) as refused:
        await bob.membership(room_id, "invite", alice.user_id)
    assert refused.value.status == 403
    assert await _membership(one, room_id, alice.user_id) is None
