"""What is kept of an account, table by table, and what becomes of it when the account ends.

Every table with a `user_nid` stands in one of these lists; a test holds them against the schema, so that whoever adds a
table decides what an end means for it.
"""

from __future__ import annotations

from homeserver.storage.stream import Connection

# Gone with the account: all that lets anyone in, reaches anyone, or proves who somebody is. What hangs on devices goes
# with them: tokens, device keys, one-time keys, to-device messages, sliding sync connections.
ENDED = (
    "cross_signing_keys",
    "cross_signing_resets",
    "key_backups",
    "openid_tokens",
    "login_tokens",
    "oauth2_codes",
    "oauth2_device_grants",
    "web_sessions",
    "account_threepids",
    "bound_threepids",
    "recovery_tokens",
    "second_factors",
    "external_ids",
    "profile_fields",
    "presence",
    "login_addresses",
    "rate_limit_overrides",
    "pushers",
)

# Gone besides if the user wants to be forgotten.
ERASED = (
    "account_data",
    "filters",
    "push_rules",
    "thread_subscriptions",
    "read_marks",
    "quiet_spans",
    "user_notifications",
    "delayed_events",
    "hierarchy_pages",
    "accepted_terms",
)

# Gone with a device, or kept: names that rooms refer to, memberships, the books of synchronisation and delivery.
KEPT = (
    "users",
    "accounts",
    "devices",
    "access_tokens",
    "sessions",
    "refresh_tokens",
    "backup_codes",
    "device_keys",
    "one_time_keys",
    "fallback_keys",
    "key_signatures",  # those by and on keys that are gone are deleted with them
    "room_keys",
    "to_device_messages",
    "to_device_transactions",
    "device_list_changes",
    "remote_device_lists",
    "remote_devices",
    "sliding_connections",
    "room_members",
    "receipts",  # deleted room by room
    "media",  # deleted with the files, a few at a time
    "event_transactions",
    "user_directory",
    "user_directory_stale",
)


async def any_bound(conn: Connection, user_nid: int) -> bool:
    """Whether an address of the user is bound at an identity server."""
    return bool(await conn.fetchval("SELECT EXISTS (SELECT FROM bound_threepids WHERE user_nid = $1)", user_nid))


async def delete_ended(conn: Connection, user_nid: int) -> None:
    """Deletes what no account that has ended keeps."""
    await conn.execute("DELETE FROM key_signatures WHERE user_nid = $1", user_nid)
    await conn.execute("DELETE FROM key_signatures WHERE signer_nid = $1", user_nid)
    for table in ENDED:
        await conn.execute(f"DELETE FROM {table} WHERE user_nid = $1", user_nid)  # noqa: S608 - names from above
    await conn.execute("DELETE FROM delayed_events WHERE user_nid = $1 AND finalised_ts IS NULL", user_nid)


async def delete_erased(conn: Connection, user_nid: int) -> None:
    """Deletes what goes when a user wants to be forgotten."""
    for table in ERASED:
        await conn.execute(f"DELETE FROM {table} WHERE user_nid = $1", user_nid)  # noqa: S608 - names from above


async def delete_receipts(conn: Connection, room_nid: int, user_nid: int) -> None:
    """Deletes what the user has told a room about reading."""
    await conn.execute("DELETE FROM receipts WHERE room_nid = $1 AND user_nid = $2", room_nid, user_nid)
