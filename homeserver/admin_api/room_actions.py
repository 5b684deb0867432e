"""What is done about people in rooms: joining one, making one an administrator of the room."""

from __future__ import annotations

import math

from homeserver.admin_api.requests import actor_of, admin_route, room_of_path
from homeserver.http import ApiRequest
from homeserver.http.bodies import string
from homeserver.protocol.errors import BadRequest, Forbidden, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of, is_room_id, is_user_id
from homeserver.protocol.power_levels import PowerLevels
from homeserver.rooms.timeline import NewEvent
from homeserver.services import Services
from homeserver.storage import audit_log
from homeserver.storage.accounts import find_account
from homeserver.storage.members import membership_in
from homeserver.storage.names import Room
from homeserver.storage.room_lists import local_members

_FULL = 100


async def post_join(services: Services, request: ApiRequest) -> JsonObject:
    """Joins a user of this server to a room; over an invitation by the administrator, where the room wants one."""
    user_id = string(await request.json(), "user_id", required=True, max_length=255)
    if not is_user_id(user_id) or domain_of(user_id) != services.server_name:
        raise BadRequest("This endpoint can only be used with local users")
    async with services.pool.acquire() as conn:
        account = await find_account(conn, user_id)
    if account is None or account.deactivated:
        raise NotFound("User not found")
    value = request.params["roomId"]
    room_id = value if is_room_id(value) else (await room_of_path(services, request)).room_id
    via = [*request.query.all("via"), *request.query.all("server_name")][:20]
    # Before it is tried: joining takes several transactions, some of them on other servers.
    async with services.pool.acquire() as conn:
        await audit_log.append(conn, actor_of(request), "room.join_user", room_id, {"user_id": user_id})
    try:
        room = await services.membership.join(room_id, user_id, via)
    except Forbidden:
        room = await room_of_path(services, request)
        await services.membership.invite(room, request.requester.user_id, user_id)
        await services.membership.join(room_id, user_id, via)
    return {"room_id": room.room_id}


async def post_make_room_admin(services: Services, request: ApiRequest) -> JsonObject:
    """Gives a user the highest power that anyone of this server has in a room, and lets them in."""
    room = await room_of_path(services, request)
    wanted = string(await request.json(allow_empty=True), "user_id", max_length=255)
    user_id = wanted if wanted is not None else request.requester.user_id
    if not is_user_id(user_id):
        raise BadRequest("user_id is not a user id")
    giver, levels = await _strongest(services, room)
    async with services.pool.acquire() as conn:
        await audit_log.append(conn, actor_of(request), "room.make_admin", room.room_id, {"user_id": user_id})
    await _give_power(services, room, giver, user_id, levels)
    await _let_in(services, room, giver, user_id)
    return {}


async def _strongest(services: Services, room: Room) -> tuple[str, PowerLevels]:
    """The user of this server with the most power in the room, who must be able to give it away."""
    timeline = services.timeline
    async with services.pool.acquire() as conn:
        head = await timeline.head(conn, room)
        if not head.extremities:
            raise NotFound("Room not found")
        levels = await head.power_levels(conn, timeline.names)
        members = await local_members(conn, services.server_name, room.nid)
    joined = [user_id for user_id, membership in members if membership == "join"]
    needed = levels.required("m.room.power_levels", True)
    strongest = max(joined, key=levels.user, default=None)
    if strongest is None or levels.user(strongest) < needed:
        raise BadRequest("No local admin user in room with power to update power levels.")
    return strongest, levels


async def _give_power(services: Services, room: Room, giver: str, user_id: str, levels: PowerLevels) -> None:
    level = levels.user(giver)
    # Who made the room stands above every level, and can't give that away.
    given = max(_FULL, levels.required("m.room.power_levels", True)) if math.isinf(level) else int(level)
    if levels.user(user_id) >= given:
        return
    timeline = services.timeline
    async with timeline.locked(room, 1) as append:
        current = await append.head.state_event(append.write.conn, timeline.names, "m.room.power_levels")
        content: JsonObject = dict(current.content) if current is not None else {}
        users = content.get("users")
        content["users"] = {**(users if isinstance(users, dict) else {}), user_id: given}
        await timeline.append_new(append, NewEvent("m.room.power_levels", giver, content, state_key=""))


async def _let_in(services: Services, room: Room, giver: str, user_id: str) -> None:
    timeline = services.timeline
    async with services.pool.acquire() as conn:
        own = await membership_in(conn, room.nid, await timeline.names.user_nid(user_id))
        rules = await (await timeline.head(conn, room)).state_event(conn, timeline.names, "m.room.join_rules")
    if own is not None and own.membership in ("join", "invite"):
        return
    if rules is None or rules.content.get("join_rule") != "public":
        await services.membership.invite(room, giver, user_id)


ROUTES = [
    admin_route("POST", "/v1/join/{roomId}", post_join),
    admin_route("POST", "/v1/rooms/{roomId}/make_room_admin", post_make_room_admin),
]
