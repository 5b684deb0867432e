"""Which passwords somebody may have.

# spec: client-server-api/#password-management
"""

from __future__ import annotations

import unicodedata
from functools import cache
from importlib.resources import files

from homeserver.config import PasswordsConfig
from homeserver.protocol.errors import BadRequest, InvalidParam


def check_new_password(password: str, config: PasswordsConfig, localpart: str = "") -> None:
    """Checks that the user `localpart` may have that password from now on.

    :raises BadRequest: M_WEAK_PASSWORD, with what it lacks
    :raises InvalidParam: for one that can't be a password at all
    """
    if "\0" in password:
        raise InvalidParam("The password has a character in it that can't be used (NUL)")
    lacks = _lacks(password, config)
    if lacks is not None:
        raise BadRequest(f"The password must have {lacks}", errcode="M_WEAK_PASSWORD")
    if config.refuse_common:
        folded = _folded(password)
        if localpart and folded in (localpart, f"@{localpart}"):
            raise BadRequest("The password must be another than the user name", errcode="M_WEAK_PASSWORD")
        if folded in _common_passwords():
            raise BadRequest("This is one of the passwords that are guessed first", errcode="M_WEAK_PASSWORD")


def _lacks(password: str, config: PasswordsConfig) -> str | None:
    if len(password) < config.minimum_length:
        return f"at least {config.minimum_length} characters"
    if config.require_digit and not any(c.isdigit() for c in password):
        return "a digit"
    if config.require_lowercase and not any(c.islower() for c in password):
        return "a small letter"
    if config.require_uppercase and not any(c.isupper() for c in password):
        return "a capital letter"
    if config.require_symbol and all(c.isalnum() for c in password):
        return "a character that is neither letter nor digit"
    return None


def _folded(password: str) -> str:
    # As passwords are hashed, and without capitals.
    return unicodedata.normalize("NFKC", password).casefold()


@cache
def _common_passwords() -> frozenset[str]:
    text = files("homeserver.accounts").joinpath("common_passwords.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))
