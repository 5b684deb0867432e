"""Sign-ins that have begun and are not finished: what somebody could still make a session of."""

from __future__ import annotations

from homeserver.storage.stream import Connection


async def lock_password_hash(conn: Connection, user_nid: int, password_hash: str) -> bool:
    """Whether that is still the hash of the account's password; if so it stays that until the transaction ends."""
    return bool(
        await conn.fetchval(
            "SELECT true FROM accounts WHERE user_nid = $1 AND password_hash = $2 AND NOT deactivated FOR SHARE",
            user_nid,
            password_hash,
        )
    )


async def delete_pending_sign_ins(conn: Connection, user_nid: int) -> None:
    """Voids login tokens, authorization codes, approved devices and links to recover the account.

    Codes that were exchanged stay known, so that who comes with one again is still found out.
    """
    for statement in (
        "DELETE FROM login_tokens WHERE user_nid = $1",
        "DELETE FROM oauth2_codes WHERE user_nid = $1 AND NOT used",
        "DELETE FROM oauth2_device_grants WHERE user_nid = $1",
        "DELETE FROM recovery_tokens WHERE user_nid = $1",
        "DELETE FROM threepid_validations v USING account_threepids t WHERE t.user_nid = $1 "
        "AND v.purpose = 'password' AND v.medium = t.medium AND v.address = t.address",
    ):
        await conn.execute(statement, user_nid)
