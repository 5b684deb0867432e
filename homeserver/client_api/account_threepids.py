"""The e-mail addresses and telephone numbers of one's account, here and at identity servers.

# spec: client-server-api/#adding-account-administrative-contact-information
"""

from __future__ import annotations

from homeserver.accounts import threepids
from homeserver.accounts.email_validation import checked_client_secret, use_validation
from homeserver.accounts.notices import notify_address_added, notify_address_removed
from homeserver.client_api.account_recovery import language_of
from homeserver.client_api.own_user import prove_owner
from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.http.bodies import json_object, string
from homeserver.protocol.errors import MatrixError
from homeserver.protocol.events import JsonObject
from homeserver.rooms.identity_servers import IdentityAccess
from homeserver.rooms.identity_servers import Threepid as BoundThreepid
from homeserver.services import Services
from homeserver.storage.threepids import delete_bound, insert_bound, list_bound

_MAX_TEXT = 255
_MAX_TOKEN = 4096


async def get_threepids(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3account3pid"""
    async with services.pool.acquire() as conn:
        found = await threepids.threepids_of(conn, request.requester.user_nid)
    return {
        "threepids": [
            {
                "medium": one.medium,
                "address": one.address,
                "validated_at": one.validated_ts,
                "added_at": one.added_ts,
            }
            for one in found
        ]
    }


async def post_add(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3account3pidadd"""
    body = await request.json()
    sid, client_secret = _session(body)
    proof = await prove_owner(services, request, body, "POST /account/3pid/add")
    async with services.pool.acquire() as conn, conn.transaction():
        if proof is not None:
            await proof.use(conn)
        threepid = await use_validation(conn, sid, client_secret, "add")
        if await threepids.add(conn, request.requester.user_nid, threepid):
            await notify_address_added(
                conn,
                services.config,
                request.requester.user_nid,
                threepid.address,
                language=language_of(request),
            )
    services.mail.wake()
    return {}


async def post_threepids(services: Services, request: ApiRequest) -> JsonObject:
    """The old way to bind, which takes what `/bind` takes in an object.

    # spec: client-server-api/#post_matrixclientv3account3pid
    """
    body = await request.json()
    creds = json_object(body, "three_pid_creds") or json_object(body, "threePidCreds", required=True)
    await _bind(services, request, creds)
    return {}


async def post_bind(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3account3pidbind"""
    await _bind(services, request, await request.json())
    return {}


async def _bind(services: Services, request: ApiRequest, creds: JsonObject) -> None:
    requester = request.requester
    sid, client_secret = _session(creds)
    server = string(creds, "id_server", required=True, max_length=_MAX_TEXT)
    services.third_party_invites.identity_servers.check_trusted(server)
    access = IdentityAccess(server, string(creds, "id_access_token", required=True, max_length=_MAX_TOKEN))
    bound = await services.third_party_invites.identity_servers.bind(access, sid, client_secret, requester.user_id)
    async with services.pool.acquire() as conn:
        await insert_bound(conn, requester.user_nid, bound.medium, bound.address, server.lower())


async def post_unbind(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3account3pidunbind"""
    body = await request.json()
    threepid = _threepid(body)
    return {"id_server_unbind_result": await _unbind(services, request, threepid, _server(body))}


async def post_delete(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3account3piddelete"""
    requester = request.requester
    body = await request.json()
    threepid, server = _threepid(body), _server(body)
    async with services.pool.acquire() as conn, conn.transaction():
        if await threepids.delete(conn, requester.user_nid, threepid.medium, threepid.address):
            await notify_address_removed(
                conn, services.config, requester.user_nid, threepid.address, language=language_of(request)
            )
    services.mail.wake()
    return {"id_server_unbind_result": await _unbind(services, request, threepid, server)}


async def _unbind(services: Services, request: ApiRequest, threepid: BoundThreepid, server: str | None) -> str:
    """Asks the identity servers to forget the address.

    :returns: success, or no-support where none is known or one does not do it
    """
    requester = request.requester
    async with services.pool.acquire() as conn:
        bound = await list_bound(conn, requester.user_nid, threepid.medium, threepid.address)
    servers = [server] if server is not None else bound
    done = bool(servers)
    for one in servers:
        try:
            await services.third_party_invites.identity_servers.unbind(
                one, threepid, requester.user_id, server_name=services.server_name, signing_key=services.signing_key
            )
        except MatrixError:
            done = False
            continue
        async with services.pool.acquire() as conn:
            await delete_bound(conn, requester.user_nid, threepid.medium, threepid.address, one)
    return "success" if done else "no-support"


def _session(body: JsonObject) -> tuple[str, str]:
    sid = checked_client_secret(string(body, "sid", required=True))
    return sid, checked_client_secret(string(body, "client_secret", required=True))


def _server(body: JsonObject) -> str | None:
    server = string(body, "id_server", max_length=_MAX_TEXT)
    return server.lower() if server is not None else None


def _threepid(body: JsonObject) -> BoundThreepid:
    medium = string(body, "medium", required=True, max_length=_MAX_TEXT)
    address = string(body, "address", required=True, max_length=_MAX_TEXT)
    return BoundThreepid(medium, threepids.canonical_address(medium, address))


ROUTES = [
    *client_routes("GET", "/account/3pid", get_threepids, Auth.USER),
    *client_routes("POST", "/account/3pid", post_threepids, Auth.USER),
    *client_routes("POST", "/account/3pid/add", post_add, Auth.USER),
    *client_routes("POST", "/account/3pid/bind", post_bind, Auth.USER),
    *client_routes("POST", "/account/3pid/unbind", post_unbind, Auth.USER),
    *client_routes("POST", "/account/3pid/delete", post_delete, Auth.USER),
]
