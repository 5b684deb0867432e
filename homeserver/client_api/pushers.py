"""Pushers: where a user's devices want to be told of what notifies the user: a push gateway, or a Web Push service, for
which the browser need only know this server's key (MSC4174, capability `m.webpush`).

# spec: client-server-api/#push-notifications
"""

from __future__ import annotations

import base64
import hmac
import re
import time
import uuid
from ipaddress import IPv4Address, IPv6Address, ip_address

from cryptography.hazmat.primitives.asymmetric import ec
from yarl import URL

from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.http.bodies import boolean, json_object, string
from homeserver.http.responses import Response, json_response
from homeserver.outbound import AddressGuard
from homeserver.protocol.canonical_json import encode_json
from homeserver.protocol.errors import BadRequest, InvalidParam, MissingParam, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.services import Services
from homeserver.storage.pushers import (
    Pusher,
    PusherFields,
    activate,
    delete_pusher,
    delete_pushers_of_others,
    list_pushers,
    lock_pushkey,
    put_pusher,
)

_PATH = "/_matrix/push/v1/notify"
_WEB_PUSH = "webpush"  # MSC4174
_ACK_MS = 5 * 60 * 1000
_POINT = re.compile(r"[A-Za-z0-9_-]{87}", re.ASCII)
_SECRET = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)
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


async def set_pusher(services: Services, request: ApiRequest) -> JsonObject | Response:
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
    ack = None
    enabled = boolean(body, _ENABLED)
    append = boolean(body, "append", default=False)
    async with services.stream.write() as write:
        await lock_pushkey(write.conn, app_id, pushkey)
        others = await list_pushers(write.conn, requester.user_nid)
        known = next((one for one in others if (one.fields.app_id, one.fields.pushkey) == (app_id, pushkey)), None)
        if known is None and len(others) >= _MOST:
            raise BadRequest(f"You have {_MOST} pushers already", errcode="M_RESOURCE_LIMIT_EXCEEDED")
        if fields.kind == _WEB_PUSH and (known is None or known.ack_token is not None or _moves(known.fields, fields)):
            ack = (str(uuid.uuid4()), int(time.time() * 1000) + _ACK_MS)
        if not append:
            await delete_pushers_of_others(write.conn, requester.user_nid, app_id, pushkey)
        await put_pusher(
            write.conn,
            requester.user_nid,
            requester.device_id,
            fields,
            enabled=enabled,
            ack=ack,
            pos=await write.next_position(),
            now_ms=int(time.time() * 1000),
        )
        write.changed(users=[requester.user_nid])
    return json_response({}, 201) if ack is not None else {}


async def ack_pusher(services: Services, request: ApiRequest) -> JsonObject:
    """Activates a Web Push pusher: its client says what was pushed to it (MSC4174)."""
    body = await request.json()
    app_id = string(body, "app_id", required=True, max_length=_MAX_APP_ID)
    token = string(body, "ack_token", required=True, max_length=255)
    async with services.stream.write() as write:
        pushers = await list_pushers(write.conn, request.requester.user_nid)
        pushers = [one for one in pushers if one.fields.kind == _WEB_PUSH and one.fields.app_id == app_id]
        if not pushers:
            raise NotFound("You have no such pusher")
        pusher = next((one for one in pushers if hmac.compare_digest(one.ack_token or "", token)), None)
        if pusher is None or not token:
            raise BadRequest("That is no token of a pusher of yours", errcode="M_UNKNOWN_ACTIVATION_TOKEN")
        if pusher.ack_expires_ts < time.time() * 1000:
            raise BadRequest("That token has expired", errcode="M_EXPIRED_ACTIVATION_TOKEN")
        await activate(write.conn, pusher.pusher_id, await write.next_position())
    return {}


def _moves(old: PusherFields, new: PusherFields) -> bool:
    """Whether messages go to somewhere else from now on."""
    return old.kind != new.kind or any(old.data.get(key) != new.data.get(key) for key in ("url", "auth"))


def _fields(body: JsonObject, app_id: str, pushkey: str, guard: AddressGuard) -> PusherFields:
    kind = string(body, "kind", required=True)
    if kind not in ("http", _WEB_PUSH):
        raise InvalidParam("This server knows no pushers of that kind")
    names = ("app_display_name", "device_display_name", "lang", "data")
    missing = [name for name in names if body.get(name) is None]
    if missing:
        raise MissingParam(f"Missing parameters: {', '.join(missing)}")
    data = json_object(body, "data", required=True)
    if len(encode_json(data)) > _MOST_DATA:
        raise InvalidParam(f"data is larger than {_MOST_DATA} bytes")
    _check_url(string(data, "url", required=True, max_length=2048), guard, is_gateway=kind == "http")
    if kind == _WEB_PUSH:
        _check_keys(pushkey, string(data, "auth", required=True, max_length=64))
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


def _check_keys(public: str, auth: str) -> None:
    """:raises InvalidParam: if these are not the keys of a subscription (RFC 8291, section 3)"""
    if not _POINT.fullmatch(public) or not _SECRET.fullmatch(auth):
        raise InvalidParam("pushkey and data.auth must be a public key of P-256 and 16 bytes, in unpadded base64url")
    try:
        point = base64.urlsafe_b64decode(public + "=")
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        raise InvalidParam("pushkey is no public key of P-256") from None


def _check_url(text: str, guard: AddressGuard, *, is_gateway: bool) -> None:
    """:raises InvalidParam: for an address where no push gateway is, or one that this server never connects to"""
    try:
        url = URL(text)
        port = url.port
    except ValueError:
        raise InvalidParam("data.url is not a URL") from None
    if not url.host or port is None or url.user is not None or url.password is not None:
        raise InvalidParam("data.url must be the address of a push gateway")
    if is_gateway and (url.raw_path != _PATH or url.raw_query_string or url.raw_fragment):
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
    if fields.kind == _WEB_PUSH:
        shown["activated"] = pusher.ack_token is None
    if fields.profile_tag is not None:
        shown["profile_tag"] = fields.profile_tag
    if pusher.device_id is not None:
        shown[_DEVICE_ID] = pusher.device_id
    return shown


ROUTES = [
    *client_routes("GET", "/pushers", get_pushers, Auth.USER),
    *client_routes("POST", "/pushers/set", set_pusher, Auth.USER),
    *client_routes("POST", "/pushers/ack", ack_pusher, Auth.USER),
]
