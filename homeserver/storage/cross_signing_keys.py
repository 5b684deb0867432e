"""Cross-signing keys of the users of this server, and the signatures that were added to keys afterwards."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from homeserver.storage.stream import Connection


class StoredSigningKey(NamedTuple):
    """`usage` is master, self_signing or user_signing; `json` the object as published."""

    user_id: str
    usage: str
    public_key: str
    json: bytes


class KeySignature(NamedTuple):
    """A signature on `target` (a device id or a master key) of one user by the key `key_id` of another or the same.

    `target_device` and `signing_device` are set where a device is signed or has signed.
    """

    user_nid: int
    target: str
    signer_nid: int
    key_id: str
    signature: str
    target_device: str | None = None
    signing_device: str | None = None


class SeenSignature(NamedTuple):
    user_id: str
    target: str
    signer: str
    key_id: str
    signature: str


async def lock_signing_keys(conn: Connection, user_nid: int) -> None:
    """Makes other changes of this user's cross-signing keys and signatures wait until this transaction ends."""
    await conn.execute("SELECT FROM accounts WHERE user_nid = $1 FOR NO KEY UPDATE", user_nid)


async def signing_keys(conn: Connection, user_ids: Collection[str]) -> list[StoredSigningKey]:
    rows = await conn.fetch(
        "SELECT u.user_id, k.usage, k.public_key, k.json FROM users u JOIN cross_signing_keys k USING (user_nid) "
        "WHERE u.user_id = ANY($1)",
        list(user_ids),
    )
    return [StoredSigningKey(*row) for row in rows]


async def store_signing_key(conn: Connection, user_nid: int, usage: str, public_key: str, json: bytes) -> None:
    await conn.execute(
        "INSERT INTO cross_signing_keys (user_nid, usage, public_key, json) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (user_nid, usage) DO UPDATE SET public_key = excluded.public_key, json = excluded.json",
        user_nid,
        usage,
        public_key,
        json,
    )


async def delete_signing_keys(conn: Connection, user_nid: int, usages: Collection[str]) -> None:
    """Deletes keys with the signatures on them and by them."""
    rows = await conn.fetch(
        "DELETE FROM cross_signing_keys WHERE user_nid = $1 AND usage = ANY($2) RETURNING public_key",
        user_nid,
        list(usages),
    )
    public_keys = [row["public_key"] for row in rows]
    if public_keys:
        await conn.execute("DELETE FROM key_signatures WHERE user_nid = $1 AND target = ANY($2)", user_nid, public_keys)
        await conn.execute(
            "DELETE FROM key_signatures WHERE signer_nid = $1 AND key_id = ANY($2)",
            user_nid,
            [f"ed25519:{public_key}" for public_key in public_keys],
        )


async def store_signatures(conn: Connection, signatures: Sequence[KeySignature]) -> int:
    """:returns: how many of them were not here yet"""
    new = 0
    for signature in signatures:
        new += bool(
            await conn.fetchval(
                "INSERT INTO key_signatures AS s "
                "(user_nid, target, signer_nid, key_id, signature, target_device, signing_device) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (user_nid, target, signer_nid, key_id) "
                "DO UPDATE SET signature = excluded.signature WHERE s.signature <> excluded.signature RETURNING true",
                *signature,
            )
        )
    return new


async def visible_signatures(conn: Connection, user_ids: Collection[str], viewer: str | None) -> list[SeenSignature]:
    """Signatures on keys of these users that they themselves or the viewer made: nobody else's are anyone's business.

    # spec: client-server-api/#key-and-signature-security
    """
    rows = await conn.fetch(
        "SELECT u.user_id, s.target, signer.user_id AS signer, s.key_id, s.signature FROM users u "
        "JOIN key_signatures s USING (user_nid) JOIN users signer ON signer.user_nid = s.signer_nid "
        "WHERE u.user_id = ANY($1) AND (signer.user_nid = u.user_nid OR signer.user_id = $2)",
        list(user_ids),
        viewer,
    )
    return [SeenSignature(*row) for row in rows]


async def is_signing_key(conn: Connection, user_nid: int, public_key: str) -> bool:
    """Whether one of the user's cross-signing keys is this one."""
    return bool(
        await conn.fetchval(
            "SELECT EXISTS (SELECT FROM cross_signing_keys WHERE user_nid = $1 AND public_key = $2)",
            user_nid,
            public_key,
        )
    )
