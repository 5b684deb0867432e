"""What there is of a user: devices, rooms, account data, pushers, addresses."""

from __future__ import annotations

import time

import orjson

from homeserver.accounts.sessions import end_sessions
from homeserver.admin_api.requests import actor_of, admin_route, local_account, user_id_of_path
from homeserver.devices.device_lists import mark_changed
from homeserver.http import ApiRequest, Response, json_response
from homeserver.http.account_export import send_export
from homeserver.http.bodies import array_of_strings, string
from homeserver.protocol.errors import NotFound
from homeserver.protocol.events import JsonObject
from homeserver.services import Services
from homeserver.storage import audit_log, devices
from homeserver.storage.account_data import GLOBAL, list_account_data
from homeserver.storage.accounts import Account
from homeserver.storage.devices import Device
from homeserver.storage.members import memberships_of
from homeserver.storage.pushers import PusherFields, list_pushers

_MAX_DEVICE_ID = 255
_MAX_DEVICE_NAME = 255
_LAST_POS = 2**63 - 1


async def get_devices(services: Services, request: ApiRequest) -> JsonObject:
    """The devices of a user."""
    account = await local_account(services, request)
    async with services.pool.acquire() as conn:
        found = await devices.list_devices(conn, account.user_nid)
    return {"devices": [_shown(account, device) for device in found], "total": len(found)}


def _shown(account: Account, device: Device) -> JsonObject:
    return {
        "device_id": device.device_id,
        "display_name": device.display_name,
        "last_seen_ip": device.last_seen_ip,
        "last_seen_ts": device.last_seen_ts,
        "last_seen_user_agent": None,
        "user_id": account.user_id,
    }


async def post_devices(services: Services, request: ApiRequest) -> Response:
    """Makes a device, without a session."""
    account = await local_account(services, request)
    device_id = string(await request.json(), "device_id", required=True, max_length=_MAX_DEVICE_ID)
    async with services.stream.write() as write:
        now_ms = int(time.time() * 1000)
        if await devices.ensure_device(write.conn, account.user_nid, device_id, display_name=None, now_ms=now_ms):
            await mark_changed(write, account.user_nid, [device_id])
            details = {"device_id": device_id}
            await audit_log.append(write.conn, actor_of(request), "device.create", account.user_id, details)
    return json_response({}, 201)


async def get_device(services: Services, request: ApiRequest) -> JsonObject:
    """One device."""
    account = await local_account(services, request)
    async with services.pool.acquire() as conn:
        device = await devices.find_device(conn, account.user_nid, request.params["deviceId"])
    if device is None:
        raise NotFound("No device found")
    return _shown(account, device)


async def put_device(services: Services, request: ApiRequest) -> JsonObject:
    """Renames a device."""
    account, device_id = await local_account(services, request), request.params["deviceId"]
    name = string(await request.json(allow_empty=True), "display_name", max_length=_MAX_DEVICE_NAME)
    async with services.stream.write() as write:
        if name is None:
            found = await devices.device_exists(write.conn, account.user_nid, device_id)
        else:
            found = await devices.rename_device(write.conn, account.user_nid, device_id, name)
            if found:
                await mark_changed(write, account.user_nid, [device_id])
                details = {"device_id": device_id, "display_name": name}
                await audit_log.append(write.conn, actor_of(request), "device.rename", account.user_id, details)
    if not found:
        raise NotFound("No device found")
    return {}


async def delete_device(services: Services, request: ApiRequest) -> JsonObject:
    """Ends a session and deletes its device; one that is not there is gone already."""
    return await _delete(services, request, [request.params["deviceId"]])


async def post_delete_devices(services: Services, request: ApiRequest) -> JsonObject:
    """The same for several."""
    wanted = array_of_strings(
        await request.json(), "devices", required=True, max_items=1_000, max_length=_MAX_DEVICE_ID
    )
    return await _delete(services, request, wanted)


async def _delete(services: Services, request: ApiRequest, device_ids: list[str]) -> JsonObject:
    account = await local_account(services, request)
    async with services.stream.write() as write:
        gone = await end_sessions(write, account.user_nid, device_ids)
        if gone:
            details = {"devices": gone}
            await audit_log.append(write.conn, actor_of(request), "device.delete", account.user_id, details)
    request.sessions_changed(account.user_nid)
    return {}


async def get_whois(services: Services, request: ApiRequest) -> JsonObject:
    """From which addresses a user was seen last."""
    account = await local_account(services, request)
    async with services.pool.acquire() as conn:
        found = await devices.list_devices(conn, account.user_nid)
    shown: JsonObject = {}
    for device in found:
        seen = {"ip": device.last_seen_ip, "last_seen": device.last_seen_ts}
        known = {key: value for key, value in seen.items() if value is not None}
        shown[device.device_id] = {"sessions": [{"connections": [known] if known else []}]}
    return {"user_id": account.user_id, "devices": shown}


async def get_joined_rooms(services: Services, request: ApiRequest) -> JsonObject:
    """The rooms that a user, of this server or another, is in, as far as this server knows."""
    found = await _memberships(services, request)
    joined = sorted(room_id for room_id, membership in found.items() if membership == "join")
    return {"joined_rooms": joined, "total": len(joined)}


async def get_memberships(services: Services, request: ApiRequest) -> JsonObject:
    """How the user stands to each room."""
    return {"memberships": await _memberships(services, request)}


async def _memberships(services: Services, request: ApiRequest) -> dict[str, str]:
    user_id = user_id_of_path(request)
    async with services.pool.acquire() as conn:
        user_nid = await conn.fetchval("SELECT user_nid FROM users WHERE user_id = $1", user_id)
        if user_nid is None:
            raise NotFound("User not found")
        found = await memberships_of(conn, user_nid)
    rooms = await services.timeline.names.rooms([each.room_nid for each in found])
    return {rooms[each.room_nid].room_id: each.membership for each in found}


async def get_account_data(services: Services, request: ApiRequest) -> JsonObject:
    """What the user's clients keep here."""
    account = await local_account(services, request)
    async with services.pool.acquire() as conn:
        data = await list_account_data(conn, account.user_nid, after=-1, up_to=_LAST_POS)
    rooms = await services.timeline.names.rooms({datum.room_nid for datum in data if datum.room_nid != GLOBAL})
    everywhere: JsonObject = {}
    by_room: dict[str, JsonObject] = {}
    for datum in data:
        place = everywhere
        if datum.room_nid != GLOBAL:
            place = by_room.setdefault(rooms[datum.room_nid].room_id, {})
        place[datum.type] = orjson.Fragment(datum.content)
    return {"account_data": {"global": everywhere, "rooms": by_room}}


async def get_export(services: Services, request: ApiRequest) -> Response:
    """A copy of everything that is kept about a user, as a ZIP."""
    account = await local_account(services, request)
    async with services.pool.acquire() as conn:
        await audit_log.append(conn, actor_of(request), "user.export", account.user_id, {})
    return await send_export(services, request, account)


async def get_pushers(services: Services, request: ApiRequest) -> JsonObject:
    """Where the user's devices are told of events. Of their data only what says where and how, none of their keys."""
    account = await local_account(services, request)
    async with services.pool.acquire() as conn:
        found = await list_pushers(conn, account.user_nid)
    return {"pushers": [_shown_pusher(one.fields) for one in found], "total": len(found)}


def _shown_pusher(fields: PusherFields) -> JsonObject:
    return {
        "app_display_name": fields.app_display_name,
        "app_id": fields.app_id,
        "data": {key: fields.data[key] for key in ("url", "format") if key in fields.data},
        "device_display_name": fields.device_display_name,
        "kind": fields.kind,
        "lang": fields.lang,
        "profile_tag": fields.profile_tag or "",
        "pushkey": fields.pushkey,
    }


_DEVICE = "/v2/users/{userId}/devices/{deviceId}"

ROUTES = [
    admin_route("GET", "/v2/users/{userId}/devices", get_devices),
    admin_route("POST", "/v2/users/{userId}/devices", post_devices),
    admin_route("POST", "/v2/users/{userId}/delete_devices", post_delete_devices),
    admin_route("GET", _DEVICE, get_device),
    admin_route("PUT", _DEVICE, put_device),
    admin_route("DELETE", _DEVICE, delete_device),
    admin_route("GET", "/v1/whois/{userId}", get_whois),
    admin_route("GET", "/v1/users/{userId}/joined_rooms", get_joined_rooms),
    admin_route("GET", "/v1/users/{userId}/memberships", get_memberships),
    admin_route("GET", "/v1/users/{userId}/accountdata", get_account_data),
    admin_route("GET", "/v1/users/{userId}/pushers", get_pushers),
    admin_route("GET", "/v1/users/{userId}/export", get_export),
]
