"""Commands about the audit log: there is only one way to use it, reading."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from datetime import UTC, datetime

import asyncpg

from homeserver.cli.common import CommandError, MakeCommand, config_of, in_database, print_line
from homeserver.storage.audit_log import AuditEntry, list_entries

_MOST = 100_000


def _list(arguments: argparse.Namespace) -> int:
    if not 1 <= arguments.limit <= _MOST:
        raise CommandError(f"--limit must be from 1 to {_MOST}.")

    async def work(conn: asyncpg.Connection) -> list[AuditEntry]:
        return await list_entries(conn, target=arguments.target, before=arguments.before, limit=arguments.limit)

    entries = in_database(config_of(arguments), work)
    if arguments.json:
        print_line(json.dumps([asdict(entry) for entry in entries], indent=2))
        return 0
    for entry in entries:
        when = datetime.fromtimestamp(entry.created_ts / 1000, UTC)
        place = f" from {entry.address}" if entry.address else ""
        details = f"  {json.dumps(entry.details, ensure_ascii=False)}" if entry.details else ""
        print_line(
            f"{entry.audit_id}  {when:%Y-%m-%d %H:%M:%S}  {entry.actor}{place}  {entry.action}  {entry.target}{details}"
        )
    return 0


def add_commands(group: argparse._SubParsersAction[argparse.ArgumentParser], command: MakeCommand) -> None:
    """Adds the commands to the parser."""
    listing = command(group, "list", _list, "list what administrators have done, the newest first")
    listing.add_argument("--target", metavar="ID", help="only what was done to this user, room or server")
    listing.add_argument("--before", metavar="N", type=int, help="only what has a smaller number")
    listing.add_argument("--limit", metavar="N", type=int, default=100, help="at most so many (100)")
    listing.add_argument("--json", action="store_true", help="as a JSON array")
