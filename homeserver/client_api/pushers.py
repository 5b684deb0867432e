"""Pushers: where a user's devices want to be told of what notifies the user.

# spec: client-server-api/#push-notifications
"""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv6Address, ip_address

from yarl import URL

from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.http.bodies import boolean, json_object, string
from homeserver.outbound import AddressGuard
from homeserver.protocol.canonical_json import encode_json
from homeserver.protocol.errors import BadRequest, InvalidParam, MissingParam
from homeserver.protocol.events import JsonObject
from homeserver.services import Services
from homeserver.storage.pushers import (
    Pusher,
    PusherFields,
    delete_pusher,
    delete_pushers_of_others,
    list_pushers,
    lock_pushkey,
    put_pusher,
)

_PATH = "/_matrix/push/v1/notify"
_MOST = 100  # of one user
_MOST_DATA = 8192  # bytes
_MAX_APP_ID = 64
_MAX_PUSHKEY = 512  # bytes
_MAX_NAME = 1024
_MAX_TAG = 64
# MSC3881: pushers that can be seen and switched off from another device.
_ENABLED = "org.matrix.msc3881.enabled"
_DEVICE_ID = "org.matrix.msc3881.device_id"


async def get_pushers(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3pushers"""
    async with services.pool.acquire() as conn:
        pushers = await list_pushers(conn, request.requester.user_nid)
    return {"pushers": [_shown(pusher) for pusher in pushers]}


async def set_pusher(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3pushersset"""
    body = await request.json()
    requester = request.requester
    app_id = string(body, "app_id", required=True, max_length=_MAX_APP_ID)
    pushkey = string(body, "pushkey", required=True)
    if len(pushkey.encode()) > _MAX_PUSHKEY:
        raise InvalidParam(f"pushkey is longer than {_MAX_PUSHKEY} bytes")
    if "kind" not in body:
        raise MissingParam("kind is missing")
    if body["kind"] is None:
        async with services.pool.acquire() as conn:
            await delete_pusher(conn, requester.user_nid, app_id, pushkey)
        return {}
    fields = _fields(body, app_id, pushkey, services.outbound.guard)
    enabled = boolean(body, _ENABLED)
    append = boolean(body, "append", default=False)
    async with services.stream.write() as write:
        await lock_pushkey(write.conn, app_id, pushkey)
        others = await list_pushers(write.conn, requester.user_nid)
        known = any((one.fields.app_id, one.fields.pushkey) == (app_id, pushkey) for one in others)
        if not known and len(others) >= _MOST:
            raise BadRequest(f"You have {_MOST} pushers already", errcode="M_RESOURCE_LIMIT_EXCEEDED")
        if not append:
            await delete_pushers_of_others(write.conn, requester.user_nid, app_id, pushkey)
        await put_pusher(
            write.conn,
            requester.user_nid,
            requester.device_id,
            fields,
            enabled=enabled,
            pos=await write.next_position(),
            now_ms=int(time.time() * 1000),
        )
        write.changed(users=[requester.user_nid])
    return {}


def _fields(body: JsonObject, app_id: str, pushkey: str, guard: AddressGuard) -> PusherFields:
    kind = string(body, "kind", required=True)
    if kind != "http":
        raise InvalidParam("This server knows no pushers of that kind")
    names = ("app_display_name", "device_display_name", "lang", "data")
    missing = [name for name in names if body.get(name) is None]
    if missing:
        raise MissingParam(f"Missing parameters: {', '.join(missing)}")
    data = json_object(body, "data", required=True)
    if len(encode_json(data)) > _MOST_DATA:
        raise InvalidParam(f"data is larger than {_MOST_DATA} bytes")
    _check_gateway(string(data, "url", required=True, max_length=2048), guard)
    # Another format is none that we know, but the gateway may: it is handed on, with all the fields of an event.
    string(data, "format")
    return PusherFields(
        app_id=app_id,
        pushkey=pushkey,
        kind=kind,
        app_display_name=string(body, "app_display_name", required=True, max_length=_MAX_NAME),
        device_display_name=string(body, "device_display_name", required=True, max_length=_MAX_NAME),
        profile_tag=string(body, "profile_tag", max_length=_MAX_TAG),
        lang=string(body, "lang", required=True, max_length=_MAX_TAG),
        data=data,
    )


def _check_gateway(text: str, guard: AddressGuard) -> None:
    """:raises InvalidParam: for an address that is no push gateway's, or one that this server never connects to"""
    try:
        url = URL(text)
        port = url.port
    except ValueError:
        raise InvalidParam("data.url is not a URL") from None
    if not url.host or port is None or url.user is not None or url.password is not None:
        raise InvalidParam("data.url must be the address of a push gateway")
    if url.raw_path != _PATH or url.raw_query_string or url.raw_fragment:
        raise InvalidParam(f"data.url must have the path {_PATH}")
    address = _address(url.host)
    # Names are looked up, and checked, when they are connected to.
    if address is not None and not guard.permits(str(address)):
        raise InvalidParam("data.url leads to an address that this server does not connect to")
    # What goes to a private address that the operator has allowed stays inside. Nothing else goes out in the clear.
    if url.scheme != "https" and (url.scheme != "http" or address is None or not address.is_private):
        raise InvalidParam("data.url must be an https URL")


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is; None if it is a name."""
    if host == "localhost":
        return ip_address("127.0.0.1")
    try:
        return ip_address(host)
    except ValueError:
        return None


def _shown(pusher: Pusher) -> JsonObject:
    fields = pusher.fields
    shown: JsonObject = {
        "app_id": fields.app_id,
        "pushkey": fields.pushkey,
        "kind": fields.kind,
        "app_display_name": fields.app_display_name,
        "device_display_name": fields.device_display_name,
        "lang": fields.lang,
        "data": fields.data,
        _ENABLED: pusher.enabled,
    }
    if fields.profile_tag is not None:
        shown["profile_tag"] = fields.profile_tag
    if pusher.device_id is not None:
        shown[_DEVICE_ID] = pusher.device_id
    return shown


ROUTES = [
    *client_routes("GET", "/pushers", get_pushers, Auth.USER),
    *client_routes("POST", "/pushers/set", set_pusher, Auth.USER),
]
