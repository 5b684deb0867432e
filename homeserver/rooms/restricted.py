"""Joins that a room allows to members of other rooms.  # spec: client-server-api/#restricted-rooms"""

from __future__ import annotations

from homeserver.protocol.errors import BadRequest, Forbidden
from homeserver.protocol.identifiers import domain_of
from homeserver.rooms.head import RoomHead
from homeserver.rooms.timeline import Timeline
from homeserver.storage.members import is_any_joined, member_user_ids, membership_in
from homeserver.storage.stream import Connection


class CannotAuthorise(BadRequest):
    """Only another server could authorise the join: M_UNABLE_TO_AUTHORISE_JOIN if this one can't tell whether the user
    qualifies, M_UNABLE_TO_GRANT_JOIN if the user does but nobody here may invite."""


async def authorising_user(conn: Connection, timeline: Timeline, head: RoomHead, user_id: str) -> str | None:
    """Who authorises a join of `user_id`: a user of this server who may; None if nobody needs to.

    :raises Forbidden: if the user is in none of the rooms whose members may join
    :raises CannotAuthorise: if another server must be asked
    # spec: server-server-api/#restricted-rooms
    """
    rules = await head.state_event(conn, timeline.names, "m.room.join_rules")
    join_rule = rules.content.get("join_rule") if rules is not None else None
    allowed_rules = ["restricted"] if head.room.version.restricted_joins else []
    if head.room.version.knock_restricted:
        allowed_rules.append("knock_restricted")
    if rules is None or join_rule not in allowed_rules:
        return None
    member = await head.state_event(conn, timeline.names, "m.room.member", user_id)
    if member is not None and member.membership in ("join", "invite"):
        return None
    qualifies = await _qualifies(conn, timeline, rules.content.get("allow"), user_id)
    if qualifies is None:
        raise CannotAuthorise(
            "This server is not in the rooms whose members may join", errcode="M_UNABLE_TO_AUTHORISE_JOIN"
        )
    if not qualifies:
        raise Forbidden("You are in none of the rooms whose members may join")
    levels = await head.power_levels(conn, timeline.names)
    for member_id in await member_user_ids(conn, head.room.nid):
        if domain_of(member_id) == timeline.server_name and levels.user(member_id) >= levels.invite:
            return member_id
    raise CannotAuthorise("Nobody on this server may invite to that room", errcode="M_UNABLE_TO_GRANT_JOIN")


async def _qualifies(conn: Connection, timeline: Timeline, allow: object, user_id: str) -> bool | None:
    """Whether the user is in one of the rooms whose members may join; None if that can't be told here."""
    known_all = True
    for condition in allow if isinstance(allow, list) else []:
        if not isinstance(condition, dict) or condition.get("type") != "m.room_membership":
            continue
        room_id = condition.get("room_id")
        room = await timeline.names.room(room_id) if isinstance(room_id, str) and "\0" not in room_id else None
        if room is None or not await is_any_joined(conn, room.nid, timeline.server_name):
            known_all = False
            continue
        membership = await membership_in(conn, room.nid, await timeline.names.user_nid(user_id))
        if membership is not None and membership.membership == "join":
            return True
    # A user of ours can only be in rooms that this server is in.
    return False if known_all or domain_of(user_id) == timeline.server_name else None
