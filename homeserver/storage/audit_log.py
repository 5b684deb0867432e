"""The record of what administrators did, in the order of doing. The database itself refuses to change a row of it.

A row is written in the transaction of the action: no action without its row, no row of what did not happen.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import orjson

from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action. `address` is None for what was done from the command line."""

    audit_id: int
    actor: str
    action: str
    target: str
    details: dict[str, Any]
    address: str | None
    created_ts: int


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a user id, or what stands for the command line; and from which address."""

    name: str
    address: str | None = None


async def append(conn: Connection, actor: Actor, action: str, target: str, details: dict[str, Any]) -> None:
    """Records an action, in the transaction that does it.

    :param action: what is done, as `user.lock`
    :param target: the id of whom or what it is done to
    :param details: what else there is to know, as JSON; never a secret
    """
    # jsonb has no NUL.
    text = orjson.dumps(details).decode().replace("\\u0000", "\N{REPLACEMENT CHARACTER}")
    await conn.execute(
        "INSERT INTO audit_log (actor, action, target, details, address, created_ts) VALUES ($1, $2, $3, $4, $5, $6)",
        actor.name,
        action,
        target.replace("\0", "\N{REPLACEMENT CHARACTER}"),
        text,
        actor.address or None,
        int(time.time() * 1000),
    )


async def list_entries(
    conn: Connection, *, target: str | None = None, before: int | None = None, limit: int = 100
) -> list[AuditEntry]:
    """The newest entries (about `target`, numbered below `before`), the newest first."""
    columns = "audit_id, actor, action, target, details, address, created_ts"
    if target is None:
        rows = await conn.fetch(
            f"SELECT {columns} FROM audit_log WHERE $1::bigint IS NULL OR audit_id < $1 "  # noqa: S608
            "ORDER BY audit_id DESC LIMIT $2",
            before,
            limit,
        )
    else:
        rows = await conn.fetch(
            f"SELECT {columns} FROM audit_log WHERE target = $3 AND ($1::bigint IS NULL OR audit_id < $1) "  # noqa: S608
            "ORDER BY audit_id DESC LIMIT $2",
            before,
            limit,
            target,
        )
    return [AuditEntry(**{**row, "details": orjson.loads(row["details"])}) for row in rows]
