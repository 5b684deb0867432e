"""The end of one's own account.

# spec: client-server-api/#post_matrixclientv3accountdeactivate
"""

from __future__ import annotations

from homeserver.accounts.deactivate import deactivate
from homeserver.client_api.own_user import prove_owner
from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.http.bodies import boolean
from homeserver.protocol.events import JsonObject
from homeserver.services import Services
from homeserver.storage.audit_log import Actor

_WAIT_SECONDS = 5.0  # for the rooms to be left; what takes longer goes on without the client


async def post_deactivate(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3accountdeactivate"""
    requester = request.requester
    body = await request.json()
    erase = boolean(body, "erase", default=False)
    proof = await prove_owner(services, request, body, "POST /account/deactivate")
    async with services.pool.acquire() as conn, conn.transaction():
        if proof is not None:
            await proof.use(conn)
        actor = Actor(requester.user_id, request.client_address)
        ended = await deactivate(conn, actor, requester.user_id, erase=erase, keep_one=True)
    request.sessions_changed(requester.user_nid)
    await services.jobs.wait(ended.job_id, _WAIT_SECONDS)
    return {"id_server_unbind_result": ended.unbind_result}


ROUTES = client_routes("POST", "/account/deactivate", post_deactivate, Auth.USER)
