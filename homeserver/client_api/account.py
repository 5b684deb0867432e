"""One's own account: who one is, another password.

# spec: client-server-api/#post_matrixclientv3accountpassword
"""

from __future__ import annotations

from homeserver.accounts.notices import notify_password_changed
from homeserver.accounts.password import hash_new_password, set_password
from homeserver.accounts.password_policy import check_new_password
from homeserver.client_api.account_recovery import language_of, reset_password
from homeserver.client_api.own_user import prove_owner
from homeserver.devices.device_lists import mark_changed
from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.http.bodies import boolean, string
from homeserver.protocol.errors import Forbidden
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import localpart_of
from homeserver.services import Services


async def get_whoami(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3accountwhoami"""
    requester = request.requester
    answer: JsonObject = {"user_id": requester.user_id, "is_guest": requester.guest}
    if requester.device_id is not None:
        answer["device_id"] = requester.device_id
    return answer


async def post_password(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3accountpassword"""
    requester = request.optional_requester
    if requester is None:
        return await reset_password(services, request)
    if requester.guest:
        raise Forbidden("Guests can't do this", errcode="M_GUEST_ACCESS_FORBIDDEN")
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
        await notify_password_changed(write.conn, services.config, requester.user_nid, language=language_of(request))
        if gone:
            await mark_changed(write, requester.user_nid, gone)
    request.sessions_changed(requester.user_nid)
    services.mail.wake()
    return {}


ROUTES = [
    *client_routes("GET", "/account/whoami", get_whoami, Auth.GUEST),
    *client_routes("POST", "/account/password", post_password, Auth.OPTIONAL),
]
