"""The whole server-server API as one table."""

from __future__ import annotations

from federation import (
    backfill,
    events,
    invites,
    joins,
    knocks,
    leaves,
    media,
    public_rooms,
    queries,
    space_hierarchy,
    state,
    third_party_invites,
    timestamp_to_event,
    transactions,
    user_devices,
    user_keys,
)
from federation.authentication import signed
from federation.keys import get_server_keys, notary_handlers
from federation.openid import get_userinfo
from federation.peers import Federation, PeerHandler
from federation.version import get_version
from homeserver.http import Auth, Route

_V1 = "/_matrix/federation/v1"
_V2 = "/_matrix/federation/v2"
_KEYS = "/_matrix/key/v2"

# Requests that another server signs.
SIGNED: list[tuple[str, str, PeerHandler]] = [
    ("PUT", f"{_V1}/send/{{txnId}}", transactions.put_send),
    ("GET", f"{_V1}/make_join/{{roomId}}/{{userId}}", joins.get_make_join),
    ("PUT", f"{_V1}/send_join/{{roomId}}/{{eventId}}", joins.put_send_join_v1),
    ("PUT", f"{_V2}/send_join/{{roomId}}/{{eventId}}", joins.put_send_join),
    ("GET", f"{_V1}/make_leave/{{roomId}}/{{userId}}", leaves.get_make_leave),
    ("PUT", f"{_V1}/send_leave/{{roomId}}/{{eventId}}", leaves.put_send_leave_v1),
    ("PUT", f"{_V2}/send_leave/{{roomId}}/{{eventId}}", leaves.put_send_leave),
    ("GET", f"{_V1}/make_knock/{{roomId}}/{{userId}}", knocks.get_make_knock),
    ("PUT", f"{_V1}/send_knock/{{roomId}}/{{eventId}}", knocks.put_send_knock),
    ("PUT", f"{_V1}/invite/{{roomId}}/{{eventId}}", invites.put_invite_v1),
    ("PUT", f"{_V2}/invite/{{roomId}}/{{eventId}}", invites.put_invite),
    ("GET", f"{_V1}/event/{{eventId}}", events.get_event),
    ("GET", f"{_V1}/state/{{roomId}}", state.get_state),
    ("GET", f"{_V1}/state_ids/{{roomId}}", state.get_state_ids),
    ("GET", f"{_V1}/event_auth/{{roomId}}/{{eventId}}", state.get_event_auth),
    ("GET", f"{_V1}/backfill/{{roomId}}", backfill.get_backfill),
    ("POST", f"{_V1}/get_missing_events/{{roomId}}", backfill.post_missing_events),
    ("GET", f"{_V1}/user/devices/{{userId}}", user_devices.get_user_devices),
    ("POST", f"{_V1}/user/keys/query", user_keys.post_query),
    ("POST", f"{_V1}/user/keys/claim", user_keys.post_claim),
    ("GET", f"{_V1}/query/profile", queries.get_profile),
    ("GET", f"{_V1}/query/directory", queries.get_directory),
    ("GET", f"{_V1}/publicRooms", public_rooms.get_public_rooms),
    ("POST", f"{_V1}/publicRooms", public_rooms.post_public_rooms),
    ("GET", f"{_V1}/hierarchy/{{roomId}}", space_hierarchy.get_hierarchy),
    (
        "PUT",
        f"{_V1}/exchange_third_party_invite/{{roomId}}",
        third_party_invites.put_exchange_third_party_invite,
    ),
    ("GET", f"{_V1}/media/download/{{mediaId}}", media.get_download),
    ("GET", f"{_V1}/media/thumbnail/{{mediaId}}", media.get_thumbnail),
    ("GET", f"{_V1}/timestamp_to_event/{{roomId}}", timestamp_to_event.get_timestamp_to_event),
]


def federation_routes(federation: Federation) -> list[Route]:
    """The routes that other servers call."""
    get_query, post_query = notary_handlers(federation)
    return [
        Route("GET", f"{_V1}/version", get_version, Auth.NONE),
        Route("PUT", f"{_V1}/3pid/onbind", third_party_invites.on_bind(federation), Auth.NONE),
        Route("GET", f"{_V1}/openid/userinfo", get_userinfo, Auth.NONE),
        Route("GET", f"{_KEYS}/server", get_server_keys, Auth.NONE),
        # spec: server-server-api/#get_matrixkeyv2server: of old with a key id, which says nothing
        Route("GET", f"{_KEYS}/server/{{keyId}}", get_server_keys, Auth.NONE),
        Route("GET", f"{_KEYS}/query/{{serverName}}", get_query, Auth.NONE),
        # Of old with a key id behind the server's name.
        Route("GET", f"{_KEYS}/query/{{serverName}}/{{keyId}}", get_query, Auth.NONE),
        Route("POST", f"{_KEYS}/query", post_query, Auth.NONE),
        *(Route(method, path, signed(federation, handler), Auth.SERVER) for method, path, handler in SIGNED),
    ]
