"""The `talk-pai` command.

Each command is a function (arguments) -> exit status; the parser below says which arguments it takes. What goes wrong
in a way that the operator can mend is one line on standard error, what was asked for goes to standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import os
import shlex
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import asyncpg

from homeserver.accounts.deactivate import deactivate
from homeserver.accounts.password import hash_new_password, set_password
from homeserver.accounts.register import create_account
from homeserver.appservice_registrations import load_appservices
from homeserver.config import Config, ConfigError, describe, load_config
from homeserver.config.load import CONFIG_VARIABLE
from homeserver.logs import setup_logging
from homeserver.protocol.errors import MatrixError
from homeserver.protocol.identifiers import check_new_localpart, domain_of, is_user_id, localpart_of
from homeserver.secrets import SecretsError, load_or_create_secrets, load_or_create_signing_key, write_secret
from homeserver.storage.accounts import Account, list_accounts
from homeserver.storage.audit_log import Actor
from homeserver.storage.migrate import MigrationError, migrate
from homeserver.storage.pool import command_connection
from homeserver.storage.postgres_programs import EmbeddedError

Result = TypeVar("Result")

_USUAL_FILE = Path("config.yaml")


class CommandError(Exception):
    """What was asked for can't be done. The text says why and what to do."""


_EXPECTED = (CommandError, ConfigError, EmbeddedError, MigrationError, SecretsError, asyncpg.PostgresError, OSError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that `arguments` (those of the process) name. Returns the exit status: 0, 1, 2 or 130."""
    parsed = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = parsed.command
    try:
        return command(parsed)
    except MatrixError as error:
        return _complain(error.message)
    except BrokenPipeError:
        return 1
    except _EXPECTED as error:
        return _complain(str(error) or type(error).__name__)
    except KeyboardInterrupt:
        return 130
    finally:
        _close_output()


def _close_output() -> None:
    """Writes out what is left, of which a reader such as `head` may want no more."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str) -> int:
    sys.stderr.write(f"talk-pai: {message}\n")
    return 1


def _tell(message: str) -> None:
    sys.stderr.write(f"{message}\n")


def _print(line: str = "") -> None:
    sys.stdout.write(f"{line}\n")


def _config(arguments: argparse.Namespace) -> Config:
    return load_config(_config_path(arguments), os.environ)


def _config_path(arguments: argparse.Namespace) -> Path | None:
    """The file that was named, else by TALKPAI_CONFIG, else ./config.yaml if there is one."""
    if arguments.config is not None:
        return Path(arguments.config)
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    return _USUAL_FILE if _USUAL_FILE.exists() else None


def _start(arguments: argparse.Namespace) -> int:
    from homeserver import main as server  # with everything that a server needs, which the other commands don't

    config = _config(arguments)
    setup_logging(config.logging)
    return server.run(config, first_account=_make_first_account(arguments))


def _make_first_account(arguments: argparse.Namespace) -> str:
    """The command that makes an administrator, as it can be typed where this one was, with the same configuration."""
    program = "talk-pai"
    if shutil.which(program) is None and Path(sys.argv[0]).name == program:
        program = os.path.relpath(sys.argv[0])
    config = "" if arguments.config is None else f" --config {shlex.quote(str(arguments.config))}"
    return f"{program} user create{config} --admin NAME"


def _init(arguments: argparse.Namespace) -> int:
    path = Path(arguments.config) if arguments.config is not None else _USUAL_FILE
    given = {"server_name": arguments.server_name, "public_baseurl": arguments.public_baseurl}
    text = describe({name: value for name, value in given.items() if value is not None})
    if path.exists():
        raise CommandError(
            f"{path} exists already and is left as it is. Delete it first, or name another with --config."
        )
    write_secret(path, text)  # it may come to hold secrets
    try:
        config = load_config(path, os.environ)
    except ConfigError:
        path.unlink()
        raise
    had_key = config.signing_key_file.exists()
    key = load_or_create_signing_key(config.signing_key_file)
    load_or_create_secrets(config.data_dir)
    _print(f"Configuration: {path}")
    _print(f"Signing key:   {config.signing_key_file} ({key.key_id}{', it was there already' if had_key else ''})")
    _print(f"Data:          {config.data_dir}")
    if config.server_name == "localhost":
        _print("\nServer name:   localhost, which other servers can't reach. Choose yours in the configuration before")
        _print("               you make accounts; it can't be changed afterwards.")
    _print(f"\nStart it:      talk-pai start{'' if path == _USUAL_FILE else f' --config {path}'}")
    return 0


def _config_check(arguments: argparse.Namespace) -> int:
    config = _config(arguments)
    load_appservices(config.application_services, config.server_name)
    _print(f"{_config_path(arguments) or 'No configuration file'}: all is well. This is {config.server_name}.")
    return 0


def _routes(arguments: argparse.Namespace) -> int:
    from homeserver import main as server

    routes = server.all_routes()
    if arguments.json:
        _print(json.dumps([{"method": method, "path": path} for method, path in routes], indent=2))
    else:
        for method, path in routes:
            _print(f"{method} {path}")
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from homeserver import doctor

    path = _config_path(arguments)
    try:
        config = _config(arguments)
        load_appservices(config.application_services, config.server_name)
    except ConfigError as error:
        return doctor.report([doctor.Finding("fail", "configuration", str(error))], sys.stdout)
    start = doctor.Finding("ok", "configuration", f"{path or 'no file, the defaults'}; this is {config.server_name}")
    return doctor.report([start, *asyncio.run(doctor.examine(config))], sys.stdout)


def _user_create(arguments: argparse.Namespace) -> int:
    config = _config(arguments)
    localpart = _localpart(arguments.name, config)
    check_new_localpart(localpart, config.server_name)
    password = _new_password(arguments)

    async def work(conn: asyncpg.Connection) -> str:
        account = await create_account(
            conn,
            server_name=config.server_name,
            localpart=localpart,
            password_hash=await hash_new_password(password, config.passwords),
            admin=arguments.admin,
        )
        return account.user_id

    user_id = _in_database(config, work, new=True)
    _print(f"{user_id} has an account{' and is an administrator' if arguments.admin else ''}.")
    return 0


def _user_set_password(arguments: argparse.Namespace) -> int:
    config = _config(arguments)
    user_id = _user_id(arguments.name, config)
    password = _new_password(arguments)

    async def work(conn: asyncpg.Connection) -> int:
        hashed = await hash_new_password(password, config.passwords)
        gone = await set_password(
            conn, user_id=user_id, password_hash=hashed, logout_devices=not arguments.keep_sessions
        )
        return len(gone)

    gone = _in_database(config, work)
    sessions = "" if not gone else f" {gone} session{'s were' if gone > 1 else ' was'} signed out."
    _print(f"{user_id} has a new password.{sessions}")
    return 0


def _user_list(arguments: argparse.Namespace) -> int:
    accounts = _in_database(_config(arguments), list_accounts)
    if arguments.json:
        _print(json.dumps([_account_json(account) for account in accounts], indent=2))
        return 0
    for account in accounts:
        kinds = ("admin", "guest", "deactivated")
        marks = [kind for kind in kinds if getattr(account, kind)]
        if account.appservice_id is not None:
            marks.append(f"of {account.appservice_id}")
        _print(f"{account.user_id}  {', '.join(marks)}".rstrip())
    return 0


def _account_json(account: Account) -> dict[str, object]:
    return {
        "user_id": account.user_id,
        "displayname": account.displayname,
        "admin": account.admin,
        "guest": account.guest,
        "deactivated": account.deactivated,
        "appservice_id": account.appservice_id,
        "created_ts": account.created_ts,
    }


def _user_deactivate(arguments: argparse.Namespace) -> int:
    config = _config(arguments)
    user_id = _user_id(arguments.name, config)
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise CommandError("Deactivating can't be undone: say --yes to do it without being asked.")
        if input(f"{user_id} will be gone for good, and the name stays taken. Deactivate? [y/N] ").lower() != "y":
            raise CommandError("Nothing was changed.")
    _in_database(config, lambda conn: deactivate(conn, _actor(), user_id, erase=arguments.erase))
    _print(f"{user_id} is deactivated.")
    return 0


def _actor() -> Actor:
    """Who works at the command line, for the record."""
    try:
        return Actor(f"command line ({getpass.getuser()})")
    except (KeyError, OSError):  # a user without a name
        return Actor("command line")


def _localpart(name: str, config: Config) -> str:
    return localpart_of(_user_id(name, config))


def _user_id(name: str, config: Config) -> str:
    """The user that `name` means: a whole user id of this server, or only its first part."""
    user_id = name if name.startswith("@") else f"@{name}:{config.server_name}"
    if not is_user_id(user_id):
        raise CommandError(f"{name!r} is no user name: give a name such as alice, or @alice:{config.server_name}")
    if domain_of(user_id) != config.server_name:
        raise CommandError(f"{user_id} does not live here: this server is {config.server_name}")
    return user_id


def _new_password(arguments: argparse.Namespace) -> str:
    if arguments.password_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise CommandError("There is no terminal to ask for the password: give it with --password-stdin.")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != password:
        raise CommandError("The two passwords are not the same.")
    return password


def _in_database(
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
    async with command_connection(config, _tell) as conn:
        await migrate(conn)
        yield conn


def _parser() -> argparse.ArgumentParser:
    config = argparse.ArgumentParser(add_help=False)
    config.add_argument(
        "--config",
        metavar="PATH",
        help="the configuration file; without it the one that TALKPAI_CONFIG names, or ./config.yaml, or the defaults",
    )
    parser = argparse.ArgumentParser(
        prog="talk-pai",
        description="Talk pAI, a Matrix homeserver.",
        epilog="`talk-pai COMMAND --help` says more about each.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        group: argparse._SubParsersAction[argparse.ArgumentParser],
        name: str,
        does: Callable[[argparse.Namespace], int],
        text: str,
        more: str = "",
    ) -> argparse.ArgumentParser:
        made = group.add_parser(name, parents=[config], help=text, description=f"{text[0].upper()}{text[1:]}. {more}")
        made.set_defaults(command=does)
        return made

    command(commands, "start", _start, "run the server", "It runs until Ctrl-C or SIGTERM.")
    init = command(
        commands,
        "init",
        _init,
        "write a commented configuration and make the keys",
        "Nothing that exists is overwritten. Not needed to try the server: without a configuration it has defaults.",
    )
    init.add_argument("--server-name", metavar="NAME", help="the name of the server, such as example.org")
    init.add_argument(
        "--public-baseurl", metavar="URL", help="where clients reach it, such as https://matrix.example.org"
    )
    user = commands.add_parser("user", help="make and manage accounts", description="Make and manage accounts.")
    users = user.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_user_commands(users, command)
    config_commands = commands.add_parser("config", help="check the configuration", description="The configuration.")
    group = config_commands.add_subparsers(title="commands", metavar="COMMAND", required=True)
    command(group, "check", _config_check, "say in one line what is wrong with the configuration, or that all is well")
    routes = command(commands, "routes", _routes, "list every route that the server answers, METHOD /path a line")
    routes.add_argument("--json", action="store_true", help="as a JSON array")
    command(
        commands,
        "doctor",
        _doctor,
        "check database, keys, ports, delegation and certificates, and say what to do",
        "The exit status is 1 if something is broken.",
    )
    return parser


def _add_user_commands(
    users: argparse._SubParsersAction[argparse.ArgumentParser], command: Callable[..., argparse.ArgumentParser]
) -> None:
    works = "It works while the server runs and while it does not."
    create = command(users, "create", _user_create, "make an account", works)
    password = command(users, "set-password", _user_set_password, "give an account another password", works)
    for one in (create, password):
        one.add_argument("name", metavar="NAME", help="alice, or @alice:example.org")
        one.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    create.add_argument("--admin", action="store_true", help="make it an administrator")
    password.add_argument("--keep-sessions", action="store_true", help="do not sign its sessions out")
    listing = command(users, "list", _user_list, "list all accounts", works)
    listing.add_argument("--json", action="store_true", help="as a JSON array")
    deactivation = command(
        users,
        "deactivate",
        _user_deactivate,
        "end an account for good",
        f"Its sessions end, nobody can have its name again, and it can't be undone. {works}",
    )
    deactivation.add_argument("name", metavar="NAME", help="alice, or @alice:example.org")
    deactivation.add_argument("--erase", action="store_true", help="also delete what its clients keep on the server")
    deactivation.add_argument("--yes", action="store_true", help="do not ask")


if __name__ == "__main__":
    sys.exit(main())
