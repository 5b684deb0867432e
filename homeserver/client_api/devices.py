"""One's own devices.

# spec: client-server-api/#device-management
"""

from __future__ import annotations

import time

from homeserver.accounts.sessions import end_sessions
from homeserver.client_api.own_user import prove_owner
from homeserver.devices.device_lists import mark_changed
from homeserver.http import ApiRequest, Auth, Response, client_routes, json_response
from homeserver.http.bodies import array_of_strings, string
from homeserver.protocol.errors import NotFound
from homeserver.protocol.events import JsonObject
from homeserver.services import Services
from homeserver.storage import devices
from homeserver.storage.devices import Device

_MAX_DEVICE_ID = 255
_MAX_DEVICE_NAME = 255


async def get_devices(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3devices"""
    async with services.pool.acquire() as conn:
        found = await devices.list_devices(conn, request.requester.user_nid)
    return {"devices": [_shown(device) for device in found]}


async def get_device(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3devicesdeviceid"""
    async with services.pool.acquire() as conn:
        device = await devices.find_device(conn, request.requester.user_nid, request.params["deviceId"])
    if device is None:
        raise _no_such_device()
    return _shown(device)


async def put_device(services: Services, request: ApiRequest) -> JsonObject | Response:
    """# spec: client-server-api/#put_matrixclientv3devicesdeviceid"""
    requester = request.requester
    body = await request.json()
    display_name = string(body, "display_name", max_length=_MAX_DEVICE_NAME)
    device_id = request.params["deviceId"]
    async with services.stream.write() as write:
        conn = write.conn
        if requester.appservice_id is not None and len(device_id) <= _MAX_DEVICE_ID:
            now_ms = int(time.time() * 1000)
            if await devices.ensure_device(
                conn, requester.user_nid, device_id, display_name=display_name, now_ms=now_ms
            ):
                return json_response({}, 201)
        if display_name is None:
            found = await devices.device_exists(conn, requester.user_nid, device_id)
        else:
            found = await devices.rename_device(conn, requester.user_nid, device_id, display_name)
            if found:
                await mark_changed(write, requester.user_nid, [device_id])
    if not found:
        raise _no_such_device()
    return {}


async def delete_device(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#delete_matrixclientv3devicesdeviceid"""
    device_id = request.params["deviceId"]
    body = await request.json(allow_empty=True)
    return await _delete(services, request, body, [device_id], f"DELETE /devices/{device_id}")


async def post_delete_devices(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3delete_devices"""
    body = await request.json()
    device_ids = array_of_strings(body, "devices", required=True, max_items=1000, max_length=_MAX_DEVICE_ID)
    return await _delete(services, request, body, device_ids, "POST /delete_devices")


async def _delete(
    services: Services, request: ApiRequest, body: JsonObject, device_ids: list[str], operation: str
) -> JsonObject:
    proof = await prove_owner(services, request, body, operation)
    async with services.stream.write() as write:
        if proof is not None:
            await proof.use(write.conn)
        await end_sessions(write, request.requester.user_nid, device_ids)
    request.sessions_changed(request.requester.user_nid)
    return {}


def _shown(device: Device) -> JsonObject:
    fields = {
        "device_id": device.device_id,
        "display_name": device.display_name,
        "last_seen_ip": device.last_seen_ip,
        "last_seen_ts": device.last_seen_ts,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _no_such_device() -> NotFound:
    return NotFound("You have no such device")


ROUTES = [
    *client_routes("GET", "/devices", get_devices, Auth.GUEST),
    *client_routes("GET", "/devices/{deviceId}", get_device, Auth.GUEST),
    *client_routes("PUT", "/devices/{deviceId}", put_device, Auth.GUEST),
    *client_routes("DELETE", "/devices/{deviceId}", delete_device, Auth.USER),
    *client_routes("POST", "/delete_devices", post_delete_devices, Auth.USER),
]
