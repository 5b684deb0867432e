"""Rooms over the admin API: looking, reading, blocking, deleting, purging."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import asyncpg

from homeserver.storage import purge
from tests.admin_api.conftest import Audited
from tests.support.api import Api

_V1, _V2 = "/_synapse/admin/v1", "/_synapse/admin/v2"


async def _room(owner: Api, *members: Api, **settings: Any) -> str:
    room_id: str = (await owner.post("/createRoom", {"preset": "public_chat", **settings})).body["room_id"]
    for member in members:
        assert (await member.post(f"/join/{room_id}", {})).status == 200
    return room_id


async def _say(sender: Api, room_id: str, text: str) -> str:
    content = {"msgtype": "m.text", "body": text}
    event_id: str = (await sender.put(f"/rooms/{room_id}/send/m.room.message/{quote(text)}", content)).body["event_id"]
    return event_id


async def _finished(admin: Api, path: str) -> dict[str, Any]:
    status: dict[str, Any] = {"status": "scheduled"}
    while status["status"] in ("scheduled", "active"):
        status = (await admin.get(path)).body
    return status


async def test_rooms_are_listed_searched_and_ordered(admin: Api, alice: Api) -> None:
    """The list has what tools show of rooms, by page and in the orders that they ask for."""
    bob = await alice.as_token(None).register("bob")
    small = await _room(alice, name="Small", visibility="public", room_alias_name="small")
    large = await _room(alice, bob, name="Large")
    rooms = (await admin.get(f"{_V1}/rooms")).body
    assert rooms["total_rooms"] == 2
    assert [room["room_id"] for room in rooms["rooms"]] == [large, small]
    first = rooms["rooms"][1]
    assert (first["name"], first["creator"], first["public"]) == ("Small", alice.user_id, True)
    assert (first["joined_members"], first["joined_local_members"], first["federatable"]) == (1, 1, True)
    assert (first["join_rules"], first["history_visibility"]) == ("public", "shared")
    assert first["canonical_alias"] == "#small:test.example"
    for query, expected in (
        ({"order_by": "joined_members"}, [large, small]),
        ({"order_by": "joined_members", "dir": "b"}, [small, large]),
        ({"search_term": "SMA"}, [small]),
        ({"search_term": large}, [large]),
        ({"public_rooms": "true"}, [small]),
        ({"empty_rooms": "true"}, []),
        ({"limit": "1", "from": "1"}, [small]),
    ):
        answer = (await admin.get(f"{_V1}/rooms", query=query)).body
        assert [room["room_id"] for room in answer["rooms"]] == expected, query
    for order_by in ("creator", "version", "encryption", "state_events", "joined_local_members", "guest_access"):
        assert (await admin.get(f"{_V1}/rooms", query={"order_by": order_by})).status == 200
    assert (await admin.get(f"{_V1}/rooms", query={"search_term": ""})).status == 400


async def test_a_room_is_looked_at_from_outside(admin: Api, alice: Api, audited: Audited) -> None:
    """Details, members, state and the whole history are told to administrators who are not in the room."""
    room_id = await _room(alice, name="Den", preset="private_chat")
    event_id = await _say(alice, room_id, "hello")
    path = f"{_V1}/rooms/{room_id}"
    details = (await admin.get(path)).body
    assert (details["name"], details["joined_local_devices"], details["forgotten"]) == ("Den", 1, False)
    assert (await admin.get(f"{path}/members")).body == {"members": [alice.user_id], "total": 1}
    state = (await admin.get(f"{path}/state")).body["state"]
    assert {event["type"] for event in state} >= {"m.room.create", "m.room.member", "m.room.name"}
    names = (await admin.get(f"{path}/state", query={"type": "m.room.name"})).body["state"]
    assert [event["content"] for event in names] == [{"name": "Den"}]
    page = (await admin.get(f"{path}/messages", query={"dir": "b", "limit": "1"})).body
    assert [event["event_id"] for event in page["chunk"]] == [event_id]
    around = (await admin.get(f"{path}/context/{event_id}")).body
    assert around["event"]["content"]["body"] == "hello"
    near = (await admin.get(f"{path}/timestamp_to_event", query={"ts": "0"})).body
    assert near["event_id"].startswith("$")
    extremities = (await admin.get(f"{path}/forward_extremities")).body
    assert (extremities["count"], extremities["results"][0]["event_id"]) == (1, event_id)
    assert (await admin.delete(f"{path}/forward_extremities")).body == {"deleted": 0}
    assert {action for action, _, _ in await audited()} == {"room.read_history"}
    for missing in ("", "/members", "/state", "/messages?dir=b"):
        assert (await admin.get(f"{_V1}/rooms/!none:test.example{missing}")).status == 404


async def test_a_blocked_room_is_entered_by_nobody(admin: Api, alice: Api, audited: Audited) -> None:
    """Nobody joins, knocks at or is invited to a room that is blocked; who is in it stays."""
    bob = await alice.as_token(None).register("bob")
    room_id = await _room(alice)
    path = f"{_V1}/rooms/{room_id}/block"
    assert (await admin.get(path)).body == {"block": False}
    assert (await admin.put(path, {"block": True})).body == {"block": True}
    assert (await admin.get(path)).body == {"block": True, "user_id": admin.user_id}
    assert (await bob.post(f"/join/{room_id}", {})).status == 403
    assert (await bob.post(f"/knock/{room_id}", {})).status == 403
    assert (await alice.post(f"/rooms/{room_id}/invite", {"user_id": bob.user_id})).status == 403
    assert await _say(alice, room_id, "still here")
    assert (await admin.put(path, {"block": False})).body == {"block": False}
    assert (await bob.post(f"/join/{room_id}", {})).status == 200
    unknown = f"{_V1}/rooms/!unknown:far.example/block"
    assert (await admin.put(unknown, {"block": True})).status == 200
    assert (await bob.post("/join/!unknown:far.example", {})).status == 403
    assert [action for action, _, _ in await audited()] == ["room.block", "room.unblock", "room.block"]


async def test_a_room_is_deleted_with_all_that_is_kept_of_it(
    admin: Api, alice: Api, sql: asyncpg.Connection[asyncpg.Record], audited: Audited
) -> None:
    """Members leave, its aliases go, and no table has a row of it but the one that has its name."""
    bob = await alice.as_token(None).register("bob")
    room_id = await _room(alice, bob, name="Doomed", room_alias_name="doomed")
    kept_id = await _room(alice, name="Kept")
    for number in range(5):
        await _say(bob, room_id, f"message {number}")
    kept_event = await _say(alice, kept_id, "kept")
    ordered = await admin.delete(f"{_V2}/rooms/{room_id}", {"purge": True, "block": True})
    status = await _finished(admin, f"{_V2}/rooms/delete_status/{ordered.body['delete_id']}")
    assert (status["status"], status.get("error")) == ("complete", None)
    assert set(status["shutdown_room"]["kicked_users"]) == {alice.user_id, bob.user_id}
    assert status["shutdown_room"]["local_aliases"] == ["#doomed:test.example"]
    by_room = (await admin.get(f"{_V2}/rooms/{room_id}/delete_status")).body["results"]
    assert [one["delete_id"] for one in by_room] == [ordered.body["delete_id"]]
    nid = await sql.fetchval("SELECT room_nid FROM rooms WHERE room_id = $1", room_id)
    for table in ("events", *purge.ROOM_TABLES):
        count = await sql.fetchval(f"SELECT count(*) FROM {table} WHERE room_nid = $1", nid)
        assert count == 0, table
    snapshots = await sql.fetchval(
        "SELECT count(*) FROM state_snapshots WHERE snapshot_nid NOT IN (SELECT snapshot_nid FROM events "
        "WHERE snapshot_nid IS NOT NULL UNION SELECT snapshot_nid FROM rooms WHERE snapshot_nid IS NOT NULL)"
    )
    assert snapshots <= 2  # bases of the other room's states
    assert (await admin.get(f"{_V1}/rooms/{room_id}")).status == 404
    assert (await bob.post(f"/join/{room_id}", {})).status == 403
    assert (await bob.get("/directory/room/%23doomed:test.example")).status == 404
    assert (await alice.get(f"/rooms/{kept_id}/event/{kept_event}")).status == 200
    assert (await alice.get("/sync", query={"timeout": "0"})).body["rooms"]["join"].keys() == {kept_id}
    assert [action for action, _, _ in await audited()] == ["room.delete"]


async def test_members_find_themselves_in_another_room(admin: Api, alice: Api) -> None:
    """With an owner for a new room, the members are moved there and read why; the old one can stay as it is."""
    bob = await alice.as_token(None).register("bob")
    room_id = await _room(alice, bob, room_alias_name="old")
    body = {"new_room_user_id": admin.user_id, "room_name": "Notice", "message": "Because.", "purge": False}
    answer = (await admin.request("DELETE", f"{_V1}/rooms/{room_id}", body)).body
    new = answer["new_room_id"]
    assert set(answer["kicked_users"]) == {alice.user_id, bob.user_id}
    joined = (await bob.get("/joined_rooms")).body["joined_rooms"]
    assert joined == [new]
    page = (await bob.get(f"/rooms/{new}/messages", query={"dir": "b", "limit": "20"})).body["chunk"]
    assert "Because." in [event["content"].get("body") for event in page]
    assert (await bob.put(f"/rooms/{new}/send/m.room.message/1", {"msgtype": "m.text", "body": "no"})).status == 403
    assert (await bob.get("/directory/room/%23old:test.example")).body["room_id"] == new
    assert (await admin.get(f"{_V1}/rooms/{room_id}")).body["joined_members"] == 0
    for owner in ("@nobody:test.example", "@far:else.example", "x"):
        refused = await admin.delete(f"{_V2}/rooms/{room_id}", {"new_room_user_id": owner})
        assert refused.status == 400


async def test_a_deletion_that_was_cut_short_is_finished(
    admin: Api, alice: Api, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Done twice, with what a first attempt left behind, it ends in the same place."""
    room_id = await _room(alice)
    await _say(alice, room_id, "x")
    first = (await admin.delete(f"{_V2}/rooms/{room_id}", {})).body["delete_id"]
    assert (await _finished(admin, f"{_V2}/rooms/delete_status/{first}"))["status"] == "complete"
    await sql.execute("UPDATE jobs SET status = 'active', finished_ts = NULL, claimed_until = 0, progress = '{}'")
    again = await admin.delete(f"{_V2}/rooms/{room_id}", {})
    assert (await _finished(admin, f"{_V2}/rooms/delete_status/{again.body['delete_id']}"))["status"] == "complete"
    assert (await _finished(admin, f"{_V2}/rooms/delete_status/{first}"))["status"] == "complete"
    assert (await admin.get(f"{_V1}/rooms/{room_id}/block")).body == {"block": False}


async def test_old_messages_are_purged_and_the_room_lives_on(admin: Api, alice: Api, audited: Audited) -> None:
    """Messages below the event go, state and what follows stay; what users here said goes only if asked for."""
    room_id = await _room(alice)
    sent = [await _say(alice, room_id, f"m{number}") for number in range(4)]
    path = f"{_V1}/purge_history/{room_id}/{sent[2]}"
    kept = (await admin.post(path, {})).body["purge_id"]
    assert (await _finished(admin, f"{_V1}/purge_history_status/{kept}"))["events_deleted"] == 0
    gone = (await admin.post(path, {"delete_local_events": True})).body["purge_id"]
    status = await _finished(admin, f"{_V1}/purge_history_status/{gone}")
    assert (status["status"], status["events_deleted"]) == ("complete", 2)
    assert [(await alice.get(f"/rooms/{room_id}/event/{id}")).status for id in sent] == [404, 404, 200, 200]
    page = (await alice.get(f"/rooms/{room_id}/messages", query={"dir": "b", "limit": "50"})).body["chunk"]
    assert [event["content"]["body"] for event in page if "body" in event["content"]] == ["m3", "m2"]
    assert await _say(alice, room_id, "m4")
    assert (await alice.get("/sync", query={"timeout": "0"})).status == 200
    for body in ({}, {"purge_up_to_event_id": "$none"}):
        assert (await admin.post(f"{_V1}/purge_history/{room_id}", body)).status == 400
    assert (await admin.post(f"{_V1}/purge_history/{room_id}", {"purge_up_to_ts": 5})).status == 404
    assert [action for action, _, _ in await audited()] == ["room.purge_history"] * 2


async def test_people_are_put_into_rooms_and_in_charge_of_them(admin: Api, alice: Api) -> None:
    """An administrator joins a user to a room, and gets power in a room by that of its strongest member here."""
    bob = await alice.as_token(None).register("bob")
    public = await _room(alice)
    answer = await admin.post(f"{_V1}/join/{public}", {"user_id": bob.user_id})
    assert answer.body == {"room_id": public}
    private = await _room(alice, preset="private_chat")
    assert (await admin.post(f"{_V1}/join/{private}", {"user_id": bob.user_id})).status == 403
    assert (await admin.post(f"{_V1}/rooms/{private}/make_room_admin", {})).body == {}
    assert (await admin.post(f"/join/{private}", {})).status == 200
    levels = (await admin.get(f"/rooms/{private}/state/m.room.power_levels")).body
    assert levels["users"][admin.user_id] >= 100
    assert (await admin.post(f"{_V1}/join/{private}", {"user_id": bob.user_id})).status == 200
    assert (await admin.post(f"{_V1}/join/{public}", {"user_id": "@far:else.example"})).status == 400
    assert (await admin.post(f"{_V1}/join/{public}", {"user_id": "@nobody:test.example"})).status == 404


async def test_every_table_of_rooms_is_purged(sql: asyncpg.Connection[asyncpg.Record]) -> None:
    """A table with rows of rooms or of events is deleted from when a room is."""
    by_room = await sql.fetch("SELECT table_name FROM information_schema.columns WHERE column_name = 'room_nid'")
    by_event = await sql.fetch("SELECT table_name FROM information_schema.columns WHERE column_name = 'event_nid'")
    known = {*purge.ROOM_TABLES, *purge.EVENT_TABLES, "rooms", "events"}
    assert {row["table_name"] for row in [*by_room, *by_event]} == known
