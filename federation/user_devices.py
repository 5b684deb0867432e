"""The devices of our users as other servers see them: on request, and in EDUs when one changes.

Their names are not told: they may say what somebody owns or where they work, and nothing needs them.

# spec: server-server-api/#device-management
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from federation.peers import Federation, PeerRequest
from homeserver.devices.keys import own_keys
from homeserver.protocol.errors import InvalidParam, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of, is_user_id
from homeserver.storage.accounts import find_account
from homeserver.storage.device_lists import is_own_device, last_stream_id
from homeserver.storage.device_updates import DEVICE_LIST_UPDATE, SIGNING_KEY_UPDATE
from homeserver.storage.outgoing_edus import OutgoingEdu
from homeserver.storage.stream import Connection

_NO_STREAM_ID = 0  # below every one that is given
_SIGNING_KEYS = {"master_keys": "master_key", "self_signing_keys": "self_signing_key"}


async def get_user_devices(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#get_matrixfederationv1userdevicesuserid"""
    user_id = request.params["userId"]
    if not is_user_id(user_id) or "\0" in user_id or domain_of(user_id) != federation.server_name:
        raise InvalidParam("Not a user of this server")
    # One snapshot: the stream id must not be of another time than the devices.
    async with federation.services.pool.acquire() as conn, conn.transaction(isolation="repeatable_read"):
        account = await find_account(conn, user_id)
        if account is None or account.deactivated:
            raise NotFound("There is no such user")
        devices, signing_keys = await _keys(conn, user_id)
        stream_id = await last_stream_id(conn, account.user_nid)
    return {
        "user_id": user_id,
        "stream_id": _NO_STREAM_ID if stream_id is None else stream_id,
        "devices": [{"device_id": device_id, "keys": keys} for device_id, keys in devices.items()],
        **signing_keys,
    }


async def completed_edus(conn: Connection, kept: Sequence[OutgoingEdu]) -> list[JsonObject]:
    """EDUs as they go out: those about devices and keys with what these are now."""
    edus: list[JsonObject] = []
    for edu in kept:
        content = orjson.loads(edu.content)
        if edu.edu_type == DEVICE_LIST_UPDATE:
            content |= await _device(conn, content["user_id"], content["device_id"])
        elif edu.edu_type == SIGNING_KEY_UPDATE:
            content |= (await _keys(conn, content["user_id"]))[1]
        edus.append({"edu_type": edu.edu_type, "content": content})
    return edus


async def _device(conn: Connection, user_id: str, device_id: str) -> JsonObject:
    """What an m.device_list_update says of a device."""
    if not await is_own_device(conn, user_id, device_id):
        return {"deleted": True}
    devices = (await _keys(conn, user_id, device_id))[0]
    return {"keys": devices[device_id]} if device_id in devices else {}


async def _keys(conn: Connection, user_id: str, *device_ids: str) -> tuple[JsonObject, JsonObject]:
    """The user's devices (or those named) with their keys, and the cross-signing keys that others may see."""
    found = await own_keys(conn, {user_id: device_ids}, None, names=False)
    signing = {name: found[section][user_id] for section, name in _SIGNING_KEYS.items() if user_id in found[section]}
    return found["device_keys"].get(user_id, {}), signing
