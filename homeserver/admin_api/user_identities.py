"""What else accounts are known by: e-mail addresses, telephone numbers, identities of other providers."""

from __future__ import annotations

import time

from homeserver.accounts import threepids
from homeserver.accounts.email_validation import Threepid
from homeserver.accounts.notices import notify_address_removed
from homeserver.admin_api.requests import admin_route
from homeserver.config import Config
from homeserver.http import ApiRequest
from homeserver.http.bodies import array_of_objects, string
from homeserver.protocol.errors import NotFound
from homeserver.protocol.events import JsonObject
from homeserver.services import Services
from homeserver.storage import audit_log
from homeserver.storage.account_lists import threepids_of
from homeserver.storage.accounts import Account
from homeserver.storage.audit_log import Actor
from homeserver.storage.single_sign_on import external_ids_of, find_user
from homeserver.storage.stream import Connection

_MOST = 20
_MAX_TEXT = 255


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


def checked_threepids(body: JsonObject) -> list[Threepid] | None:
    """The addresses that an account is to have, in their canonical form; None if the body says nothing of them.

    :raises BadJson, InvalidParam, MissingParam: for what is no list of addresses
    """
    if body.get("threepids") is None:
        return None
    now_ms = int(time.time() * 1000)
    found = {}
    for one in array_of_objects(body, "threepids", max_items=_MOST):
        medium = string(one, "medium", required=True, max_length=_MAX_TEXT)
        address = threepids.canonical_address(medium, string(one, "address", required=True, max_length=_MAX_TEXT))
        found[medium, address] = Threepid(medium, address, now_ms)
    return list(found.values())


async def set_threepids(
    conn: Connection, config: Config, actor: Actor, account: Account, wanted: list[Threepid]
) -> None:
    """Gives an account these addresses and no others, without anyone proving them: the administrator vouches for them.

    In a transaction. Who reads an address that is taken away is told.

    :raises BadRequest: M_THREEPID_IN_USE if one is another account's
    """
    keep = {(one.medium, one.address) for one in wanted}
    had = {(one.medium, one.address) for one in await threepids.threepids_of(conn, account.user_nid)}
    for medium, address in sorted(had - keep):
        await threepids.delete(conn, account.user_nid, medium, address)
        await notify_address_removed(conn, config, account.user_nid, address)
    for one in wanted:
        if (one.medium, one.address) not in had:
            await threepids.add(conn, account.user_nid, one)
    if keep != had:
        details = {"threepids": [{"medium": one.medium, "address": one.address} for one in wanted]}
        await audit_log.append(conn, actor, "user.set_threepids", account.user_id, details)


async def get_user_by_threepid(services: Services, request: ApiRequest) -> JsonObject:
    """Whose address that is."""
    medium = request.params["medium"]
    address = threepids.canonical_address(medium, request.params["address"])
    async with services.pool.acquire() as conn:
        user_nid = await threepids.find_user(conn, medium, address)
    if user_nid is None:
        raise NotFound("User not found")
    return {"user_id": (await services.timeline.names.user_ids([user_nid]))[user_nid]}


async def get_user_by_external_id(services: Services, request: ApiRequest) -> JsonObject:
    """Whose identity of another provider that is."""
    async with services.pool.acquire() as conn:
        user_nid = await find_user(conn, request.params["provider"], request.params["externalId"])
    if user_nid is None:
        raise NotFound("User not found")
    return {"user_id": (await services.timeline.names.user_ids([user_nid]))[user_nid]}


ROUTES = [
    admin_route("GET", "/v1/auth_providers/{provider}/users/{externalId}", get_user_by_external_id),
    admin_route("GET", "/v1/threepid/{medium}/users/{address}", get_user_by_threepid),
]
