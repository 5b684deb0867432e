"""One's own account: who one is, another password, the end.

# spec: client-server-api/#post_matrixclientv3accountpassword
"""

from __future__ import annotations

import logging

from homeserver.accounts.deactivate import deactivate
from homeserver.accounts.password import hash_new_password, set_password
from homeserver.accounts.password_policy import check_new_password
from homeserver.client_api.own_user import prove_owner
from homeserver.devices.device_lists import mark_changed
from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.http.bodies import boolean, string
from homeserver.protocol.errors import Forbidden, MatrixError
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import localpart_of
from homeserver.services import Services
from homeserver.storage.members import joined_rooms

log = logging.getLogger(__name__)


async def get_whoami(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3accountwhoami"""
    requester = request.requester
    answer: JsonObject = {"user_id": requester.user_id, "is_guest": requester.guest}
    if requester.device_id is not None:
        answer["device_id"] = requester.device_id
    return answer


async def post_password(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3accountpassword"""
    requester = request.requester
    body = await request.json()
    new_password = string(body, "new_password", required=True)
    logout_devices = boolean(body, "logout_devices", default=True)
    check_new_password(new_password, services.config.passwords, localpart_of(requester.user_id))
    proof = await prove_owner(services, request, body, "POST /account/password")
    if proof is None:
        raise Forbidden("Users of application services have no password")
    password_hash = await hash_new_password(new_password, services.config.passwords, localpart_of(requester.user_id))
    async with services.stream.write() as write:
        await proof.use(write.conn)
        gone = await set_password(
            write.conn,
            user_id=requester.user_id,
            password_hash=password_hash,
            logout_devices=logout_devices,
            except_device_id=requester.device_id,
        )
        if gone:
            await mark_changed(write, requester.user_nid, gone)
    request.sessions_changed(requester.user_nid)
    return {}


async def post_deactivate(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3accountdeactivate"""
    requester = request.requester
    body = await request.json()
    erase = boolean(body, "erase", default=False)
    proof = await prove_owner(services, request, body, "POST /account/deactivate")
    async with services.stream.write() as write:
        if proof is not None:
            await proof.use(write.conn)
        gone = await deactivate(write.conn, user_id=requester.user_id, erase=erase)
        if gone:
            await mark_changed(write, requester.user_nid, gone)
    request.sessions_changed(requester.user_nid)
    await _leave_rooms(services, requester.user_id, requester.user_nid)
    # No third-party identifiers are known here, so none remain bound.
    return {"id_server_unbind_result": "success"}


async def _leave_rooms(services: Services, user_id: str, user_nid: int) -> None:
    """Nobody stays a member who can't come back to leave."""
    async with services.pool.acquire() as conn:
        room_nids = await joined_rooms(conn, user_nid)
    for room in (await services.timeline.names.rooms(room_nids)).values():
        try:
            await services.membership.leave(room, user_id)
        except MatrixError as error:
            log.warning("%s is deactivated and could not leave %s: %s", user_id, room.room_id, error)


async def get_threepids(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3account3pid"""
    return {"threepids": []}


ROUTES = [
    *client_routes("GET", "/account/whoami", get_whoami, Auth.GUEST),
    *client_routes("POST", "/account/password", post_password, Auth.USER),
    *client_routes("POST", "/account/deactivate", post_deactivate, Auth.USER),
    *client_routes("GET", "/account/3pid", get_threepids, Auth.USER),
]
