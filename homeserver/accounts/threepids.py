"""The e-mail addresses and telephone numbers of an account: one that is there may be used to log in and to recover it.

An address belongs to one account at most, which the database's primary key holds even when two add it at once.

# spec: client-server-api/#adding-account-administrative-contact-information
"""

from __future__ import annotations

import time

from homeserver.accounts.email_validation import Threepid
from homeserver.protocol.errors import BadRequest, InvalidParam
from homeserver.protocol.threepids import EMAIL, MSISDN, canonical_email, canonical_msisdn
from homeserver.storage import threepids
from homeserver.storage.recovery_tokens import delete_recovery_tokens
from homeserver.storage.stream import Connection
from homeserver.storage.threepids import AccountThreepid

_MOST = 20  # of one account


async def threepids_of(conn: Connection, user_nid: int) -> list[AccountThreepid]:
    """All addresses of an account, by kind, the oldest first."""
    return await threepids.list_threepids(conn, user_nid)


async def emails_of(conn: Connection, user_nid: int) -> list[str]:
    """The confirmed e-mail addresses of an account."""
    return [one.address for one in await threepids.list_threepids(conn, user_nid) if one.medium == EMAIL]


async def find_user(conn: Connection, medium: str, address: str) -> int | None:
    """Whose address that is, of the accounts that are not deactivated.

    :param address: in its canonical form
    """
    return await threepids.find_user_nid(conn, medium, address)


async def add(conn: Connection, user_nid: int, threepid: Threepid) -> bool:
    """Gives a proved address to an account, in the transaction in which the proof is used up.

    :returns: whether the account did not have it before
    :raises BadRequest: M_THREEPID_IN_USE if it is another account's; M_THREEPID_DENIED if this one has too many
    """
    if len(await threepids.list_threepids(conn, user_nid)) >= _MOST:
        raise BadRequest("The account has too many addresses", errcode="M_THREEPID_DENIED", status=403)
    made = await threepids.insert_threepid(
        conn,
        user_nid,
        medium=threepid.medium,
        address=threepid.address,
        validated_ts=threepid.validated_ts,
        added_ts=int(time.time() * 1000),
    )
    if made is None:
        raise BadRequest("This address belongs to another account", errcode="M_THREEPID_IN_USE")
    return made


async def delete(conn: Connection, user_nid: int, medium: str, address: str) -> bool:
    """Takes an address from an account. Whoever reads it can't recover the account with a link that is on its way.

    :param address: in its canonical form
    :returns: whether the account had it
    """
    await delete_recovery_tokens(conn, user_nid)
    return await threepids.delete_threepid(conn, user_nid, medium, address)


async def delete_all(conn: Connection, user_nid: int) -> None:
    """Takes all addresses from an account, for its end."""
    await threepids.delete_all_threepids(conn, user_nid)


def canonical_address(medium: str, address: str) -> str:
    """`address` as it is compared. Raises InvalidParam if it is none, or of a kind that is not known."""
    if medium == EMAIL:
        return canonical_email(address)
    if medium == MSISDN:
        return canonical_msisdn(address)
    raise InvalidParam("medium must be email or msisdn")
