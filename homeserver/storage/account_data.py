"""Account data: what clients keep for their user, global and by room."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from homeserver.storage.stream import Connection

GLOBAL = 0  # the room_nid of what belongs to no room
DELETED = b"{}"
"""What is left of account data that was deleted: clients are told of it, and a new one finds nothing (MSC3391)."""


@dataclass(frozen=True, slots=True)
class AccountDatum:
    """`content` is a JSON object."""

    room_nid: int
    type: str
    content: bytes
    pos: int


async def put_account_data(
    conn: Connection, user_nid: int, type: str, content: bytes, pos: int, *, room_nid: int = GLOBAL
) -> None:
    await conn.execute(
        "INSERT INTO account_data (user_nid, room_nid, type, content, pos) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (user_nid, room_nid, type) DO UPDATE SET content = excluded.content, pos = excluded.pos",
        user_nid,
        room_nid,
        type,
        content,
        pos,
    )


async def find_account_data(conn: Connection, user_nid: int, type: str, *, room_nid: int = GLOBAL) -> bytes | None:
    """The content, a JSON object."""
    found: bytes | None = await conn.fetchval(
        "SELECT content FROM account_data WHERE user_nid = $1 AND room_nid = $2 AND type = $3",
        user_nid,
        room_nid,
        type,
    )
    return found


async def lock_account_data(conn: Connection, user_nid: int) -> None:
    """Until the transaction ends, whoever else asks for this user's lock waits: for reading, changing and writing."""
    await conn.execute("SELECT FROM accounts WHERE user_nid = $1 FOR NO KEY UPDATE", user_nid)


async def global_account_data_of(conn: Connection, user_id: str, types: Collection[str]) -> dict[str, bytes]:
    """type -> content, a JSON object, of those of these types that the user has set for all rooms."""
    rows = await conn.fetch(
        "SELECT type, content FROM account_data WHERE user_nid = (SELECT user_nid FROM users WHERE user_id = $1) "
        "AND room_nid = $2 AND type = ANY($3)",
        user_id,
        GLOBAL,
        list(types),
    )
    return {row["type"]: row["content"] for row in rows}


async def list_account_data(conn: Connection, user_nid: int, *, after: int, up_to: int) -> list[AccountDatum]:
    """What was set in the positions after `after`, up to `up_to`, in their order."""
    rows = await conn.fetch(
        "SELECT room_nid, type, content, pos FROM account_data WHERE user_nid = $1 AND pos > $2 AND pos <= $3 "
        "ORDER BY pos",
        user_nid,
        after,
        up_to,
    )
    return [AccountDatum(**row) for row in rows]


async def delete_all_account_data(conn: Connection, user_nid: int) -> None:
    await conn.execute("DELETE FROM account_data WHERE user_nid = $1", user_nid)
