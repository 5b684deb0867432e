"""Mails that tell the owner of an account what has happened to it, in the transaction in which it happens.

They go to every confirmed address of the account, and nowhere where the server sends no mail. They are how somebody
learns that it was not they who did it, so nobody can switch them off, and an address that is taken from the account is
still told of that.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from homeserver.accounts.threepids import emails_of
from homeserver.config import Config
from homeserver.mail import Mail, queue_mail
from homeserver.storage.stream import Connection
from homeserver.storage.users import find_user_id

_SESSIONS_PATH = "/account/sessions"
_ACCOUNT_PATH = "/account"
_MAX_NAME = 100


async def notify_new_device(
    conn: Connection,
    config: Config,
    user_nid: int,
    *,
    device: str,
    address: str,
    language: str = "en",
) -> None:
    """A device has signed in. In the transaction of the login, for a device that is new.

    :param device: its display name, or its id where it has none
    :param address: where the login came from; "" if that is unknown
    """
    values = {"device": _one_line(device) or "?", "address": address or "?", "path": _SESSIONS_PATH}
    await _notify(conn, config, user_nid, "new_device", values, language)


async def notify_password_changed(conn: Connection, config: Config, user_nid: int, *, language: str = "en") -> None:
    """The account has another password."""
    await _notify(conn, config, user_nid, "password_changed", {}, language)


async def notify_address_added(
    conn: Connection, config: Config, user_nid: int, address: str, *, language: str = "en"
) -> None:
    """The account has one more address, in this transaction. The others are told."""
    others = [one for one in await emails_of(conn, user_nid) if one != address]
    await _notify(conn, config, user_nid, "address_added", {"contact": address}, language, others)


async def notify_address_removed(
    conn: Connection, config: Config, user_nid: int, address: str, *, language: str = "en"
) -> None:
    """The account has lost an address, in this transaction. That one is told too."""
    everyone = dict.fromkeys([*(await emails_of(conn, user_nid)), *([address] if "@" in address else [])])
    await _notify(conn, config, user_nid, "address_removed", {"contact": address}, language, everyone)


async def notify_second_factor(
    conn: Connection, config: Config, user_nid: int, *, on: bool, language: str = "en"
) -> None:
    """The second factor was switched on or off."""
    await _notify(conn, config, user_nid, "second_factor_on" if on else "second_factor_off", {}, language)


async def notify_backup_code_used(
    conn: Connection, config: Config, user_nid: int, left: int, *, language: str = "en"
) -> None:
    """A backup code stood in for the authenticator app; `left` are left."""
    await _notify(conn, config, user_nid, "backup_code_used", {"left": str(left)}, language)


async def _notify(
    conn: Connection,
    config: Config,
    user_nid: int,
    template: str,
    values: Mapping[str, str],
    language: str,
    to: Iterable[str] | None = None,
) -> None:
    if config.email.host is None:
        return
    user_id = await find_user_id(conn, user_nid)
    filled = {
        "path": _ACCOUNT_PATH,
        **values,
        "user_id": user_id or "",
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
    for address in await emails_of(conn, user_nid) if to is None else to:
        await queue_mail(conn, Mail(address, template, language, filled))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_MAX_NAME]
