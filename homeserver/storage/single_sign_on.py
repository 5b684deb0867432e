"""Single sign-on: who is linked to whom, sign-ins under way, newcomers, and the sessions that end with those there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from homeserver.protocol.canonical_json import decode_json, encode_json
from homeserver.storage.stream import Connection


class ExternalId(NamedTuple):
    """A user of a provider. `shown_as` is how people recognise it."""

    provider_id: str
    subject: str
    shown_as: str
    linked_ts: int


async def find_user(conn: Connection, provider_id: str, subject: str) -> int | None:
    """The number of the user who is linked to that user of the provider."""
    user_nid: int | None = await conn.fetchval(
        "SELECT user_nid FROM external_ids WHERE provider_id = $1 AND subject = $2", provider_id, subject
    )
    return user_nid


async def insert_external_id(
    conn: Connection, user_nid: int, provider_id: str, subject: str, shown_as: str, now_ms: int
) -> bool:
    """Returns whether that user of the provider was linked to nobody yet."""
    done = await conn.fetchval(
        "INSERT INTO external_ids (provider_id, subject, user_nid, shown_as, linked_ts) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT DO NOTHING RETURNING true",
        provider_id,
        subject,
        user_nid,
        shown_as,
        now_ms,
    )
    return bool(done)


async def external_ids_of(conn: Connection, user_nid: int) -> list[ExternalId]:
    """To whom a user is linked, the oldest first."""
    rows = await conn.fetch(
        "SELECT provider_id, subject, shown_as, linked_ts FROM external_ids WHERE user_nid = $1 "
        "ORDER BY linked_ts, provider_id, subject",
        user_nid,
    )
    return [ExternalId(*row) for row in rows]


async def delete_external_id(conn: Connection, user_nid: int, provider_id: str, subject: str) -> bool:
    """Returns whether there was such a link."""
    done = await conn.fetchval(
        "DELETE FROM external_ids WHERE user_nid = $1 AND provider_id = $2 AND subject = $3 RETURNING true",
        user_nid,
        provider_id,
        subject,
    )
    return bool(done)


async def delete_external_ids(conn: Connection, user_nid: int) -> None:
    """Links the user to nobody any more."""
    await conn.execute("DELETE FROM external_ids WHERE user_nid = $1", user_nid)


@dataclass(frozen=True, slots=True)
class PendingLogin:
    """Somebody who is at a provider. `browser` is the hash of what their browser holds."""

    provider_id: str
    browser: bytes
    nonce: str
    code_verifier: str
    link_to: int | None
    continue_to: str
    expires_ts: int


async def insert_login(conn: Connection, state_hash: bytes, login: PendingLogin) -> None:
    await conn.execute(
        "INSERT INTO single_sign_on_logins (state_hash, provider_id, browser, nonce, code_verifier, link_to, "
        "continue_to, expires_ts) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        state_hash,
        login.provider_id,
        login.browser,
        login.nonce,
        login.code_verifier,
        login.link_to,
        login.continue_to,
        login.expires_ts,
    )


async def use_login(conn: Connection, state_hash: bytes, provider_id: str, browser: bytes) -> PendingLogin | None:
    """Ends a sign-in that was begun at that provider by that browser. Returns it; None if there is none such."""
    row = await conn.fetchrow(
        "DELETE FROM single_sign_on_logins WHERE state_hash = $1 AND provider_id = $2 AND browser = $3 "
        "RETURNING provider_id, browser, nonce, code_verifier, link_to, continue_to, expires_ts",
        state_hash,
        provider_id,
        browser,
    )
    return PendingLogin(**row) if row is not None else None


@dataclass(frozen=True, slots=True)
class Newcomer:
    """Somebody without an account who has proved who they are. `identity` is a JSON object."""

    provider_id: str
    identity: dict[str, Any]
    continue_to: str
    expires_ts: int


async def put_newcomer(conn: Connection, browser: bytes, newcomer: Newcomer) -> None:
    """Remembers who sits at a browser, instead of any other newcomer."""
    await conn.execute(
        "INSERT INTO single_sign_on_newcomers (browser, provider_id, identity, continue_to, expires_ts) "
        "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (browser) DO UPDATE SET provider_id = excluded.provider_id, "
        "identity = excluded.identity, continue_to = excluded.continue_to, expires_ts = excluded.expires_ts",
        browser,
        newcomer.provider_id,
        encode_json(newcomer.identity).decode(),
        newcomer.continue_to,
        newcomer.expires_ts,
    )


async def find_newcomer(conn: Connection, browser: bytes, *, use: bool = False) -> Newcomer | None:
    """Who sits at a browser. With `use` this is the last time that it is said: in a transaction."""
    row = await conn.fetchrow(
        "SELECT provider_id, identity::text AS identity, continue_to, expires_ts FROM single_sign_on_newcomers "
        "WHERE browser = $1 FOR UPDATE",
        browser,
    )
    if row is None:
        return None
    if use:
        await conn.execute("DELETE FROM single_sign_on_newcomers WHERE browser = $1", browser)
    return Newcomer(row["provider_id"], decode_json(row["identity"]), row["continue_to"], row["expires_ts"])


async def insert_session(
    conn: Connection, token_hash: bytes, provider_id: str, subject: str, session_id: str | None
) -> None:
    """Takes note that a session of a browser hangs on one at a provider."""
    await conn.execute(
        "INSERT INTO single_sign_on_sessions (token_hash, provider_id, subject, session_id) VALUES ($1, $2, $3, $4)",
        token_hash,
        provider_id,
        subject,
        session_id or "",
    )


async def end_browser_sessions(
    conn: Connection, provider_id: str, subject: str | None, session_id: str | None
) -> set[int]:
    """Ends the sessions of browsers that hang on that user or session there. Returns whose they were."""
    rows = await conn.fetch(
        "DELETE FROM web_sessions w USING single_sign_on_sessions s WHERE w.token_hash = s.token_hash "
        "AND s.provider_id = $1 AND ($2::text IS NULL OR s.subject = $2) AND ($3::text IS NULL OR s.session_id = $3) "
        "RETURNING w.user_nid",
        provider_id,
        subject,
        session_id,
    )
    return {row["user_nid"] for row in rows}


async def use_logout_token(conn: Connection, token_hash: bytes, expires_ts: int) -> bool:
    """Returns whether that logout token comes for the first time."""
    done = await conn.fetchval(
        "INSERT INTO used_logout_tokens (token_hash, expires_ts) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true",
        token_hash,
        expires_ts,
    )
    return bool(done)


async def delete_expired(conn: Connection, now_ms: int) -> None:
    """Forgets what has expired."""
    for table in ("single_sign_on_logins", "single_sign_on_newcomers", "used_logout_tokens"):
        await conn.execute(f"DELETE FROM {table} WHERE expires_ts < $1", now_ms)  # noqa: S608
