"""Replacing a room by one of another version: the new room, what it takes over, and the end of the old one, in one
transaction.

Where the new room's id can be chosen, its create event names the tombstone as the last event of the old room. From room
version 12 on the id is the hash of the create event, so the room comes first and its create event names the old room
alone.

# spec: client-server-api/#room-upgrades
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from homeserver.protocol.errors import AuthRuleError, Forbidden
from homeserver.protocol.events import Event, JsonObject, StateKey
from homeserver.protocol.identifiers import is_user_id
from homeserver.protocol.power_levels import DEFAULTS, parse_level
from homeserver.protocol.room_versions import RoomVersion
from homeserver.rooms.append import RoomAppend
from homeserver.rooms.create import append_first_event, default_power_levels, new_room_id
from homeserver.rooms.membership import Membership
from homeserver.rooms.predecessor import take_over_settings
from homeserver.rooms.summary import SPACE
from homeserver.rooms.timeline import NewEvent
from homeserver.storage.events import events_by_nid
from homeserver.storage.members import event_nids_of
from homeserver.storage.names import Room
from homeserver.storage.room_aliases import aliases_of_room, move_aliases
from homeserver.storage.room_directory import move_network_rooms
from homeserver.storage.room_summaries import is_published, set_published, space_children
from homeserver.storage.stream import Connection, Write

_TOMBSTONE = "m.room.tombstone"
_TOMBSTONE_LEVEL = 150  # spec: client-server-api/#post_matrixclientv3createroom: from room version 12 on
_ALIAS = "m.room.canonical_alias"
_LEVELS = "m.room.power_levels"
# In this order, and the power levels after all of them: until there are any, the creator may do everything.
_TAKEN_OVER = (
    "m.room.join_rules",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.policy",
)
_MOST_BANS = 5_000


async def upgrade_room(
    membership: Membership, old: Room, user_id: str, version: RoomVersion, additional_creators: Sequence[str] = ()
) -> Room:
    """Replaces a room; the new one.

    :param additional_creators: ignored by room versions that don't have them
    :raises Forbidden: if the user may not send a tombstone there
    # spec: client-server-api/#post_matrixclientv3roomsroomidupgrade
    """
    timeline = membership.timeline
    async with timeline.stream.write() as write, timeline.appending(write, old, 3) as closing:
        # The tombstone is the first event, so whether it may be sent is known before anything else happens.
        state = await _state(membership, write.conn, closing)
        content = _create_content(old, state, version, additional_creators)
        if version.room_id_is_create_hash:
            await timeline.build(write.conn, closing.head, _tombstone(user_id, old.room_id))
            new = await _create(membership, write, user_id, version, content, None)
            await timeline.append_new(closing, _tombstone(user_id, new.room_id))
        else:
            room_id = new_room_id(timeline.server_name)
            content["predecessor"]["event_id"] = await timeline.append_new(closing, _tombstone(user_id, room_id))
            new = await _create(membership, write, user_id, version, content, room_id)
        await _fill(membership, write, old, new, user_id, state, content)
        await _restrict(membership, closing, user_id, state)
        await _move_aliases(membership, write, closing, new, user_id, state)
        if await is_published(write.conn, old.nid):
            await set_published(write.conn, old.nid, published=False)
            await set_published(write.conn, new.nid, published=True)
        await move_network_rooms(write.conn, old.nid, new.nid)
        await take_over_settings(write, old, new, await timeline.names.user_nid(user_id))
    return new


def _tombstone(sender: str, replacement: str) -> NewEvent:
    content = {"body": "This room has been replaced", "replacement_room": replacement}
    return NewEvent(_TOMBSTONE, sender, content, state_key="")


async def _state(membership: Membership, conn: Connection, append: RoomAppend) -> dict[StateKey, Event]:
    keys = [(type, "") for type in ("m.room.create", _LEVELS, _ALIAS, *_TAKEN_OVER)]
    state = await append.head.state(conn, membership.timeline.names, keys)
    if ("m.room.create", "") not in state:
        raise Forbidden("You are not in that room")
    return {key: entry.event for key, entry in state.items()}


def _create_content(
    old: Room, state: Mapping[StateKey, Event], version: RoomVersion, additional_creators: Sequence[str]
) -> JsonObject:
    before = state["m.room.create", ""].content
    content: JsonObject = {key: before[key] for key in ("type", "m.federate") if key in before}
    content["room_version"] = version.identifier
    content["predecessor"] = {"room_id": old.room_id}
    if version.privileged_creators and additional_creators:
        # spec: client-server-api/#room-upgrades: those of the old room are not taken over
        content["additional_creators"] = list(dict.fromkeys(additional_creators))
    return content


async def _create(
    membership: Membership, write: Write, user_id: str, version: RoomVersion, content: JsonObject, room_id: str | None
) -> Room:
    if not version.implicit_creator:
        content["creator"] = user_id
    create = NewEvent("m.room.create", user_id, content, state_key="")
    return await membership.timeline.create_room(version, create, room_id, published=False, write=write)


async def _fill(
    membership: Membership,
    write: Write,
    old: Room,
    new: Room,
    user_id: str,
    state: Mapping[StateKey, Event],
    create_content: JsonObject,
) -> None:
    """Sends the new room its first events."""
    join = await membership.member_content(write.conn, user_id, "join")
    events = [NewEvent("m.room.member", user_id, join, state_key=user_id)]
    for type in _TAKEN_OVER:
        event = state.get((type, ""))
        if event is not None and event.content:
            events.append(NewEvent(type, user_id, event.content, state_key=""))
    events += await _other_state(membership, write.conn, old, user_id, is_space=create_content.get("type") == SPACE)
    levels = state.get((_LEVELS, ""))
    creators = {user_id, *create_content.get("additional_creators", ())} if new.version.privileged_creators else set()
    events.append(
        NewEvent(
            _LEVELS,
            user_id,
            default_power_levels(new.version, user_id)
            if levels is None
            else power_levels_after(levels.content, old.version, new.version, user_id, creators),
            state_key="",
        )
    )
    if alias := await _alias_after(membership, write.conn, old, state):
        events.append(NewEvent(_ALIAS, user_id, alias, state_key=""))
    async with membership.timeline.appending(write, new, len(events)) as append:
        for first in events:
            await append_first_event(membership, append, first)


async def _other_state(
    membership: Membership, conn: Connection, old: Room, user_id: str, *, is_space: bool
) -> list[NewEvent]:
    """Who is banned, and the children of a space."""
    nids = await event_nids_of(conn, old.nid, "ban", _MOST_BANS)
    bans = [stored.event for stored in (await events_by_nid(conn, nids)).values()]
    children = [stored.event for stored in await space_children(conn, old.nid)] if is_space else []
    return [
        NewEvent(event.type, user_id, event.content, state_key=event.state_key)
        for event in [*bans, *children]
        if event.content and event.state_key != user_id
    ]


def power_levels_after(
    content: JsonObject, old: RoomVersion, new: RoomVersion, upgrader: str, creators: Collection[str]
) -> JsonObject:
    """The power levels of the new room: those of the old one, as the new version lets them stand.

    :param creators: of the new room, if its version gives them a power of their own
    # spec: rooms/v10#values-in-mroompower_levels-events-must-be-integers  rooms/v12#authorization-rules
    """
    levels = {key: value for key, value in content.items() if key not in DEFAULTS}
    for key in DEFAULTS:
        if (level := parse_level(old, content.get(key))) is not None:
            levels[key] = level
    for key in ("users", "events", "notifications"):
        if key in content:
            levels[key] = _parsed(old, content[key])
    users = {user_id: level for user_id, level in levels.get("users", {}).items() if is_user_id(user_id)}
    levels["users"] = users
    if new.privileged_creators:
        levels["users"] = {user_id: level for user_id, level in users.items() if user_id not in creators}
        events = levels.setdefault("events", {})
        events[_TOMBSTONE] = _tombstone_level(old, levels)
    elif old.privileged_creators:
        # Whoever had no need of a level there needs one here.
        users[upgrader] = max([100, *users.values(), *levels.get("events", {}).values()])
    return levels


def _parsed(version: RoomVersion, values: object) -> dict[str, int]:
    if not isinstance(values, dict):
        return {}
    parsed = {key: parse_level(version, value) for key, value in values.items()}
    return {key: level for key, level in parsed.items() if level is not None}


def _tombstone_level(old: RoomVersion, levels: Mapping[str, Any]) -> int:
    """Above what state needs: whoever upgrades becomes a creator, and stands above all others from then on."""
    state_default: int = levels.get("state_default", DEFAULTS["state_default"])
    current: int = levels["events"].get(_TOMBSTONE, state_default)
    if old.privileged_creators and current > state_default:
        return current
    return max(_TOMBSTONE_LEVEL, state_default + 1, current)


async def _restrict(membership: Membership, closing: RoomAppend, user_id: str, state: Mapping[StateKey, Event]) -> None:
    """Lets ordinary members of the old room neither send nor invite, if the user may change that."""
    levels = state.get((_LEVELS, ""))
    if levels is None:
        return
    default = parse_level(levels.room_version, levels.content.get("users_default")) or 0
    closed = max(50, default + 1)
    content = dict(levels.content)
    for key in ("events_default", "invite"):
        content[key] = max(closed, parse_level(levels.room_version, content.get(key)) or 0)
    await _try(membership, closing, NewEvent(_LEVELS, user_id, content, state_key=""))


async def _try(membership: Membership, append: RoomAppend, event: NewEvent) -> None:
    try:
        await membership.timeline.append_new(append, event)
    except AuthRuleError:
        return  # spec: client-server-api/#room-upgrades: "if possible"


def _alias_list(content: JsonObject) -> list[Any]:
    others = content.get("alt_aliases")
    return others if isinstance(others, list) else []


async def _alias_after(
    membership: Membership, conn: Connection, old: Room, state: Mapping[StateKey, Event]
) -> JsonObject:
    """What m.room.canonical_alias of the new room says: the aliases of the old one's that are moved to it."""
    event = state.get((_ALIAS, ""))
    if event is None:
        return {}
    moved = set(await aliases_of_room(conn, old.nid))
    content: JsonObject = {}
    if event.content.get("alias") in moved:
        content["alias"] = event.content["alias"]
    if others := [alias for alias in _alias_list(event.content) if isinstance(alias, str) and alias in moved]:
        content["alt_aliases"] = others
    return content


async def _move_aliases(
    membership: Membership,
    write: Write,
    closing: RoomAppend,
    new: Room,
    user_id: str,
    state: Mapping[StateKey, Event],
) -> None:
    """Moves this server's aliases, and lets the old room no longer claim them."""
    moved = set(await move_aliases(write.conn, closing.head.room.nid, new.nid))
    event = state.get((_ALIAS, ""))
    if event is None or not moved:
        return
    content = dict(event.content)
    if isinstance(content.get("alias"), str) and content["alias"] in moved:
        del content["alias"]
    if "alt_aliases" in content:
        content["alt_aliases"] = [
            alias for alias in _alias_list(content) if not (isinstance(alias, str) and alias in moved)
        ]
    if content != event.content:
        await _try(membership, closing, NewEvent(_ALIAS, user_id, content, state_key=""))
