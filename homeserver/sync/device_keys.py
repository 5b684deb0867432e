"""How many keys the device that syncs has left here for others to claim.

# spec: client-server-api/#e2e-extensions-to-sync
"""

from __future__ import annotations

from homeserver.protocol.events import JsonObject
from homeserver.storage.device_keys import count_one_time_keys, unused_fallback_algorithms
from homeserver.storage.stream import Connection
from homeserver.sync.client_events import Reader

# Shown even if there are none: clients upload new ones when they read that there are too few.
_IN_USE = "signed_curve25519"


async def key_counts(conn: Connection, reader: Reader) -> JsonObject:
    """The sections `device_one_time_keys_count` and `device_unused_fallback_key_types`."""
    if reader.device_id is None:
        return {"device_one_time_keys_count": {}, "device_unused_fallback_key_types": []}
    return {
        "device_one_time_keys_count": {
            _IN_USE: 0,
            **await count_one_time_keys(conn, reader.user_nid, reader.device_id),
        },
        "device_unused_fallback_key_types": await unused_fallback_algorithms(conn, reader.user_nid, reader.device_id),
    }
