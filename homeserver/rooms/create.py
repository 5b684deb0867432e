"""Making a room: all its first events in one transaction, then the invitations that other servers must sign.

# spec: client-server-api/#post_matrixclientv3createroom
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from homeserver.protocol.errors import BadRequest, InvalidParam, MatrixError, Unavailable
from homeserver.protocol.events import JsonObject, StateKey
from homeserver.protocol.identifiers import domain_of
from homeserver.protocol.room_versions import RoomVersion
from homeserver.remote import RemoteError
from homeserver.rooms.append import RoomAppend
from homeserver.rooms.membership import Membership
from homeserver.rooms.timeline import NewEvent
from homeserver.storage.names import Room
from homeserver.storage.room_aliases import insert_alias
from homeserver.storage.stream import Write

logger = logging.getLogger(__name__)

PRESETS: dict[str, dict[str, str]] = {
    "private_chat": {"join_rule": "invite", "history_visibility": "shared", "guest_access": "can_join"},
    "trusted_private_chat": {"join_rule": "invite", "history_visibility": "shared", "guest_access": "can_join"},
    "public_chat": {"join_rule": "public", "history_visibility": "shared", "guest_access": "forbidden"},
}


@dataclass(slots=True)
class RoomRequest:
    """What a client asks of createRoom, checked for types."""

    creator: str
    version: RoomVersion
    preset: str
    public: bool = False
    alias: str | None = None
    name: str | None = None
    topic: str | None = None
    creation_content: JsonObject = field(default_factory=dict)
    initial_state: list[NewEvent] = field(default_factory=list)
    power_level_override: JsonObject = field(default_factory=dict)
    invite: Sequence[str] = ()
    is_direct: bool | None = None

    @property
    def invite_extra(self) -> JsonObject:
        """What the members' invitations say besides."""
        return {} if self.is_direct is None else {"is_direct": self.is_direct}


async def create_room(membership: Membership, request: RoomRequest) -> Room:
    """Makes the room and invites everyone; the room. Those whose servers can't be asked or refuse are not invited.

    :raises BadRequest: M_INVALID_ROOM_STATE if the rules refuse part of the initial state, M_ROOM_IN_USE if the alias
        is taken
    :raises Forbidden: M_INVITE_BLOCKED if an invited user of this server refuses invitations; there is no room then
    """
    timeline = membership.timeline
    create = NewEvent("m.room.create", request.creator, _create_content(request), state_key="")
    local = [user_id for user_id in request.invite if domain_of(user_id) == timeline.server_name]
    room_id = None
    if not request.version.room_id_is_create_hash:
        room_id = new_room_id(timeline.server_name)
    try:
        async with timeline.stream.write() as write:
            room = await timeline.create_room(request.version, create, room_id, published=request.public, write=write)
            if request.alias is not None:
                creator_nid = await timeline.names.user_nid(request.creator)
                await insert_alias(write.conn, request.alias, room.nid, creator_nid, timeline.clock())
            await _append_first_events(membership, write, room, request, local)
    except asyncpg.UniqueViolationError as error:
        if error.table_name == "room_aliases":
            raise BadRequest(f"The alias {request.alias} is taken", errcode="M_ROOM_IN_USE") from None
        raise
    await _invite_elsewhere(membership, room, request, [user_id for user_id in request.invite if user_id not in local])
    return room


async def _invite_elsewhere(membership: Membership, room: Room, request: RoomRequest, user_ids: Sequence[str]) -> None:
    """Invites users of other servers, all servers at once, so that one which does not answer holds up no other. The
    room is there: whoever can't be invited is logged, and is missing from the members, where the creator sees it."""
    by_server: dict[str, list[str]] = {}
    for user_id in user_ids:
        by_server.setdefault(domain_of(user_id), []).append(user_id)

    async def invite(invited: Sequence[str]) -> None:
        for user_id in invited:
            try:
                await membership.invite(room, request.creator, user_id, request.invite_extra)
            except MatrixError as error:
                logger.info("%s could not be invited to %s: %s", user_id, room.room_id, error)
                if isinstance(error, Unavailable) and not isinstance(error, RemoteError):
                    return  # it did not answer, and would not for the others

    await asyncio.gather(*(invite(invited) for invited in by_server.values()))


def new_room_id(server_name: str) -> str:
    """A room id, for room versions where it is chosen."""
    return f"!{secrets.token_urlsafe(18)}:{server_name}"


async def _append_first_events(
    membership: Membership, write: Write, room: Room, request: RoomRequest, local: Sequence[str]
) -> None:
    join = await membership.member_content(write.conn, request.creator, "join")
    events = [NewEvent("m.room.member", request.creator, join, state_key=request.creator)]
    events += [
        NewEvent(type, request.creator, content, state_key=state_key)
        for (type, state_key), content in _initial_state(request).items()
    ]
    async with membership.timeline.appending(write, room, len(events) + len(local)) as append:
        for event in events:
            await append_first_event(membership, append, event)
        for user_id in local:
            await membership.append_invite(append, request.creator, user_id, request.invite_extra)


async def append_first_event(membership: Membership, append: RoomAppend, event: NewEvent) -> None:
    """Appends part of the state that a room begins with.

    :raises BadRequest: M_INVALID_ROOM_STATE if the rules refuse it
    """
    try:
        await membership.timeline.append_new(append, event)
    except MatrixError as error:
        raise BadRequest(
            f"{event.type} can't be part of a new room: {error.message}", errcode="M_INVALID_ROOM_STATE"
        ) from None


def _create_content(request: RoomRequest) -> JsonObject:
    content = dict(request.creation_content)
    content["room_version"] = request.version.identifier
    if request.version.implicit_creator:
        content.pop("creator", None)
    else:
        content["creator"] = request.creator
    if request.version.privileged_creators and request.preset == "trusted_private_chat":
        others = content.get("additional_creators", [])
        if not isinstance(others, list):
            raise InvalidParam("additional_creators must be an array of user ids")
        invited = [user_id for user_id in request.invite if user_id not in others]
        if others or invited:
            content["additional_creators"] = [*others, *invited]
    return content


def _initial_state(request: RoomRequest) -> dict[StateKey, JsonObject]:
    """Every state event after the creator's join, in order; of two for one key the later."""
    preset = PRESETS[request.preset]
    state: dict[StateKey, JsonObject] = {("m.room.power_levels", ""): _power_levels(request)}
    if request.alias is not None:
        state["m.room.canonical_alias", ""] = {"alias": request.alias}
    state["m.room.join_rules", ""] = {"join_rule": preset["join_rule"]}
    state["m.room.history_visibility", ""] = {"history_visibility": preset["history_visibility"]}
    if preset["guest_access"] != "forbidden":
        state["m.room.guest_access", ""] = {"guest_access": preset["guest_access"]}
    for event in request.initial_state:
        assert event.state_key is not None
        state[event.type, event.state_key] = event.content
    if request.name is not None:
        state["m.room.name", ""] = {"name": request.name}
    if request.topic is not None:
        # spec: client-server-api/#mroomtopic: both the plain string and the extensible form
        state["m.room.topic", ""] = {"topic": request.topic, "m.topic": {"m.text": [{"body": request.topic}]}}
    return state


def default_power_levels(version: RoomVersion, creator: str) -> dict[str, Any]:
    """The power levels of a room whose creator said nothing about them."""
    return _power_levels(RoomRequest(creator, version, "private_chat"))


def _power_levels(request: RoomRequest) -> dict[str, Any]:
    privileged = request.version.privileged_creators
    users = {} if privileged else {request.creator: 100}
    if request.preset == "trusted_private_chat" and not privileged:
        users.update((user_id, 100) for user_id in request.invite)
    levels: dict[str, Any] = {
        "users": users,
        "users_default": 0,
        "events": {
            "m.room.name": 50,
            "m.room.power_levels": 100,
            "m.room.history_visibility": 100,
            "m.room.canonical_alias": 50,
            "m.room.avatar": 50,
            "m.room.tombstone": 150 if privileged else 100,
            "m.room.server_acl": 100,
            "m.room.encryption": 100,
        },
        "events_default": 0,
        "state_default": 50,
        "ban": 50,
        "kick": 50,
        "redact": 50,
        "invite": 50 if request.preset == "public_chat" else 0,
        "historical": 100,
    }
    levels.update(request.power_level_override)
    return levels
