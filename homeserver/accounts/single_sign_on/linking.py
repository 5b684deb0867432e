"""Which account here somebody at a provider is let into.

The link is the provider and the subject there, made once and kept. Without one, an account that is here already is
opened only as the operator has said, and never one of an administrator: whoever administers the provider, or can change
an address or a name there, would administer this server.
"""

from __future__ import annotations

import re
import time

from homeserver.accounts.single_sign_on.provider import Identity, SingleSignOnFailed
from homeserver.config.single_sign_on import ProviderConfig
from homeserver.protocol.errors import BadRequest
from homeserver.protocol.threepids import EMAIL
from homeserver.storage import single_sign_on
from homeserver.storage.accounts import Account, find_account, find_account_by_nid
from homeserver.storage.stream import Connection
from homeserver.storage.threepids import find_user_nid
from homeserver.translations import mark

_NOT_ALLOWED = re.compile(r"[^a-z0-9._=/+-]+")
_MAX_LOCALPART = 64  # characters of a name that is only suggested


async def account_of(conn: Connection, config: ProviderConfig, identity: Identity, server_name: str) -> Account | None:
    """The account that somebody is let into; it is linked if it was not. Inside a transaction.

    :returns: None if they have none here
    """
    user_nid = await single_sign_on.find_user(conn, config.id, identity.subject)
    if user_nid is not None:
        return await find_account_by_nid(conn, user_nid)
    account = await _existing(conn, config, identity, server_name)
    if account is None or account.admin or account.guest or account.deactivated or account.appservice_id is not None:
        return None
    if any(one.provider_id == config.id for one in await single_sign_on.external_ids_of(conn, account.user_nid)):
        # Somebody else there is let into it: the address or the name was given to a new owner.
        return None
    await link(conn, config, identity, account.user_nid)
    return account


async def link(conn: Connection, config: ProviderConfig, identity: Identity, user_nid: int) -> None:
    """Lets somebody at a provider into an account from now on.

    :raises SingleSignOnFailed: if they are let into another
    """
    now_ms = int(time.time() * 1000)
    if await single_sign_on.insert_external_id(
        conn, user_nid, config.id, identity.subject, identity.shown_as[:255], now_ms
    ):
        return
    if await single_sign_on.find_user(conn, config.id, identity.subject) != user_nid:
        raise SingleSignOnFailed(mark("That account is already linked to another user of this server."))


async def unlink(conn: Connection, user_nid: int, provider_id: str, subject: str, *, has_password: bool) -> None:
    """Takes a way to sign in from an account. Inside a transaction.

    :raises BadRequest: if it is the last one
    """
    links = await single_sign_on.external_ids_of(conn, user_nid)
    if not has_password and len(links) <= 1:
        raise BadRequest(mark("This is the only way to sign in to your account. Set a password first."))
    await single_sign_on.delete_external_id(conn, user_nid, provider_id, subject)


async def _existing(conn: Connection, config: ProviderConfig, identity: Identity, server_name: str) -> Account | None:
    if config.link_existing == "email" and identity.email is not None:
        user_nid = await find_user_nid(conn, EMAIL, identity.email)
        return await find_account_by_nid(conn, user_nid) if user_nid is not None else None
    if config.link_existing == "localpart" and identity.localpart is not None:
        # Letter by letter: of names that only look alike, one could be anybody's.
        return await find_account(conn, f"@{identity.localpart.lower()}:{server_name}")
    return None


def suggested_localpart(identity: Identity) -> str:
    """A user name for somebody new, "" if none can be made of what is known. Whether it is free is another question."""
    source = identity.localpart or (identity.email or "").partition("@")[0]
    # A name there may be an address.
    name = source.partition("@")[0].lower()
    return _NOT_ALLOWED.sub("-", name).strip("-_.")[:_MAX_LOCALPART]
