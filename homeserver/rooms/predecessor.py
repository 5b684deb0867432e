"""What a user of ours had set for a room, taken over to the room that replaces it.

# spec: client-server-api/#room-upgrades: "When a user joins the new room, …"
"""

from __future__ import annotations

from typing import Any

import orjson

from homeserver.protocol.canonical_json import encode_json
from homeserver.protocol.errors import BadRequest
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import is_room_id
from homeserver.protocol.push_rule_edits import put_rule, set_enabled
from homeserver.protocol.push_rules import UserRules
from homeserver.rooms.timeline import Timeline
from homeserver.storage.account_data import find_account_data, put_account_data
from homeserver.storage.members import membership_in
from homeserver.storage.names import Room
from homeserver.storage.push_rules import lock_push_rules, put_push_rules
from homeserver.storage.stream import Connection, Write

_TAGS, _DIRECT = "m.tag", "m.direct"


async def take_over_from_predecessor(timeline: Timeline, room: Room, user_id: str) -> None:
    """Does so for a user who has just joined `room`, if it replaces another by what both of them say."""
    async with timeline.stream.pool.acquire() as conn:
        old = await _predecessor(conn, timeline, room)
    if old is None:
        return
    user_nid = await timeline.names.user_nid(user_id)
    async with timeline.stream.write() as write:
        was = await membership_in(write.conn, old.nid, user_nid)
        if was is not None and was.membership in ("join", "leave"):
            await take_over_settings(write, old, room, user_nid)


async def _predecessor(conn: Connection, timeline: Timeline, room: Room) -> Room | None:
    create = await (await timeline.head(conn, room)).state_event(conn, timeline.names, "m.room.create")
    predecessor = create.content.get("predecessor") if create is not None else None
    room_id = predecessor.get("room_id") if isinstance(predecessor, dict) else None
    old = await timeline.names.room(room_id) if is_room_id(room_id) else None
    if old is None:
        return None
    tombstone = await (await timeline.head(conn, old)).state_event(conn, timeline.names, "m.room.tombstone")
    # Any room can claim to replace another.
    return old if tombstone is not None and tombstone.content.get("replacement_room") == room.room_id else None


async def take_over_settings(write: Write, old: Room, new: Room, user_nid: int) -> None:
    """Copies tags, whether the room is a direct chat, and push rules. What the new room has already stays."""
    conn = write.conn
    tags = await find_account_data(conn, user_nid, _TAGS, room_nid=old.nid)
    if tags is not None and await find_account_data(conn, user_nid, _TAGS, room_nid=new.nid) is None:
        await put_account_data(conn, user_nid, _TAGS, tags, await write.next_position(), room_nid=new.nid)
        write.changed(users=[user_nid])
    await _take_over_direct(write, old, new, user_nid)
    await _take_over_push_rules(write, old, new, user_nid)


async def _take_over_direct(write: Write, old: Room, new: Room, user_nid: int) -> None:
    raw = await find_account_data(write.conn, user_nid, _DIRECT)
    direct: dict[str, Any] = orjson.loads(raw) if raw is not None else {}
    changed = False
    for user_id, rooms in direct.items():
        if isinstance(rooms, list) and old.room_id in rooms and new.room_id not in rooms:
            direct[user_id] = [*rooms, new.room_id]
            changed = True
    if changed:
        await put_account_data(write.conn, user_nid, _DIRECT, encode_json(direct), await write.next_position())
        write.changed(users=[user_nid])


async def _take_over_push_rules(write: Write, old: Room, new: Room, user_nid: int) -> None:
    before = await lock_push_rules(write.conn, user_nid)
    rules = before
    for kind in ("room", "override"):
        for rule in before.get(kind, ()):
            if rule["rule_id"] == old.room_id:
                rules = _with_rule_for(rules, kind, rule, old.room_id, new.room_id)
    if rules is not before:
        await put_push_rules(write.conn, user_nid, rules, await write.next_position())
        write.changed(users=[user_nid])


def _with_rule_for(rules: UserRules, kind: str, rule: JsonObject, old_id: str, new_id: str) -> UserRules:
    """The rules with one more: the same as `rule`, about the new room. Clients give such rules the room's id."""
    if any(other["rule_id"] == new_id for other in rules.get(kind, ())):
        return rules
    body: JsonObject = {"actions": rule["actions"]}
    if kind == "override":
        body["conditions"] = [
            {**condition, "pattern": new_id} if condition.get("pattern") == old_id else condition
            for condition in rule["conditions"]
        ]
    try:
        rules = put_rule(rules, kind, new_id, body, after=old_id)
    except BadRequest:  # too many rules
        return rules
    return rules if rule["enabled"] else set_enabled(rules, kind, new_id, False)
