"""Profiles of users: names, pictures, and whatever else users say of themselves.

# spec: client-server-api/#profiles
"""

from __future__ import annotations

import re

from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.http.bodies import string
from homeserver.protocol.canonical_json import encode_json
from homeserver.protocol.errors import BadRequest, Forbidden, InvalidParam, MissingParam, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of, is_user_id
from homeserver.rooms.profiles import update_member_events
from homeserver.services import Services
from homeserver.storage import profiles
from homeserver.storage.accounts import find_account, update_profile_field
from homeserver.storage.stream import Connection

_FIELDS = {"displayname": 256, "avatar_url": 1000}  # the longest value of each, in characters
# spec: appendices/#common-namespaced-identifier-grammar
_FIELD_NAME = re.compile(r"avatar_url|displayname|[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+", re.ASCII)
_MAX_FIELD_NAME = 255
_MAX_PROFILE = 64 * 1024  # bytes of the whole as JSON: it must be below


async def get_profile(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3profileuserid"""
    return await _profile(services, request, None)


async def get_profile_field(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3profileuseridkeyname"""
    name = _field_name(request)
    profile = await _profile(services, request, name)
    if name not in profile:
        raise NotFound("The profile has no such field")
    return {name: profile[name]}


async def _profile(services: Services, request: ApiRequest, field: str | None) -> JsonObject:
    user_id = request.params["userId"]
    if not is_user_id(user_id):
        raise InvalidParam("This is not a user id")
    if domain_of(user_id) == services.server_name:
        async with services.pool.acquire() as conn:
            account = await find_account(conn, user_id)
            if account is None or account.deactivated:
                raise NotFound("There is no such user")
            return await profiles.whole_profile(conn, user_id)
    if request.optional_requester is None:
        # Anyone could make this server ask any other, as often as they like.
        raise Forbidden("Log in to see the profiles of users of other servers")
    profile = await services.remote.query_profile(domain_of(user_id), user_id, field)
    return {name: value for name, value in profile.items() if name not in _FIELDS or isinstance(value, str)}


async def put_profile_field(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixclientv3profileuseridkeyname"""
    name = _own_field(request)
    body = await request.json()
    if name not in body:
        raise MissingParam(f"{name} is missing")
    if name not in _FIELDS:
        await _set_other(services, request, name, _checked_value(name, body))
        return {}
    # Clients clear a field by sending it empty or null, since long before there was a DELETE.
    value = string(body, name, max_length=_FIELDS[name]) or None
    if name == "avatar_url" and value is not None and not value.startswith("mxc://"):
        raise InvalidParam("avatar_url must be an mxc:// URI")
    await _set(services, request, name, value)
    return {}


def _checked_value(name: str, body: JsonObject) -> bytes:
    if name == "m.tz":
        return encode_json(string(body, name, required=True, max_length=255))
    return encode_json(body[name])


async def delete_profile_field(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#delete_matrixclientv3profileuseridkeyname"""
    name = _own_field(request)
    if name in _FIELDS:
        await _set(services, request, name, None)
    else:
        async with services.pool.acquire() as conn:
            await profiles.delete_profile_field(conn, request.requester.user_nid, name)
    return {}


async def _set(services: Services, request: ApiRequest, name: str, value: str | None) -> None:
    """Sets one of the two fields that rooms are told of."""
    requester = request.requester
    async with services.pool.acquire() as conn, conn.transaction():
        if value is not None:
            await _check_size(conn, requester.user_nid, name, encode_json(value))
        changed = await update_profile_field(conn, requester.user_nid, name, value)
    if changed:
        await update_member_events(services.timeline, requester.user_id)


async def _set_other(services: Services, request: ApiRequest, name: str, value: bytes) -> None:
    user_nid = request.requester.user_nid
    async with services.pool.acquire() as conn, conn.transaction():
        await _check_size(conn, user_nid, name, value)
        await profiles.put_profile_field(conn, user_nid, name, value)


async def _check_size(conn: Connection, user_nid: int, name: str, value: bytes) -> None:
    rest = await profiles.profile_size(conn, user_nid, without=name)
    if rest + len(name) + len(value) + 4 >= _MAX_PROFILE:
        raise BadRequest("The profile would be larger than 64 KiB", errcode="M_PROFILE_TOO_LARGE")


def _field_name(request: ApiRequest) -> str:
    name = request.params["keyName"]
    if len(name) > _MAX_FIELD_NAME:
        raise BadRequest("The name of the field is too long", errcode="M_KEY_TOO_LARGE")
    if not _FIELD_NAME.fullmatch(name):
        raise InvalidParam("This can't be the name of a profile field")
    return name


def _own_field(request: ApiRequest) -> str:
    requester, name = request.requester, _field_name(request)
    if request.params["userId"] != requester.user_id:
        raise Forbidden("This is not your profile")
    if requester.guest and name != "displayname":
        # spec: client-server-api/#guest-access
        raise Forbidden("Guests may only change their name", errcode="M_GUEST_ACCESS_FORBIDDEN")
    return name


_FIELD = "/profile/{userId}/{keyName}"
_UNSTABLE = ("uk.tcpip.msc4133",)

ROUTES = [
    *client_routes("GET", "/profile/{userId}", get_profile, Auth.OPTIONAL, unstable=_UNSTABLE),
    *client_routes("GET", _FIELD, get_profile_field, Auth.OPTIONAL, unstable=_UNSTABLE),
    *client_routes("PUT", _FIELD, put_profile_field, Auth.GUEST, unstable=_UNSTABLE),
    *client_routes("DELETE", _FIELD, delete_profile_field, Auth.GUEST, unstable=_UNSTABLE),
]
