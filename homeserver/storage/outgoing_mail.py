"""Mails that must still go out.

Whoever takes a mail to send it sets its next attempt ahead, in one statement that passes over what another process has
just taken. Should the process die with the mail in its hands, it is due again then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from homeserver.protocol.canonical_json import decode_json, encode_json
from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class QueuedMail:
    """`attempts` counts the one that it was taken for."""

    mail_id: int
    recipient: str
    template: str
    language: str
    fields: Mapping[str, str]
    created_ts: int
    expires_ts: int
    attempts: int


async def insert_mail(
    conn: Connection,
    *,
    recipient: str,
    template: str,
    language: str,
    fields: Mapping[str, str],
    created_ts: int,
    expires_ts: int,
) -> None:
    await conn.execute(
        "INSERT INTO outgoing_mail (recipient, template, language, fields, created_ts, expires_ts, next_attempt_ts) "
        "VALUES ($1, $2, $3, $4, $5, $6, $5)",
        recipient,
        template,
        language,
        encode_json(dict(fields)).decode(),
        created_ts,
        expires_ts,
    )


async def claim_mails(conn: Connection, *, now_ms: int, until_ms: int, limit: int) -> list[QueuedMail]:
    """Takes up to `limit` mails that are due, the longest due first. Until `until_ms` nobody else gets them."""
    rows = await conn.fetch(
        "UPDATE outgoing_mail SET attempts = attempts + 1, next_attempt_ts = $2 WHERE mail_id IN ("
        "SELECT mail_id FROM outgoing_mail WHERE next_attempt_ts <= $1 ORDER BY next_attempt_ts LIMIT $3 "
        "FOR UPDATE SKIP LOCKED) "
        "RETURNING mail_id, recipient, template, language, fields, created_ts, expires_ts, attempts",
        now_ms,
        until_ms,
        limit,
    )
    mails = [QueuedMail(**{**row, "fields": decode_json(row["fields"])}) for row in rows]
    return sorted(mails, key=lambda mail: mail.mail_id)


async def delete_mail(conn: Connection, mail_id: int) -> None:
    await conn.execute("DELETE FROM outgoing_mail WHERE mail_id = $1", mail_id)


async def postpone_mail(conn: Connection, mail_id: int, next_attempt_ts: int) -> None:
    await conn.execute("UPDATE outgoing_mail SET next_attempt_ts = $2 WHERE mail_id = $1", mail_id, next_attempt_ts)
