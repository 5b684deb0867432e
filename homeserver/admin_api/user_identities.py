"""What else accounts are known by: e-mail addresses, telephone numbers, identities of other providers."""

from __future__ import annotations

from homeserver.admin_api.requests import admin_route
from homeserver.http import ApiRequest
from homeserver.protocol.errors import NotFound
from homeserver.protocol.events import JsonObject
from homeserver.services import Services
from homeserver.storage.account_lists import threepids_of
from homeserver.storage.single_sign_on import external_ids_of, find_user
from homeserver.storage.stream import Connection


async def identities(conn: Connection, user_nid: int) -> JsonObject:
    """`threepids` and `external_ids` of an account."""
    return {
        "threepids": [
            {
                "medium": row["medium"],
                "address": row["address"],
                "added_at": row["added_ts"],
                "validated_at": row["validated_ts"],
            }
            for row in await threepids_of(conn, user_nid)
        ],
        "external_ids": [
            {"auth_provider": one.provider_id, "external_id": one.subject}
            for one in await external_ids_of(conn, user_nid)
        ],
    }


async def get_user_by_external_id(services: Services, request: ApiRequest) -> JsonObject:
    """Whose identity of another provider that is."""
    async with services.pool.acquire() as conn:
        user_nid = await find_user(conn, request.params["provider"], request.params["externalId"])
    if user_nid is None:
        raise NotFound("User not found")
    return {"user_id": (await services.timeline.names.user_ids([user_nid]))[user_nid]}


ROUTES = [admin_route("GET", "/v1/auth_providers/{provider}/users/{externalId}", get_user_by_external_id)]
