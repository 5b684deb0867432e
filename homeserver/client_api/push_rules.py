"""Push rules: what makes a user's devices ring.

# spec: client-server-api/#push-rules-api
"""

from __future__ import annotations

from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.protocol.events import JsonObject
from homeserver.protocol.push_rule_edits import get_rule, ruleset_json
from homeserver.services import Services


async def get_all(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3pushrules"""
    return {"global": ruleset_json({}, request.requester.user_id)}


async def get_global(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3pushrulesglobal"""
    return ruleset_json({}, request.requester.user_id)


async def get_one(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3pushrulesglobalkindruleid"""
    return _rule(request)


async def get_enabled(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3pushrulesglobalkindruleidenabled"""
    return {"enabled": _rule(request)["enabled"]}


async def get_actions(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3pushrulesglobalkindruleidactions"""
    return {"actions": _rule(request)["actions"]}


def _rule(request: ApiRequest) -> JsonObject:
    return get_rule({}, request.requester.user_id, request.params["kind"], request.params["ruleId"])


ROUTES = [
    # With a slash at the end, as most clients ask, and without, as the specification writes it now.
    *client_routes("GET", "/pushrules", get_all, Auth.USER),
    *client_routes("GET", "/pushrules/", get_all, Auth.USER),
    *client_routes("GET", "/pushrules/global", get_global, Auth.USER),
    *client_routes("GET", "/pushrules/global/", get_global, Auth.USER),
    *client_routes("GET", "/pushrules/global/{kind}/{ruleId}", get_one, Auth.USER),
    *client_routes("GET", "/pushrules/global/{kind}/{ruleId}/enabled", get_enabled, Auth.USER),
    *client_routes("GET", "/pushrules/global/{kind}/{ruleId}/actions", get_actions, Auth.USER),
]
