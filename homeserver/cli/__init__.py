"""The `talk-pai` command, a file for each group of commands.

    program.py              the arguments; init, start, config, routes, doctor
    users.py                accounts
    registration_tokens.py  tokens that let people register
    audit.py                what administrators have done
    common.py               configuration, database, names, passwords

Commands about accounts work on the database whether the server runs or not. What they do is recorded in the audit log
like what administrators do over the API; what has to follow while the server runs is a job that it picks up.
"""

from homeserver.cli.program import main

__all__ = ["main"]
