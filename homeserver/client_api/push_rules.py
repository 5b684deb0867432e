"""Push rules: what makes a user's devices ring.

# spec: client-server-api/#push-rules-api
"""

from __future__ import annotations

from collections.abc import Callable

from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.protocol.errors import MissingParam
from homeserver.protocol.events import JsonObject
from homeserver.protocol.push_rule_edits import (
    delete_rule,
    get_rule,
    put_rule,
    ruleset_json,
    set_actions,
    set_enabled,
)
from homeserver.protocol.push_rules import UserRules
from homeserver.services import Services
from homeserver.storage.push_rules import find_push_rules, lock_push_rules, put_push_rules


async def get_all(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3pushrules"""
    return {"global": await get_global(services, request)}


async def get_global(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3pushrulesglobal"""
    return ruleset_json(await _rules(services, request), request.requester.user_id)


async def get_one(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3pushrulesglobalkindruleid"""
    kind, rule_id = _named(request)
    return get_rule(await _rules(services, request), request.requester.user_id, kind, rule_id)


async def put_one(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixclientv3pushrulesglobalkindruleid"""
    kind, rule_id = _named(request)
    body = await request.json()
    before, after = request.query.string("before"), request.query.string("after")
    return await _change(
        services, request, lambda rules: put_rule(rules, kind, rule_id, body, before=before, after=after)
    )


async def delete_one(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#delete_matrixclientv3pushrulesglobalkindruleid"""
    kind, rule_id = _named(request)
    return await _change(services, request, lambda rules: delete_rule(rules, kind, rule_id))


async def get_enabled(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3pushrulesglobalkindruleidenabled"""
    return {"enabled": (await get_one(services, request))["enabled"]}


async def put_enabled(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixclientv3pushrulesglobalkindruleidenabled"""
    kind, rule_id = _named(request)
    enabled = await _member(request, "enabled")
    return await _change(services, request, lambda rules: set_enabled(rules, kind, rule_id, enabled))


async def get_actions(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3pushrulesglobalkindruleidactions"""
    return {"actions": (await get_one(services, request))["actions"]}


async def put_actions(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixclientv3pushrulesglobalkindruleidactions"""
    kind, rule_id = _named(request)
    actions = await _member(request, "actions")
    return await _change(services, request, lambda rules: set_actions(rules, kind, rule_id, actions))


def _named(request: ApiRequest) -> tuple[str, str]:
    return request.params["kind"], request.params["ruleId"]


async def _member(request: ApiRequest, key: str) -> object:
    body = await request.json()
    if key not in body:
        raise MissingParam(f"{key} is missing")
    value: object = body[key]
    return value


async def _rules(services: Services, request: ApiRequest) -> UserRules:
    async with services.pool.acquire() as conn:
        return await find_push_rules(conn, request.requester.user_nid)


async def _change(services: Services, request: ApiRequest, edit: Callable[[UserRules], UserRules]) -> JsonObject:
    user_nid = request.requester.user_nid
    async with services.stream.write() as write:
        rules = await lock_push_rules(write.conn, user_nid)
        changed = edit(rules)
        if changed != rules:
            await put_push_rules(write.conn, user_nid, changed, await write.next_position())
            write.changed(users=[user_nid])
    return {}


_RULE = "/pushrules/global/{kind}/{ruleId}"

ROUTES = [
    # With a slash at the end, as most clients ask, and without.
    *client_routes("GET", "/pushrules", get_all, Auth.USER),
    *client_routes("GET", "/pushrules/", get_all, Auth.USER),
    *client_routes("GET", "/pushrules/global", get_global, Auth.USER),
    *client_routes("GET", "/pushrules/global/", get_global, Auth.USER),
    *client_routes("GET", _RULE, get_one, Auth.USER),
    *client_routes("PUT", _RULE, put_one, Auth.USER),
    *client_routes("DELETE", _RULE, delete_one, Auth.USER),
    *client_routes("GET", _RULE + "/enabled", get_enabled, Auth.USER),
    *client_routes("PUT", _RULE + "/enabled", put_enabled, Auth.USER),
    *client_routes("GET", _RULE + "/actions", get_actions, Auth.USER),
    *client_routes("PUT", _RULE + "/actions", put_actions, Auth.USER),
]
