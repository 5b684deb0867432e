"""Commands about tokens that let people register."""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime

import asyncpg

from homeserver.accounts.registration_token_admin import make_token, revoke_token
from homeserver.cli.common import CommandError, MakeCommand, actor, config_of, in_database, print_line, tell
from homeserver.storage.registration_token_lists import RegistrationToken, list_tokens

_MOST = 100_000
_DAY_MS = 24 * 3600_000


def _make(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    if arguments.uses is not None and arguments.uses < 1:
        raise CommandError("--uses must be at least 1.")
    if arguments.days is not None and arguments.days <= 0:
        raise CommandError("--days must be more than 0.")
    expires_ts = None if arguments.days is None else int(time.time() * 1000 + arguments.days * _DAY_MS)

    async def work(conn: asyncpg.Connection) -> RegistrationToken:
        return await make_token(
            conn, actor(), token=arguments.token, uses_allowed=arguments.uses, expires_ts=expires_ts
        )

    print_line(in_database(config, work).token)
    if config.registration.mode != "token":
        tell('It is of use once `registration.mode` is "token".')
    return 0


def _list(arguments: argparse.Namespace) -> int:
    async def work(conn: asyncpg.Connection) -> list[RegistrationToken]:
        return await list_tokens(conn, valid=None, now_ms=int(time.time() * 1000), limit=_MOST)

    tokens = in_database(config_of(arguments), work)
    if arguments.json:
        shown = [{name: getattr(token, name) for name in RegistrationToken.__slots__} for token in tokens]
        print_line(json.dumps(shown, indent=2))
        return 0
    for token in tokens:
        uses = f"{token.completed} of {'any number' if token.uses_allowed is None else token.uses_allowed} uses"
        print_line(f"{token.token}  {uses}, {_until(token.expires_ts)}")
    return 0


def _until(expires_ts: int | None) -> str:
    if expires_ts is None:
        return "for ever"
    return f"until {datetime.fromtimestamp(expires_ts / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _revoke(arguments: argparse.Namespace) -> int:
    in_database(config_of(arguments), lambda conn: revoke_token(conn, actor(), arguments.token))
    print_line("Nobody registers with that token any more.")
    return 0


def add_commands(group: argparse._SubParsersAction[argparse.ArgumentParser], command: MakeCommand) -> None:
    """Adds the commands to the parser."""
    make = command(group, "make", _make, "make a token and print it")
    make.add_argument("--token", metavar="TEXT", help="its text; without it one is made up")
    make.add_argument("--uses", metavar="N", type=int, help="how many accounts it may make; without it any number")
    make.add_argument("--days", metavar="N", type=float, help="how long it is good for; without it for ever")
    listing = command(group, "list", _list, "list all tokens")
    listing.add_argument("--json", action="store_true", help="as a JSON array")
    revoke = command(group, "revoke", _revoke, "have nobody register with a token any more")
    revoke.add_argument("token", metavar="TOKEN", help="the whole token")
