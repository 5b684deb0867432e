"""Passwords of accounts: what may be one, who has an account is not told by the work, old hashes are taken over."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from homeserver import passwords
from homeserver.accounts.password import check_credentials
from homeserver.accounts.password_policy import check_new_password
from homeserver.config import PasswordsConfig
from homeserver.main import Server, running_server
from homeserver.protocol.errors import BadRequest, Forbidden, InvalidParam, LimitExceeded
from tests.support.api import PASSWORD, Api, open_api
from tests.support.servers import server_config


@pytest.fixture
async def costly(database: str, tmp_path: Path) -> AsyncIterator[tuple[Server, Api]]:
    """A server that hashes at cost 6, and has accounts of every kind."""
    config = server_config(database, tmp_path, passwords={"bcrypt_cost": 6, "pepper": "a pepper"})
    async with running_server(config) as server, open_api(server.url) as api:
        for name in ("usual", "cheap", "none", "gone"):
            await api.register(name)
        cheap = bcrypt.hashpw(f"{PASSWORD}a pepper".encode(), bcrypt.gensalt(4)).decode()
        await _set_hash(server, "cheap", cheap)
        await _set_hash(server, "none", None)
        await server.services.pool.execute(
            "UPDATE accounts SET deactivated = true, password_hash = NULL WHERE user_nid = "
            "(SELECT user_nid FROM users WHERE user_id = '@gone:test.example')"
        )
        yield server, api


async def _set_hash(server: Server, name: str, password_hash: str | None) -> None:
    await server.services.pool.execute(
        "UPDATE accounts SET password_hash = $2 WHERE user_nid = (SELECT user_nid FROM users WHERE user_id = $1)",
        f"@{name}:test.example",
        password_hash,
    )


async def _hash_of(server: Server, name: str) -> str:
    found: str = await server.services.pool.fetchval(
        "SELECT password_hash FROM accounts JOIN users USING (user_nid) WHERE user_id = $1", f"@{name}:test.example"
    )
    return found


async def _log_in(api: Api, name: str, password: str) -> tuple[int, str | None]:
    answer = await api.post("/login", {"type": "m.login.password", "user": name, "password": password})
    return answer.status, answer.errcode


async def test_the_work_does_not_tell_who_has_an_account(
    costly: tuple[Server, Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong password costs the same rounds of bcrypt for every account, however it was hashed, and for none."""
    _, api = costly
    rounds: list[int] = []
    real = bcrypt.checkpw

    def counted(password: bytes, hashed: bytes) -> bool:
        rounds.append(2 ** int(hashed.split(b"$")[2]))
        return real(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    work = {}
    for name in ("usual", "cheap", "none", "gone", "nobody"):
        rounds.clear()
        status, errcode = await _log_in(api, name, "wrong")
        assert (status, errcode) == (403, "M_USER_DEACTIVATED" if name == "gone" else "M_FORBIDDEN")
        work[name] = sum(rounds)
    assert work == dict.fromkeys(work, 2**6)


async def test_a_cheap_hash_is_renewed_at_login(costly: tuple[Server, Api]) -> None:
    """The first good login of an account that came with a cheaper hash gives it one of today's cost."""
    server, api = costly
    assert (await _log_in(api, "cheap", "wrong"))[0] == 403
    assert (await _hash_of(server, "cheap")).startswith("$2b$04$")
    assert (await _log_in(api, "cheap", PASSWORD))[0] == 200
    assert (await _hash_of(server, "cheap")).startswith("$2b$06$")
    assert (await _log_in(api, "cheap", PASSWORD))[0] == 200


@pytest.mark.parametrize("prefix", ["$2a$", "$2b$", "$2y$"])
async def test_hashes_from_elsewhere_are_accepted(costly: tuple[Server, Api], prefix: str) -> None:
    """All spellings of a bcrypt hash let log in, with the pepper that they were made with."""
    server, api = costly
    made = bcrypt.hashpw("grüß 1a pepper".encode(), bcrypt.gensalt(4)).decode()
    await _set_hash(server, "usual", prefix + made.removeprefix("$2b$"))
    assert (await _log_in(api, "usual", "grüß 2"))[0] == 403
    assert (await _log_in(api, "usual", "gru\u0308ß １"))[0] == 200


async def test_a_password_longer_than_bcrypt_looks_goes_on_working(costly: tuple[Server, Api]) -> None:
    """An account that came with a password of over 72 bytes logs in with it, though nobody could choose it here."""
    server, api = costly
    await _set_hash(server, "usual", bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode())
    assert (await _log_in(api, "usual", "x" * 100))[0] == 200
    assert (await _hash_of(server, "usual")).startswith("$2b$04$")
    assert (await _log_in(api, "usual", "y" + "x" * 99))[0] == 403


async def test_a_flood_of_logins_is_turned_away(costly: tuple[Server, Api], monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many that wait, logins are told to come again instead of waiting for minutes; those in line get in."""
    server, _ = costly
    monkeypatch.setattr(passwords, "MOST_WAITING", 3)
    services = server.services

    async def attempt() -> object:
        return await check_credentials(services.pool, services.config.passwords, "@usual:test.example", PASSWORD)

    results = await asyncio.gather(*(attempt() for _ in range(8)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, LimitExceeded)]
    assert len(refused) == 5
    assert all(one.retry_after_ms > 0 for one in refused)
    await attempt()


async def test_passwords_are_not_checked_on_the_event_loop(
    costly: tuple[Server, Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    """bcrypt runs in threads of its own, of which there are fewer than cores, so that others are answered meanwhile."""
    _, api = costly
    threads: set[str] = set()
    real = bcrypt.checkpw

    def noted(password: bytes, hashed: bytes) -> bool:
        threads.add(threading.current_thread().name)
        return real(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", noted)
    await asyncio.gather(*(_log_in(api, "usual", "wrong") for _ in range(20)))
    assert threads
    assert all(name.startswith("bcrypt") for name in threads)


@pytest.mark.parametrize(
    ("settings", "password", "told"),
    [
        ({}, "short", "8 characters"),
        ({}, "", "8 characters"),
        ({"require_digit": True}, "Good-words", "a digit"),
        ({"require_lowercase": True}, "GOOD-WORDS-1", "a small letter"),
        ({"require_uppercase": True}, "good-words-1", "a capital letter"),
        ({"require_symbol": True}, "GoodWords1", "neither letter nor digit"),
        ({}, "Password1", "guessed first"),
        ({}, "ＱＷＥＲＴＹ１２３", "guessed first"),
        ({}, "alexandra.k", "user name"),
        ({}, "@Alexandra.K", "user name"),
    ],
)
def test_a_weak_password_is_refused(settings: dict[str, Any], password: str, told: str) -> None:
    """What the rules ask for must be there, and what attackers try first must not be it."""
    with pytest.raises(BadRequest, match=told) as caught:
        check_new_password(password, PasswordsConfig(**settings), "alexandra.k")
    assert caught.value.errcode == "M_WEAK_PASSWORD"


@pytest.mark.parametrize(
    "password", ["correct horse battery staple", "Ünïcödé-wörds-1", "密码密码密码密码", "Aa1!Aa1!"]
)
def test_a_good_password_is_taken(password: str) -> None:
    """Any text that is long enough and not a common one will do, in any script."""
    check_new_password(password, PasswordsConfig(), "alice")


def test_every_rule_can_be_kept_at_once() -> None:
    """A password with something of everything passes the strictest rules."""
    strict = PasswordsConfig(
        require_digit=True, require_lowercase=True, require_uppercase=True, require_symbol=True, minimum_length=12
    )
    check_new_password("Good-Words-11", strict, "alice")
    with pytest.raises(BadRequest):
        check_new_password("Good-Word-1", strict, "alice")


def test_common_passwords_can_be_allowed() -> None:
    """The operator may switch the list off."""
    check_new_password("password1", PasswordsConfig(refuse_common=False), "alice")


def test_nul_is_refused_before_anything_else() -> None:
    """A character that bcrypt can't take is named as what is wrong."""
    with pytest.raises(InvalidParam, match="NUL"):
        check_new_password("a\0", PasswordsConfig(), "alice")


async def test_an_account_without_password_is_entered_by_none(costly: tuple[Server, Api]) -> None:
    """No password, not even an empty one, lets anybody into an account that has none."""
    server, api = costly
    for password in ("", PASSWORD, "a pepper", "None"):
        assert (await _log_in(api, "none", password))[0] == 403
    config = server.services.config.passwords
    with pytest.raises(Forbidden):
        await check_credentials(server.services.pool, config, "@none:test.example", "")
