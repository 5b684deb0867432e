"""What a copy of everything that is kept about a user consists of: a query for each file.

A test holds this against the schema: a table about users is read here, or stands among those that say nothing to them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson

from homeserver.storage.stream import Connection

_ROWS_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Section:
    """One file. `query` has the user's number as $1; columns of `json` hold JSON as bytes or text."""

    file: str
    about: str
    tables: tuple[str, ...]
    query: str
    json: tuple[str, ...] = ()


SECTIONS = (
    Section(
        "account.json",
        "the account: rights, restrictions, when it was made",
        ("users", "accounts"),
        "SELECT u.user_id, a.admin, a.guest, a.deactivated, a.locked, a.suspended, a.shadow_banned, a.erased, "
        "a.appservice_id, a.displayname, a.avatar_url, a.created_ts, a.password_hash IS NOT NULL AS has_password "
        "FROM accounts a JOIN users u USING (user_nid) WHERE a.user_nid = $1",
    ),
    Section(
        "profile.json",
        "further fields of the profile",
        ("profile_fields",),
        "SELECT name, value FROM profile_fields WHERE user_nid = $1 ORDER BY name",
        ("value",),
    ),
    Section(
        "addresses.json",
        "e-mail addresses and telephone numbers",
        ("account_threepids",),
        "SELECT medium, address, validated_ts, added_ts FROM account_threepids WHERE user_nid = $1 "
        "ORDER BY medium, address",
    ),
    Section(
        "bound_addresses.json",
        "addresses that were bound at identity servers",
        ("bound_threepids",),
        "SELECT medium, address, id_server FROM bound_threepids WHERE user_nid = $1 ORDER BY medium, address",
    ),
    Section(
        "identities.json",
        "accounts of other providers that sign in to this one",
        ("external_ids",),
        "SELECT provider_id, subject, shown_as, linked_ts FROM external_ids WHERE user_nid = $1 ORDER BY linked_ts",
    ),
    Section(
        "second_factor.json",
        "whether a second factor is set up, and since when",
        ("second_factors",),
        "SELECT confirmed_ts, (SELECT count(*) FROM backup_codes b WHERE b.user_nid = s.user_nid) AS backup_codes_left "
        "FROM second_factors s WHERE user_nid = $1",
    ),
    Section(
        "devices.json",
        "devices, with the addresses that they were last seen at",
        ("devices",),
        "SELECT device_id, display_name, created_ts, last_seen_ts, last_seen_ip FROM devices WHERE user_nid = $1 "
        "ORDER BY created_ts",
    ),
    Section(
        "sessions.json",
        "sessions with refresh tokens, and the applications that they belong to",
        ("sessions",),
        "SELECT s.device_id, s.created_ts, s.scope, c.client_id, c.metadata AS client FROM sessions s "
        "LEFT JOIN oauth2_clients c USING (client_id) WHERE s.user_nid = $1 ORDER BY s.created_ts",
        ("client",),
    ),
    Section(
        "access_tokens.json",
        "when access tokens were given out (the tokens themselves are not kept)",
        ("access_tokens",),
        "SELECT device_id, created_ts, expires_ts FROM access_tokens WHERE user_nid = $1 ORDER BY created_ts",
    ),
    Section(
        "browser_sessions.json",
        "sessions of browsers at this server's pages",
        ("web_sessions",),
        "SELECT created_ts, last_seen_ts, authenticated_ts FROM web_sessions WHERE user_nid = $1 ORDER BY created_ts",
    ),
    Section(
        "sign_in_addresses.json",
        "network addresses that have signed in",
        ("login_addresses",),
        "SELECT address, last_ts FROM login_addresses WHERE user_nid = $1 ORDER BY last_ts",
    ),
    Section(
        "accepted_terms.json",
        "terms that were accepted",
        ("accepted_terms",),
        "SELECT policy, version, accepted_ts FROM accepted_terms WHERE user_nid = $1 ORDER BY accepted_ts",
    ),
    Section(
        "account_data.json",
        "what clients keep on the server, for all rooms and for single ones",
        ("account_data",),
        "SELECT r.room_id, d.type, d.content FROM account_data d LEFT JOIN rooms r USING (room_nid) "
        "WHERE d.user_nid = $1 ORDER BY d.pos",
        ("content",),
    ),
    Section(
        "filters.json",
        "filters that clients have made",
        ("filters",),
        "SELECT filter_id, json AS filter FROM filters WHERE user_nid = $1 ORDER BY filter_id",
        ("filter",),
    ),
    Section(
        "push_rules.json",
        "rules for notifications, as far as they were changed",
        ("push_rules",),
        "SELECT rules FROM push_rules WHERE user_nid = $1",
        ("rules",),
    ),
    Section(
        "pushers.json",
        "where notifications are sent",
        ("pushers",),
        "SELECT kind, app_id, pushkey, app_display_name, device_display_name, profile_tag, lang, data, enabled, set_ts "
        "FROM pushers WHERE user_nid = $1 ORDER BY pusher_id",
        ("data",),
    ),
    Section(
        "rooms.json",
        "rooms and what the user is in them",
        ("room_members",),
        "SELECT r.room_id, s.name, s.canonical_alias, m.membership, m.forgotten FROM room_members m "
        "JOIN rooms r USING (room_nid) LEFT JOIN room_summaries s USING (room_nid) WHERE m.user_nid = $1 "
        "ORDER BY m.pos",
    ),
    Section(
        "aliases.json",
        "room aliases that the user has made",
        ("room_aliases",),
        "SELECT a.alias, r.room_id, a.created_ts FROM room_aliases a JOIN rooms r USING (room_nid) "
        "WHERE a.creator_nid = $1 ORDER BY a.created_ts",
    ),
    Section(
        "media.json",
        "files that the user has uploaded; those that are not quarantined lie in the folder media",
        ("media",),
        "SELECT 'mxc://' || origin || '/' || media_id AS uri, content_type, upload_name, size, created_ts, "
        "quarantined_by IS NOT NULL AS quarantined FROM media WHERE user_nid = $1 AND sha256 IS NOT NULL "
        "ORDER BY media_nid",
    ),
    Section(
        "receipts.json",
        "what the user has told rooms about reading",
        ("receipts",),
        "SELECT r.room_id, c.receipt_type, c.thread_id, c.event_id, c.data FROM room_members m JOIN receipts c "
        "ON c.room_nid = m.room_nid AND c.user_nid = m.user_nid JOIN rooms r ON r.room_nid = c.room_nid "
        "WHERE m.user_nid = $1 ORDER BY c.pos",
        ("data",),
    ),
    Section(
        "thread_subscriptions.json",
        "threads that are followed",
        ("thread_subscriptions",),
        "SELECT r.room_id, t.thread_id, t.subscribed, t.automatic FROM thread_subscriptions t "
        "JOIN rooms r USING (room_nid) WHERE t.user_nid = $1 ORDER BY t.pos",
    ),
    Section(
        "delayed_events.json",
        "events that were scheduled",
        ("delayed_events",),
        "SELECT r.room_id, d.type, d.state_key, d.content, d.scheduled_ts, d.send_ts, d.finalised_ts, d.event_id "
        "FROM delayed_events d JOIN rooms r USING (room_nid) WHERE d.user_nid = $1 ORDER BY d.scheduled_ts",
        ("content",),
    ),
    Section(
        "presence.json",
        "the last presence",
        ("presence",),
        "SELECT presence, status_msg, last_active_ts FROM presence WHERE user_nid = $1",
    ),
    Section(
        "device_keys.json",
        "public keys of devices",
        ("device_keys",),
        "SELECT device_id, json AS keys FROM device_keys WHERE user_nid = $1 ORDER BY device_id",
        ("keys",),
    ),
    Section(
        "cross_signing_keys.json",
        "public keys for cross-signing",
        ("cross_signing_keys",),
        "SELECT usage, json AS key FROM cross_signing_keys WHERE user_nid = $1 ORDER BY usage",
        ("key",),
    ),
    Section(
        "signatures.json",
        "signatures on keys of the user",
        ("key_signatures",),
        "SELECT k.target, u.user_id AS signer, k.key_id, k.signature FROM key_signatures k "
        "JOIN users u ON u.user_nid = k.signer_nid WHERE k.user_nid = $1 ORDER BY k.target",
    ),
    Section(
        "key_backups.json",
        "backups of message keys",
        ("key_backups",),
        "SELECT version, algorithm, auth_data, key_count, deleted FROM key_backups WHERE user_nid = $1 "
        "ORDER BY version",
        ("auth_data",),
    ),
    Section(
        "backed_up_keys.json",
        "the message keys in them, encrypted as the clients did",
        ("room_keys",),
        "SELECT version, room_id, session_id, first_message_index, forwarded_count, is_verified, session_data "
        "FROM room_keys WHERE user_nid = $1 ORDER BY version, room_id, session_id",
        ("session_data",),
    ),
    Section(
        "waiting_messages.json",
        "messages to devices that these have not fetched",
        ("to_device_messages",),
        "SELECT device_id, message FROM to_device_messages WHERE user_nid = $1 ORDER BY pos",
        ("message",),
    ),
    Section(
        "rate_limits.json",
        "limits that administrators have set for this user",
        ("rate_limit_overrides",),
        "SELECT messages_per_second, burst_count FROM rate_limit_overrides WHERE user_nid = $1",
    ),
    Section(
        "reports.json",
        "reports that the user has made",
        ("reports",),
        "SELECT report_id, kind, room_id, event_id, user_id, reason, score, created_ts FROM reports "
        "WHERE reporter_nid = $1 ORDER BY report_id",
    ),
    Section(
        "administration.json",
        "what administrators have done to the account, and what the user has done as one",
        ("audit_log",),
        "SELECT l.audit_id, l.actor, l.action, l.target, l.details, l.address, l.created_ts FROM audit_log l "
        "JOIN users u ON u.user_id IN (l.target, l.actor) WHERE u.user_nid = $1 ORDER BY l.audit_id",
        ("details",),
    ),
)

# Books of synchronisation, counters, what is only there for minutes, and copies of what is in the files above.
NOT_EXPORTED = {
    "backup_codes",  # hashes; how many are left is told
    "cross_signing_resets",
    "device_list_changes",
    "event_transactions",
    "fallback_keys",
    "hierarchy_pages",
    "login_tokens",
    "oauth2_codes",
    "oauth2_device_grants",
    "one_time_keys",
    "openid_tokens",
    "quiet_spans",
    "read_marks",
    "recovery_tokens",
    "refresh_tokens",
    "remote_device_lists",
    "remote_devices",
    "sliding_connections",
    "to_device_transactions",
    "user_directory",
    "user_directory_stale",
    "user_notifications",
}


async def rows_of(conn: Connection, section: Section, user_nid: int) -> AsyncIterator[dict[str, Any]]:
    """The rows of one file, a few at a time. Inside a transaction, which is as long as somebody reads."""
    async for row in conn.cursor(section.query, user_nid, prefetch=_ROWS_AT_ONCE):
        values = dict(row)
        for name in section.json:
            if values[name] is not None:
                values[name] = orjson.Fragment(values[name])
        yield values


async def sent_events_page(
    conn: Connection, room_nid: int, user_nid: int, after: int, limit: int = 5_000
) -> tuple[list[bytes], int | None]:
    """The JSON of what a user has sent in a stretch of a room's timeline, and where the next begins; None: nowhere."""
    rows = await conn.fetch(
        "SELECT ord, CASE WHEN sender_nid = $2 THEN json END AS json FROM events "
        "WHERE room_nid = $1 AND ord > $3 ORDER BY ord LIMIT $4",
        room_nid,
        user_nid,
        after,
        limit,
    )
    found = [row["json"] for row in rows if row["json"] is not None]
    return found, rows[-1]["ord"] if len(rows) == limit else None
