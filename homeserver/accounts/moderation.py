"""Restrictions of accounts that can be lifted again: locked, suspended, shadow-banned.

What each forbids stands in `http.restrictions`, which every request passes; here is how an account gets there and back.

# spec: client-server-api/#account-moderation
"""

from __future__ import annotations

from typing import Literal

from homeserver.protocol.errors import Forbidden, NotFound, Unauthorized
from homeserver.storage import audit_log
from homeserver.storage.accounts import Account, find_account, update_restriction
from homeserver.storage.audit_log import Actor
from homeserver.storage.stream import Connection

Restriction = Literal["locked", "suspended", "shadow_banned"]

_ACTIONS = {
    ("locked", True): "user.lock",
    ("locked", False): "user.unlock",
    ("suspended", True): "user.suspend",
    ("suspended", False): "user.unsuspend",
    ("shadow_banned", True): "user.shadow_ban",
    ("shadow_banned", False): "user.shadow_unban",
}


def locked_error() -> Unauthorized:
    """What someone whose account is locked is told.

    # spec: client-server-api/#account-locking
    """
    return Unauthorized("This account has been locked", errcode="M_USER_LOCKED", soft_logout=True)


def suspended_error() -> Forbidden:
    """What someone whose account is suspended is told.

    # spec: client-server-api/#account-suspension
    """
    return Forbidden("You cannot perform this action while suspended.", errcode="M_USER_SUSPENDED")


async def check_may_sign_in(conn: Connection, user_nid: int) -> None:
    """For a session about to be opened, whichever way its user has proved who they are.

    :raises Unauthorized: M_USER_LOCKED
    :raises Forbidden: M_USER_DEACTIVATED
    """
    row = await conn.fetchrow("SELECT locked, deactivated FROM accounts WHERE user_nid = $1", user_nid)
    if row is None or row["deactivated"]:
        raise Forbidden("This account has been deactivated", errcode="M_USER_DEACTIVATED")
    if row["locked"]:
        raise locked_error()


async def restrict(conn: Connection, actor: Actor, user_id: str, restriction: Restriction, on: bool) -> Account:
    """Puts a restriction on an account or lifts it, and records it; inside a transaction or not.

    Nothing is recorded if the account is so already.

    :returns: the account as it was
    :raises NotFound: if there is no such account, or it is deactivated
    """
    async with conn.transaction():
        account = await find_account(conn, user_id)
        if account is None or account.deactivated:
            raise NotFound("There is no such user")
        if await update_restriction(conn, account.user_nid, restriction, on):
            await audit_log.append(conn, actor, _ACTIONS[restriction, on], user_id, {})
    return account
