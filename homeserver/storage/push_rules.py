"""What users have changed of their push rules. Who has changed nothing, and subscribes to no threads, has no row."""

from __future__ import annotations

from typing import Any

import orjson

from homeserver.protocol.canonical_json import encode_json
from homeserver.protocol.push_rules import NO_USER_RULES, UserRules
from homeserver.storage.stream import Connection


async def find_push_rules(conn: Connection, user_nid: int) -> UserRules:
    """The user's changes, none if there are none."""
    return read_rules(await conn.fetchval("SELECT rules FROM push_rules WHERE user_nid = $1", user_nid))


def read_rules(stored: bytes | None) -> UserRules:
    """The value of the column `rules`."""
    rules: dict[str, Any] = orjson.loads(stored) if stored is not None else {}
    return rules or NO_USER_RULES


async def lock_push_rules(conn: Connection, user_nid: int) -> UserRules:
    """The same, and nobody else changes them until the transaction ends."""
    # The user's own row, because there may be none to lock in push_rules. This lock leaves references to it alone.
    await conn.execute("SELECT FROM users WHERE user_nid = $1 FOR NO KEY UPDATE", user_nid)
    return await find_push_rules(conn, user_nid)


async def put_push_rules(conn: Connection, user_nid: int, rules: UserRules, pos: int) -> None:
    await conn.execute(
        "INSERT INTO push_rules (user_nid, rules, pos) VALUES ($1, $2, $3) "
        "ON CONFLICT (user_nid) DO UPDATE SET rules = excluded.rules, pos = excluded.pos",
        user_nid,
        encode_json(dict(rules)),
        pos,
    )


async def push_rules_changed(conn: Connection, user_nid: int, after: int, until: int) -> bool:
    """Whether the user has changed rules in the positions after `after`, up to `until`."""
    pos: int | None = await conn.fetchval("SELECT pos FROM push_rules WHERE user_nid = $1", user_nid)
    return pos is not None and after < pos <= until
