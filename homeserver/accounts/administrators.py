"""Who administers this server. There is always somebody who does: the last one keeps the right, whoever takes it away.

The command line is not held to that: whoever has it can make another administrator.
"""

from __future__ import annotations

from homeserver.protocol.errors import Forbidden, NotFound
from homeserver.storage import audit_log
from homeserver.storage.accounts import Account, find_account, lock_other_administrators, update_admin
from homeserver.storage.audit_log import Actor
from homeserver.storage.stream import Connection


async def check_not_last(conn: Connection, account: Account) -> None:
    """For an account about to lose its rights, inside the transaction in which it does.

    :raises Forbidden: if it is the only administrator who can log in
    """
    if account.admin and not await lock_other_administrators(conn, account.user_nid):
        raise Forbidden("This is the only administrator: make another one first")


async def set_administrator(
    conn: Connection, actor: Actor, user_id: str, admin: bool, *, keep_one: bool = True
) -> Account:
    """Makes an account an administrator, or makes it none; inside a transaction or not.

    :returns: the account as it was
    :raises NotFound: if there is no such account, or it is deactivated
    :raises Forbidden: if it is a guest, or the last administrator and `keep_one`
    """
    async with conn.transaction():
        account = await find_account(conn, user_id)
        if account is None or account.deactivated:
            raise NotFound("There is no such user")
        if admin and account.guest:
            raise Forbidden("Guests can't be administrators")
        if not admin and keep_one:
            await check_not_last(conn, account)
        if await update_admin(conn, account.user_nid, admin):
            action = "user.make_administrator" if admin else "user.unmake_administrator"
            await audit_log.append(conn, actor, action, user_id, {})
    return account
