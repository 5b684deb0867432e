"""The end of an account.

# spec: client-server-api/#account-deactivation
"""

from __future__ import annotations

from homeserver.protocol.errors import NotFound
from homeserver.storage.account_data import delete_all_account_data
from homeserver.storage.accounts import deactivate_account, find_account
from homeserver.storage.devices import delete_all_devices
from homeserver.storage.filters import delete_all_filters
from homeserver.storage.stream import Connection


async def deactivate(conn: Connection, *, user_id: str, erase: bool = False) -> list[str]:
    """Ends an account: password, profile, rights and sessions go, the name stays taken. Inside a transaction or not.

    With `erase`, what its clients kept here goes too. Rooms are left by whoever calls this.

    :returns: the devices that are gone
    :raises NotFound: if there is no such account, or it has been deactivated before
    """
    async with conn.transaction():
        account = await find_account(conn, user_id)
        if account is None or not await deactivate_account(conn, account.user_nid):
            raise NotFound("There is no such account")
        if erase:
            await delete_all_account_data(conn, account.user_nid)
            await delete_all_filters(conn, account.user_nid)
        return await delete_all_devices(conn, account.user_nid)
