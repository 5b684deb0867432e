"""What the commands have in common: the configuration, the database, names, passwords, and what is printed where."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import asyncpg

from homeserver.config import Config, load_config
from homeserver.config.load import CONFIG_VARIABLE
from homeserver.protocol.identifiers import domain_of, is_user_id
from homeserver.storage.audit_log import Actor
from homeserver.storage.migrate import migrate
from homeserver.storage.pool import command_connection

Result = TypeVar("Result")

USUAL_FILE = Path("config.yaml")
MakeCommand = Callable[..., argparse.ArgumentParser]
"""Makes a command: (group, name, function, what it does, more about it)."""


class CommandError(Exception):
    """What was asked for can't be done. The text says why and what to do."""


def tell(message: str) -> None:
    """Says something on standard error, beside what was asked for."""
    sys.stderr.write(f"{message}\n")


def print_line(line: str = "") -> None:
    """Prints what was asked for."""
    sys.stdout.write(f"{line}\n")


def config_of(arguments: argparse.Namespace) -> Config:
    """The configuration. Raises ConfigError."""
    return load_config(config_path(arguments), os.environ)


def config_path(arguments: argparse.Namespace) -> Path | None:
    """The file that was named, else by TALKPAI_CONFIG, else ./config.yaml if there is one."""
    if arguments.config is not None:
        return Path(arguments.config)
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    return USUAL_FILE if USUAL_FILE.exists() else None


def actor() -> Actor:
    """Who works at the command line, for the record."""
    try:
        return Actor(f"command line ({getpass.getuser()})")
    except (KeyError, OSError):  # a user without a name
        return Actor("command line")


def user_id_of(name: str, config: Config) -> str:
    """The user that `name` means: a whole user id of this server, or only its first part."""
    user_id = name if name.startswith("@") else f"@{name}:{config.server_name}"
    if not is_user_id(user_id):
        raise CommandError(f"{name!r} is no user name: give a name such as alice, or @alice:{config.server_name}")
    if domain_of(user_id) != config.server_name:
        raise CommandError(f"{user_id} does not live here: this server is {config.server_name}")
    return user_id


def new_password(arguments: argparse.Namespace) -> str:
    """A password from the terminal or from standard input. Raises CommandError."""
    if arguments.password_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise CommandError("There is no terminal to ask for the password: give it with --password-stdin.")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != password:
        raise CommandError("The two passwords are not the same.")
    return password


def in_database(
    config: Config, work: Callable[[asyncpg.Connection], Awaitable[Result]], *, new: bool = False
) -> Result:
    """Does `work` on the database, whether the server runs or not; makes the database only if `new`."""

    async def run() -> Result:
        async with _database(config) as conn:
            return await work(conn)

    if not new and config.database.url is None and not (config.data_dir / "postgres").exists():
        raise CommandError(
            f"There is no database in {config.data_dir} yet. Start the server first, or name its configuration "
            "with --config."
        )
    return asyncio.run(run())


@asynccontextmanager
async def _database(config: Config) -> AsyncIterator[asyncpg.Connection]:
    async with command_connection(config, tell) as conn:
        await migrate(conn)
        yield conn
