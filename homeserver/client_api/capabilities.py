"""What the account that asks may do here, and which room versions there are."""

from __future__ import annotations

from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.protocol.events import JsonObject
from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.secrets import load_or_create_vapid_key
from homeserver.services import Services


async def get_capabilities(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3capabilities"""
    person = not request.requester.guest
    # spec: client-server-api/#guest-access
    profile_fields = {"enabled": True} if person else {"enabled": True, "allowed": ["displayname"]}
    # spec: client-server-api/#account-moderation
    moderation = {"suspend": True, "lock": True}
    moderates = {"m.account_moderation": moderation, "uk.timedout.msc4323": moderation}
    return {
        "capabilities": {
            "m.change_password": {"enabled": person},
            "m.room_versions": {
                "default": services.config.rooms.default_version,
                "available": dict.fromkeys(ROOM_VERSIONS, "stable"),
            },
            "m.profile_fields": profile_fields,
            "uk.tcpip.msc4133.profile_fields": profile_fields,
            "m.set_displayname": {"enabled": True},
            "m.set_avatar_url": {"enabled": True},
            "m.3pid_changes": {"enabled": person},
            "m.get_login_token": {"enabled": person and services.config.sessions.login_tokens},
            "m.webpush": {"enabled": person, "vapid": load_or_create_vapid_key(services.config.data_dir).public},
            "m.forget_forced_upon_leave": {"enabled": False},
            "org.matrix.msc4140.delayed_events": {
                "max_delay_ms": services.delayed_events.limits.max_delay_ms,
                "max_scheduled": services.delayed_events.limits.max_scheduled,
            },
            **(moderates if request.requester.admin else {}),
        }
    }


ROUTES = client_routes("GET", "/capabilities", get_capabilities, Auth.GUEST)
