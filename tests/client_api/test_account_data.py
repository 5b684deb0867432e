"""Account data: kept, told, deleted (MSC3391).  # spec: client-server-api/#client-config"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import Api

_UNSTABLE = "/_matrix/client/unstable/org.matrix.msc3391"


async def events(user: Api, since: str | None = None) -> tuple[list[Any], str]:
    """The global account data but push rules that a sync tells, and the next token."""
    body = (await user.get("/sync" + (f"?since={since}" if since else ""))).body
    return [event for event in body["account_data"]["events"] if event["type"] != "m.push_rules"], body["next_batch"]


@pytest.mark.parametrize("how", ["DELETE", "unstable DELETE", "PUT {}"])
async def test_deleted_account_data_is_gone(alice: Api, how: str) -> None:
    """After deleting, reading gives 404; whoever syncs on is told `{}`, whoever begins anew nothing. Putting `{}` is
    the same as deleting."""
    path = f"/user/{alice.user_id}/account_data/org.example.x"
    await alice.put(path, {"a": 1})
    told, token = await events(alice)
    assert told == [{"type": "org.example.x", "content": {"a": 1}}]
    if how == "PUT {}":
        answer = await alice.put(path, {})
    else:
        answer = await alice.delete((_UNSTABLE if how.startswith("unstable") else "") + path)
    assert (answer.status, answer.body) == (200, {})
    assert (await alice.get(path)).errcode == "M_NOT_FOUND"
    told, later = await events(alice, token)
    assert told == [{"type": "org.example.x", "content": {}}]
    assert (await events(alice, later))[0] == []
    assert (await events(alice))[0] == []
    await alice.put(path, {"a": 2})
    assert (await alice.get(path)).body == {"a": 2}


async def test_deleting_what_is_not_there_tells_nobody(alice: Api) -> None:
    """Deleting is idempotent: it always succeeds, and what changes nothing is not told."""
    _, token = await events(alice)
    for _ in range(2):
        assert (await alice.delete(f"/user/{alice.user_id}/account_data/org.example.never")).body == {}
    assert (await events(alice, token))[0] == []


async def test_account_data_of_a_room_is_deleted_the_same_way(alice: Api) -> None:
    """Account data of a room: 404 afterwards, `{}` in an incremental sync, nothing in a new one."""
    room = (await alice.post("/createRoom", {})).body["room_id"]
    path = f"/user/{alice.user_id}/rooms/{room}/account_data/org.example.x"
    await alice.put(path, {"a": 1})
    since = (await alice.get("/sync")).body["next_batch"]
    assert (await alice.delete(_UNSTABLE + path)).body == {}
    assert (await alice.get(path)).errcode == "M_NOT_FOUND"
    section = (await alice.get(f"/sync?since={since}")).body["rooms"]["join"][room]
    assert section["account_data"]["events"] == [{"type": "org.example.x", "content": {}}]
    assert (await alice.get("/sync")).body["rooms"]["join"][room]["account_data"]["events"] == []


async def test_what_the_server_keeps_can_not_be_deleted(alice: Api) -> None:
    """What can't be set this way can't be deleted this way either, and nobody deletes another's."""
    for type in ("m.push_rules", "m.fully_read"):
        answer = await alice.delete(f"/user/{alice.user_id}/account_data/{type}")
        assert (answer.status, answer.errcode) == (405, "M_BAD_JSON")
    assert (await alice.delete("/user/@bob:test.example/account_data/x")).errcode == "M_FORBIDDEN"


async def test_image_packs_and_recent_emoji_pass_through(alice: Api) -> None:
    """Image packs (MSC2545) and recently used emoji are account data and state like any other."""
    pack = {"images": {"wave": {"url": "mxc://test.example/abc", "usage": ["emoticon"]}}, "pack": {"display_name": "P"}}
    recent = {"recent_emoji": [["🦊", 3], ["👋", 1]]}
    own = f"/user/{alice.user_id}/account_data"
    for type, content in (
        ("im.ponies.user_emotes", pack),
        ("im.ponies.emote_rooms", {"rooms": {"!a:b": {"": {}}}}),
        ("io.element.recent_emoji", recent),
        ("m.direct", {"@bob:test.example": ["!a:b"]}),
    ):
        await alice.put(f"{own}/{type}", content)
        assert (await alice.get(f"{own}/{type}")).body == content
    room = (await alice.post("/createRoom", {})).body["room_id"]
    await alice.put(f"/rooms/{room}/state/im.ponies.room_emotes/pack", pack)
    assert (await alice.get(f"/rooms/{room}/state/im.ponies.room_emotes/pack")).body == pack


async def test_deleting_the_list_of_ignored_users_ends_the_ignoring(alice: Api) -> None:
    """From then on messages and invitations are told and notify, for those who sync on as for those who begin anew."""
    bob = await alice.as_token(None).register("bob")
    room = (await alice.post("/createRoom", {"preset": "public_chat"})).body["room_id"]
    await bob.post(f"/join/{room}", {})
    path = f"/user/{alice.user_id}/account_data/m.ignored_user_list"
    await alice.put(path, {"ignored_users": {bob.user_id: {}}})
    await bob.put(f"/rooms/{room}/send/m.room.message/1", {"msgtype": "m.text", "body": "unheard"})
    token = (await alice.get("/sync")).body["next_batch"]
    assert (await alice.delete(path)).body == {}
    await bob.put(f"/rooms/{room}/send/m.room.message/2", {"msgtype": "m.text", "body": "heard"})
    other = (await bob.post("/createRoom", {"invite": [alice.user_id]})).body["room_id"]
    for since in (f"?since={token}", ""):
        rooms = (await alice.get("/sync" + since)).body["rooms"]
        events = rooms["join"][room]["timeline"]["events"]
        assert events[-1]["content"]["body"] == "heard"
        assert rooms["join"][room]["unread_notifications"]["notification_count"] == 1
        assert other in rooms["invite"]
    sliding = {"lists": {"all": {"ranges": [[0, 9]], "timeline_limit": 1, "required_state": []}}}
    told = await alice.post("/_matrix/client/unstable/org.matrix.simplified_msc3575/sync", sliding)
    assert told.body["rooms"].keys() == {room, other}
