"""How many keys the device that syncs has left here for others to claim.

# spec: client-server-api/#e2e-extensions-to-sync
"""

from __future__ import annotations

from homeserver.protocol.events import JsonObject
from homeserver.storage.device_keys import count_one_time_keys, unused_fallback_algorithms
from homeserver.sync.view import View

# Shown even if there are none: clients upload new ones when they read that there are too few.
_IN_USE = "signed_curve25519"


async def key_counts(view: View) -> JsonObject:
    """The sections `device_one_time_keys_count` and `device_unused_fallback_key_types`."""
    reader = view.reader
    if reader.device_id is None:
        return {"device_one_time_keys_count": {}, "device_unused_fallback_key_types": []}
    if view.standing is not None:
        counts, unused = view.standing.account.one_time_keys, view.standing.account.fallback_keys
    else:
        counts = await count_one_time_keys(view.conn, reader.user_nid, reader.device_id)
        unused = await unused_fallback_algorithms(view.conn, reader.user_nid, reader.device_id)
    return {
        "device_one_time_keys_count": {_IN_USE: 0, **counts},
        "device_unused_fallback_key_types": unused,
    }


def told_keys(sections: JsonObject) -> JsonObject:
    """Of a response, what it says of keys. That it says other than a while ago is worth ending a long poll for: when
    its keys have been claimed, a device uploads more."""
    return {name: sections.get(name) for name in ("device_one_time_keys_count", "device_unused_fallback_key_types")}
