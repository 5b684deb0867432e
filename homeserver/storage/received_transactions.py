"""Transactions of other servers that were answered, so that a repeated one gets the same answer and does nothing."""

from __future__ import annotations

from homeserver.storage.stream import Connection


async def answer_given(conn: Connection, origin: str, txn_id: str) -> bytes | None:
    """The answer (JSON) that this transaction was given, if it was."""
    response: bytes | None = await conn.fetchval(
        "SELECT response FROM received_transactions WHERE origin = $1 AND txn_id = $2", origin, txn_id
    )
    return response


async def remember_answer(conn: Connection, origin: str, txn_id: str, response: bytes, now_ms: int) -> None:
    """Enters the answer (JSON) to a transaction."""
    await conn.execute(
        "INSERT INTO received_transactions (origin, txn_id, response, created_ts) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT DO NOTHING",
        origin,
        txn_id,
        response,
        now_ms,
    )


async def forget_answers(conn: Connection, before_ms: int) -> None:
    """Deletes the answers that were given before that time."""
    await conn.execute("DELETE FROM received_transactions WHERE created_ts < $1", before_ms)
