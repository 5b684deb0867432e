"""The `talk-pai` command: what it takes, and the commands about the server itself.

Each command is a function (arguments) -> exit status; the parser below says which arguments it takes. What goes wrong
in a way that the operator can mend is one line on standard error, what was asked for goes to standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import asyncpg

from homeserver.appservice_registrations import load_appservices
from homeserver.cli import audit, registration_tokens, users
from homeserver.cli.common import USUAL_FILE, CommandError, config_of, config_path, print_line
from homeserver.config import ConfigError, describe, load_config
from homeserver.logs import setup_logging
from homeserver.protocol.errors import MatrixError
from homeserver.secrets import SecretsError, load_or_create_secrets, load_or_create_signing_key, write_secret
from homeserver.storage.migrate import MigrationError
from homeserver.storage.postgres_programs import EmbeddedError

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


def _start(arguments: argparse.Namespace) -> int:
    from homeserver import main as server  # with everything that a server needs, which the other commands don't

    config = config_of(arguments)
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
    path = Path(arguments.config) if arguments.config is not None else USUAL_FILE
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
    print_line(f"Configuration: {path}")
    print_line(f"Signing key:   {config.signing_key_file} ({key.key_id}{', it was there already' if had_key else ''})")
    print_line(f"Data:          {config.data_dir}")
    if config.server_name == "localhost":
        print_line(
            "\nServer name:   localhost, which other servers can't reach. Choose yours in the configuration before"
        )
        print_line("               you make accounts; it can't be changed afterwards.")
    print_line(f"\nStart it:      talk-pai start{'' if path == USUAL_FILE else f' --config {path}'}")
    return 0


def _config_check(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    load_appservices(config.application_services, config.server_name)
    print_line(f"{config_path(arguments) or 'No configuration file'}: all is well. This is {config.server_name}.")
    return 0


def _routes(arguments: argparse.Namespace) -> int:
    from homeserver import main as server

    routes = server.all_routes()
    if arguments.json:
        print_line(json.dumps([{"method": method, "path": path} for method, path in routes], indent=2))
    else:
        for method, path in routes:
            print_line(f"{method} {path}")
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from homeserver import doctor

    path = config_path(arguments)
    try:
        config = config_of(arguments)
        load_appservices(config.application_services, config.server_name)
    except ConfigError as error:
        return doctor.report([doctor.Finding("fail", "configuration", str(error))], sys.stdout)
    start = doctor.Finding("ok", "configuration", f"{path or 'no file, the defaults'}; this is {config.server_name}")
    return doctor.report([start, *asyncio.run(doctor.examine(config))], sys.stdout)


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
    for name, about, module in (
        ("user", "make and manage accounts", users),
        ("registration-token", "make and revoke tokens that let people register", registration_tokens),
        ("audit", "see what administrators have done", audit),
    ):
        kind = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        module.add_commands(kind.add_subparsers(title="commands", metavar="COMMAND", required=True), command)
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
