"""Which nonces of registrations with the shared secret have been used: each is good for one request."""

from __future__ import annotations

import hashlib

from homeserver.storage.stream import Connection


async def use_nonce(conn: Connection, nonce: str, *, now_ms: int, expires_ts: int) -> bool:
    """Uses a nonce up, for every process and across restarts. Forgets those that have expired.

    :param expires_ts: from when on (ms) the nonce counts no more by itself
    :returns: False if it was used before; of several at once, one gets True
    """
    await conn.execute(
        "DELETE FROM used_registration_nonces WHERE nonce_hash IN (SELECT nonce_hash FROM used_registration_nonces "
        "WHERE expires_ts < $1 ORDER BY expires_ts LIMIT 1000 FOR UPDATE SKIP LOCKED)",
        now_ms,
    )
    made = await conn.fetchval(
        "INSERT INTO used_registration_nonces (nonce_hash, expires_ts) VALUES ($1, $2) "
        "ON CONFLICT DO NOTHING RETURNING true",
        hashlib.sha256(nonce.encode()).digest(),
        expires_ts,
    )
    return made is not None
