"""Setting and checking the passwords of accounts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

from homeserver.accounts.password_policy import check_new_password
from homeserver.config import PasswordsConfig
from homeserver.passwords import TooBusy, UnusablePassword, check_password_async, hash_password_async, needs_rehash
from homeserver.protocol.errors import Forbidden, InvalidParam, LimitExceeded, NotFound
from homeserver.storage.accounts import Account, find_account, find_password_hash, update_password_hash
from homeserver.storage.devices import delete_all_devices
from homeserver.storage.sign_ins import delete_pending_sign_ins, lock_password_hash
from homeserver.storage.stream import Connection, Pool
from homeserver.storage.web_sessions import delete_all_sessions

_TOO_BUSY_MS = 10_000


async def hash_new_password(password: str, config: PasswordsConfig, localpart: str = "") -> str:
    """The hash of a password that somebody wants to have.

    :param localpart: of who wants it; "" if that is not known yet
    :raises BadRequest: M_WEAK_PASSWORD if the rules of `config` refuse it
    :raises InvalidParam: if it is longer than what can be hashed
    """
    check_new_password(password, config, localpart)
    try:
        return await hash_password_async(password, config.bcrypt_cost, _pepper(config))
    except UnusablePassword as error:
        raise InvalidParam(str(error)) from None
    except TooBusy:
        raise _too_busy() from None


async def check_credentials(pool: Pool, config: PasswordsConfig, user_id: str, password: str) -> Account:
    """The account whose password this is. How long it takes tells nobody who has an account.

    :raises Forbidden: M_FORBIDDEN for a wrong user or password, M_USER_DEACTIVATED for an account that is gone
    :raises LimitExceeded: if very many log in at this moment
    """
    account, _ = await _checked(pool, config, user_id, password)
    return account


async def claim_by_password(
    pool: Pool, config: PasswordsConfig, user_id: str, password: str
) -> Callable[[Connection], Awaitable[Account]]:
    """The same for a login. What it returns must be awaited in the transaction that opens the session.

    Checking takes long enough for the password to be changed meanwhile, and a session that is opened after that would
    not be among those that the change has ended. So the change is looked for, and kept out until the session is there.

    :raises Forbidden, LimitExceeded: as `check_credentials` does; the function raises Forbidden too
    """
    account, password_hash = await _checked(pool, config, user_id, password)

    async def claim(conn: Connection) -> Account:
        if not await lock_password_hash(conn, account.user_nid, password_hash):
            raise _wrong()
        return account

    return claim


async def _checked(pool: Pool, config: PasswordsConfig, user_id: str, password: str) -> tuple[Account, str]:
    """The account and the password's hash as it is now."""
    async with pool.acquire() as conn:
        account = await find_account(conn, user_id)
        password_hash = await find_password_hash(conn, account.user_nid) if account is not None else None
    try:
        right = await check_password_async(password, password_hash, config.bcrypt_cost, _pepper(config))
    except TooBusy:
        raise _too_busy() from None
    if account is not None and account.deactivated:
        raise Forbidden("This account has been deactivated", errcode="M_USER_DEACTIVATED")
    if account is None or password_hash is None or not right:
        raise _wrong()
    if needs_rehash(password_hash, config.bcrypt_cost):
        # One that is too long to be hashed today, or comes when very many log in, keeps the hash that it has.
        with suppress(UnusablePassword, TooBusy):
            stronger = await hash_password_async(password, config.bcrypt_cost, _pepper(config))
            async with pool.acquire() as conn:
                if await update_password_hash(conn, account.user_nid, stronger, instead_of=password_hash):
                    password_hash = stronger
    return account, password_hash


async def set_password(
    conn: Connection,
    *,
    user_id: str,
    password_hash: str,
    logout_devices: bool = True,
    except_device_id: str | None = None,
) -> list[str]:
    """Gives an account another password, and ends its sessions (but one), browsers' too, unless told not to.

    Whatever somebody could still make a session of (login tokens, codes, links to recover the account) is void in any
    case: a password is changed because somebody else may have got in.

    :returns: the devices that are gone, with their tokens and what was to be pushed to them
    :raises NotFound: if there is no such account, or it has been deactivated
    """
    async with conn.transaction():
        account = await find_account(conn, user_id)
        if account is None or not await update_password_hash(conn, account.user_nid, password_hash):
            raise NotFound("There is no such account")
        await delete_pending_sign_ins(conn, account.user_nid)
        if not logout_devices:
            return []
        await delete_all_sessions(conn, account.user_nid)
        return await delete_all_devices(conn, account.user_nid, except_device_id=except_device_id)


def _wrong() -> Forbidden:
    return Forbidden("Wrong user name or password")


def _too_busy() -> LimitExceeded:
    return LimitExceeded("Very many log in at this moment; try again", retry_after_ms=_TOO_BUSY_MS)


def _pepper(config: PasswordsConfig) -> str:
    return config.pepper.get_secret_value() if config.pepper is not None else ""
