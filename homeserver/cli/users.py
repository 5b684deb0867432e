"""Commands about accounts."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import asyncpg

from homeserver.accounts import two_factor
from homeserver.accounts.administrators import set_administrator
from homeserver.accounts.deactivate import deactivate
from homeserver.accounts.end_sessions import announce_later, sign_out_everywhere
from homeserver.accounts.export import write_export
from homeserver.accounts.moderation import Restriction, restrict
from homeserver.accounts.notices import notify_password_changed
from homeserver.accounts.password import hash_new_password, set_password
from homeserver.accounts.register import create_account
from homeserver.cli.common import (
    CommandError,
    MakeCommand,
    actor,
    config_of,
    in_database,
    new_password,
    print_line,
    tell,
    user_id_of,
)
from homeserver.media.store import DiskStore
from homeserver.protocol.identifiers import check_new_localpart, localpart_of
from homeserver.storage import audit_log
from homeserver.storage.accounts import Account, find_account, list_accounts

_MARKS = ("admin", "guest", "deactivated", "erased", "locked", "suspended", "shadow_banned")


def _create(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    localpart = localpart_of(user_id_of(arguments.name, config))
    check_new_localpart(localpart, config.server_name)
    password = new_password(arguments)

    async def work(conn: asyncpg.Connection) -> str:
        hashed = await hash_new_password(password, config.passwords, localpart)
        async with conn.transaction():
            account = await create_account(
                conn,
                server_name=config.server_name,
                localpart=localpart,
                password_hash=hashed,
                admin=arguments.admin,
            )
            await audit_log.append(conn, actor(), "user.create", account.user_id, {"admin": arguments.admin})
        return account.user_id

    user_id = in_database(config, work, new=True)
    print_line(f"{user_id} has an account{' and is an administrator' if arguments.admin else ''}.")
    return 0


def _set_password(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    user_id = user_id_of(arguments.name, config)
    password = new_password(arguments)

    async def work(conn: asyncpg.Connection) -> int:
        hashed = await hash_new_password(password, config.passwords, localpart_of(user_id))
        async with conn.transaction():
            gone = await set_password(
                conn, user_id=user_id, password_hash=hashed, logout_devices=not arguments.keep_sessions
            )
            await announce_later(conn, user_id, gone)
            account = await find_account(conn, user_id)
            assert account is not None, "its password was just set"
            await notify_password_changed(conn, config, account.user_nid)
            details = {"logout_devices": not arguments.keep_sessions}
            await audit_log.append(conn, actor(), "user.set_password", user_id, details)
        return len(gone)

    gone = in_database(config, work)
    sessions = "" if not gone else f" {gone} session{'s were' if gone > 1 else ' was'} signed out."
    print_line(f"{user_id} has a new password.{sessions}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    accounts = in_database(config_of(arguments), list_accounts)
    if arguments.json:
        print_line(json.dumps([_json(account) for account in accounts], indent=2))
        return 0
    for account in accounts:
        marks = [kind.replace("_", "-") for kind in _MARKS if getattr(account, kind)]
        if account.appservice_id is not None:
            marks.append(f"of {account.appservice_id}")
        print_line(f"{account.user_id}  {', '.join(marks)}".rstrip())
    return 0


def _json(account: Account) -> dict[str, object]:
    return {
        "user_id": account.user_id,
        "displayname": account.displayname,
        **{mark: getattr(account, mark) for mark in _MARKS},
        "appservice_id": account.appservice_id,
        "created_ts": account.created_ts,
    }


def _deactivate(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    user_id = user_id_of(arguments.name, config)
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise CommandError("Deactivating can't be undone: say --yes to do it without being asked.")
        if input(f"{user_id} will be gone for good, and the name stays taken. Deactivate? [y/N] ").lower() != "y":
            raise CommandError("Nothing was changed.")
    in_database(config, lambda conn: deactivate(conn, actor(), user_id, erase=arguments.erase))
    print_line(f"{user_id} is deactivated.")
    tell("Its rooms are left while the server runs, or as soon as it does.")
    return 0


def _restrict(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    user_id = user_id_of(arguments.name, config)
    restriction: Restriction = arguments.restriction
    in_database(config, lambda conn: restrict(conn, actor(), user_id, restriction, arguments.on))
    print_line(f"{user_id} is {'' if arguments.on else 'no longer '}{restriction.replace('_', '-')}.")
    return 0


def _set_admin(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    user_id = user_id_of(arguments.name, config)
    admin = not arguments.no
    in_database(config, lambda conn: set_administrator(conn, actor(), user_id, admin, keep_one=False))
    print_line(f"{user_id} is {'' if admin else 'no longer '}an administrator.")
    return 0


def _logout(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    user_id = user_id_of(arguments.name, config)
    gone = in_database(config, lambda conn: sign_out_everywhere(conn, actor(), user_id))
    print_line(f"{user_id} is signed out everywhere ({gone} session{'' if gone == 1 else 's'}).")
    return 0


def _reset_second_factor(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    user_id = user_id_of(arguments.name, config)

    async def work(conn: asyncpg.Connection) -> bool:
        account = await find_account(conn, user_id)
        if account is None:
            raise CommandError("There is no such account")
        async with conn.transaction():
            await audit_log.append(conn, actor(), "user.reset_second_factor", user_id, {})
            return await two_factor.disable(conn, config, account.user_nid)

    had_one = in_database(config, work)
    print_line(f"{user_id} {'has no second factor any more' if had_one else 'had no second factor'}.")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    user_id = user_id_of(arguments.name, config)
    path = Path(arguments.file)
    if path.exists():
        raise CommandError(f"{path} exists already and is left as it is.")

    async def work(conn: asyncpg.Connection) -> None:
        account = await find_account(conn, user_id)
        if account is None:
            raise CommandError("There is no such account")
        await audit_log.append(conn, actor(), "user.export", user_id, {})
        await write_export(conn, DiskStore(config.media_dir), account, file, tell)

    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        unfinished = Path(file.name)  # readable by nobody else
        try:
            in_database(config, work)
            unfinished.rename(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    print_line(f"{path}: everything that is kept about {user_id}, {path.stat().st_size} bytes.")
    return 0


def add_commands(users: argparse._SubParsersAction[argparse.ArgumentParser], command: MakeCommand) -> None:
    """Adds the commands to the parser."""
    works = "It works while the server runs and while it does not."
    create = command(users, "create", _create, "make an account", works)
    password = command(users, "set-password", _set_password, "give an account another password", works)
    for one in (create, password):
        one.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    create.add_argument("--admin", action="store_true", help="make it an administrator")
    password.add_argument("--keep-sessions", action="store_true", help="do not sign its sessions out")
    listing = command(users, "list", _list, "list all accounts", works)
    listing.add_argument("--json", action="store_true", help="as a JSON array")
    named = [create, password, *_add_restrictions(users, command, works)]
    admin = command(users, "set-admin", _set_admin, "make an account an administrator, or make it none", works)
    admin.add_argument("--no", action="store_true", help="take the right away, even from the last one")
    named.append(admin)
    named.append(command(users, "logout", _logout, "end all sessions of an account", works))
    reset = "take an account's second factor away, for who has lost it and the backup codes"
    named.append(command(users, "reset-second-factor", _reset_second_factor, reset, works))
    export = command(users, "export", _export, "write everything that is kept about a user into a ZIP file", works)
    deactivation = command(
        users,
        "deactivate",
        _deactivate,
        "end an account for good",
        f"Its sessions end, nobody can have its name again, and it can't be undone. {works}",
    )
    deactivation.add_argument("--erase", action="store_true", help="also delete what its clients keep on the server")
    deactivation.add_argument("--yes", action="store_true", help="do not ask")
    for one in (*named, export, deactivation):
        one.add_argument("name", metavar="NAME", help="alice, or @alice:example.org")
    export.add_argument("file", metavar="FILE", help="the file to be made, such as alice.zip")


def _add_restrictions(
    users: argparse._SubParsersAction[argparse.ArgumentParser], command: MakeCommand, works: str
) -> list[argparse.ArgumentParser]:
    made = []
    for name, restriction, on, text in (
        ("lock", "locked", True, "let an account do nothing but log out"),
        ("unlock", "locked", False, "lift a lock"),
        ("suspend", "suspended", True, "let an account read and leave, and say nothing"),
        ("unsuspend", "suspended", False, "lift a suspension"),
        ("shadow-ban", "shadow_banned", True, "let nothing that an account says reach anyone, unnoticed"),
        ("shadow-unban", "shadow_banned", False, "lift a shadow-ban"),
    ):
        one = command(users, name, _restrict, text, f"A running server heeds it within seconds. {works}")
        one.set_defaults(restriction=restriction, on=on)
        made.append(one)
    return made
