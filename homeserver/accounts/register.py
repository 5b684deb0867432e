"""Making accounts.

# spec: client-server-api/#post_matrixclientv3register
"""

from __future__ import annotations

import secrets
import time

from homeserver.appservice_registrations import Appservices
from homeserver.protocol.errors import BadRequest
from homeserver.protocol.identifiers import check_new_localpart
from homeserver.storage.accounts import Account, find_account, insert_account
from homeserver.storage.stream import Connection

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


async def create_account(
    conn: Connection,
    *,
    server_name: str,
    localpart: str,
    password_hash: str | None,
    admin: bool = False,
    guest: bool = False,
    appservice_id: str | None = None,
) -> Account:
    """Makes an account; inside a transaction or not.

    :raises BadRequest: M_INVALID_USERNAME or M_USER_IN_USE; nothing is made then
    """
    check_new_localpart(localpart, server_name)
    user_id = f"@{localpart}:{server_name}"
    async with conn.transaction():
        made = await insert_account(
            conn,
            user_id,
            password_hash=password_hash,
            admin=admin,
            guest=guest,
            appservice_id=appservice_id,
            created_ts=int(time.time() * 1000),
        )
        account = await find_account(conn, user_id)
    # One that has been deactivated keeps its name for ever: nobody may become who somebody was.
    if made is None or account is None:
        raise _in_use()
    return account


async def check_available(
    conn: Connection,
    appservices: Appservices,
    *,
    server_name: str,
    localpart: str,
    appservice_id: str | None = None,
) -> None:
    """Checks that an account of that name could be made, by this application service if one is given.

    :raises BadRequest: M_INVALID_USERNAME, M_EXCLUSIVE or M_USER_IN_USE
    """
    check_new_localpart(localpart, server_name)
    user_id = f"@{localpart}:{server_name}"
    if appservices.excluding_user(user_id, other_than=appservice_id):
        raise BadRequest("An application service has reserved this user name", errcode="M_EXCLUSIVE")
    if await find_account(conn, user_id) is not None:
        raise _in_use()


def generated_localpart() -> str:
    """A name for who gives none. It has too many possibilities to be taken by chance."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(16))


def _in_use() -> BadRequest:
    return BadRequest("This user name is taken", errcode="M_USER_IN_USE")
