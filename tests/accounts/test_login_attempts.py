"""Limits of how often secrets may be tried: by account and address, across restarts and processes; owners get in."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from homeserver.accounts.login_attempts import LoginAttempts
from homeserver.config import RateLimit, RateLimitsConfig
from homeserver.main import running_server
from homeserver.protocol.errors import Forbidden, LimitExceeded
from homeserver.storage.pool import create_pool
from homeserver.storage.stream import Pool
from tests.support.api import PASSWORD, Answer, Api, open_api
from tests.support.servers import server_config

_ALICE = "@alice:test.example"
_SLOW = RateLimit(per_second=0.001, burst=5)
_LIMITED = {"enabled": True, "login": {"per_second": 0.001, "burst": 3}}


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    pool = await create_pool(database, 6)
    yield pool
    await pool.close()


async def _alice(pool: Pool) -> None:
    await pool.execute(
        "WITH u AS (INSERT INTO users (user_id, server) VALUES ($1, 'test.example') RETURNING user_nid) "
        "INSERT INTO accounts (user_nid, admin, guest, created_ts) SELECT user_nid, false, false, 0 FROM u",
        _ALICE,
    )


def _attempts(pool: Pool, **limits: Any) -> LoginAttempts:
    return LoginAttempts(pool, RateLimitsConfig(login=_SLOW, code=_SLOW, **limits))


async def _allowed(attempts: LoginAttempts, address: str, user_id: str = _ALICE) -> bool:
    """Tries once, with the wrong secret."""
    try:
        async with attempts.attempt(address, user_id):
            raise Forbidden("wrong")
    except LimitExceeded:
        return False
    except Forbidden:
        return True


async def test_an_address_and_an_account_have_a_burst_each(pool: Pool) -> None:
    """From one address so many accounts can be tried, and one account from so many addresses, as the burst allows."""
    attempts = _attempts(pool)
    assert [await _allowed(attempts, "192.0.2.1", f"@u{n}:a") for n in range(7)] == [True] * 5 + [False] * 2
    assert [await _allowed(attempts, f"192.0.2.{n}") for n in range(10, 17)] == [True] * 5 + [False] * 2
    assert await _allowed(attempts, "192.0.2.99", "@other:a")


async def test_an_ipv6_household_is_one_address(pool: Pool) -> None:
    """Who has a /64 has one budget, not 2^64."""
    attempts = _attempts(pool)
    tried = [await _allowed(attempts, f"2001:db8:1:2::{n:x}", f"@u{n}:a") for n in range(6)]
    assert tried == [True] * 5 + [False]


async def test_what_is_refused_is_not_counted(pool: Pool) -> None:
    """Whoever is refused for the account's sake has spent nothing of the address's budget."""
    attempts = _attempts(pool)
    for n in range(5):
        assert await _allowed(attempts, f"192.0.2.{n}")
    for _ in range(20):
        assert not await _allowed(attempts, "192.0.2.50")
    assert [await _allowed(attempts, "192.0.2.50", f"@u{n}:a") for n in range(6)] == [True] * 5 + [False]


async def test_success_costs_nothing(pool: Pool) -> None:
    """Who knows the secret may use it as often as they like."""
    await _alice(pool)
    attempts = _attempts(pool)
    for _ in range(20):
        async with attempts.attempt("192.0.2.1", _ALICE):
            pass


async def test_nobody_locks_the_owner_out(pool: Pool) -> None:
    """While an account is attacked from everywhere, its owner gets in from where they got in before.

    The attackers, who never got in from anywhere, gain nothing by that.
    """
    await _alice(pool)
    attempts = _attempts(pool)
    async with attempts.attempt("198.51.100.7", _ALICE):
        pass
    attack = [await _allowed(attempts, f"192.0.2.{n}") for n in range(50)]
    assert attack.count(True) == 5
    async with attempts.attempt("198.51.100.7", _ALICE):
        pass
    assert not await _allowed(attempts, "198.51.100.8")
    # At the owner's own address there is a limit too, of its own.
    assert [await _allowed(attempts, "198.51.100.7") for _ in range(7)] == [True] * 5 + [False] * 2


async def test_one_account_does_not_lend_its_address_to_others(pool: Pool) -> None:
    """That Mallory logs in to her own account from an address opens no budget there for anybody else's."""
    await _alice(pool)
    attempts = _attempts(pool)
    for _ in range(3):
        async with attempts.attempt("192.0.2.1", "@nobody:test.example"):
            pass
    async with attempts.attempt("203.0.113.5", _ALICE):
        pass
    tried = [await _allowed(attempts, "203.0.113.5", f"@victim{n}:a") for n in range(8)]
    assert tried.count(True) == 5


async def test_a_hundred_at_once_are_no_more_than_one_after_the_other(pool: Pool) -> None:
    """Attempts are counted before the secret is looked at, so that speed gains nothing."""
    attempts = _attempts(pool)
    results = await asyncio.gather(*(_allowed(attempts, f"192.0.2.{n}") for n in range(100)))
    assert results.count(True) == 5


async def test_processes_share_what_is_counted(database: str) -> None:
    """Two processes let through together what one would; a third that starts later knows of it."""
    async with AsyncExitStack() as stack:
        pools = [await stack.enter_async_context(await create_pool(database, 4)) for _ in range(2)]
        both = [_attempts(pool) for pool in pools]
        results = await asyncio.gather(*(_allowed(both[n % 2], f"192.0.2.{n}") for n in range(40)))
        assert results.count(True) == 5
    async with await create_pool(database, 2) as later:
        assert not await _allowed(_attempts(later), "192.0.2.200")


async def test_the_time_to_wait_is_right(pool: Pool) -> None:
    """Whoever waits as long as told is let through, and not much before."""
    fast = LoginAttempts(pool, RateLimitsConfig(code=RateLimit(per_second=20, burst=2)))
    for _ in range(2):
        await fast.use("code", "a")
    with pytest.raises(LimitExceeded) as caught:
        await fast.use("code", "a")
    assert 30 <= caught.value.retry_after_ms <= 51
    # The clock is the database's, so the time passes there.
    await pool.execute("SELECT pg_sleep($1)", caught.value.retry_after_ms / 1000)
    await fast.use("code", "a")
    with pytest.raises(LimitExceeded):
        await fast.use("code", "a")


async def test_limits_have_names(pool: Pool) -> None:
    """What is used up of one limit, or by one key, is not used up of another."""
    attempts = _attempts(pool)
    for _ in range(5):
        await attempts.use("code", "a")
    with pytest.raises(LimitExceeded):
        await attempts.use("code", "a")
    await attempts.use("login", "a")
    await attempts.use("code", "b")


async def test_limits_are_switched_off(pool: Pool) -> None:
    """Each by itself, and all at once; then nothing is stored."""
    for config in (RateLimitsConfig(login=None, code=None), RateLimitsConfig(enabled=False)):
        attempts = LoginAttempts(pool, config)
        for _ in range(20):
            assert await _allowed(attempts, "192.0.2.1")
            await attempts.use("code", "a")
    assert await pool.fetchval("SELECT count(*) FROM rate_limits") == 0


async def test_full_buckets_are_forgotten(pool: Pool) -> None:
    """Rows do not grow with everyone who ever came by; what still counts stays."""
    quick = LoginAttempts(pool, RateLimitsConfig(code=RateLimit(per_second=10_000, burst=1), login=_SLOW))
    for n in range(10):
        await quick.use("code", str(n))
    await quick.use("login", "a")
    await pool.execute("SELECT pg_sleep(0.01)")
    await quick.sweep()
    assert await pool.fetchval("SELECT count(*) FROM rate_limits") == 1


async def test_what_people_type_is_not_stored(pool: Pool) -> None:
    """A password that somebody types where the name belongs is in no table, nor is any text that can't be one."""
    attempts = _attempts(pool)
    for text in ("@hunter2-my-password:a", "@\ud800:a", "@" + "x" * 100_000):
        assert await _allowed(attempts, "192.0.2.1", text)
    rows = await pool.fetch("SELECT encode(key, 'escape') AS key FROM rate_limits")
    assert all(len(row["key"]) < 100 and "hunter2" not in row["key"] for row in rows)


async def test_what_was_typed_for_a_name_is_not_logged(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    """The operator reads whose secret was tried from where; of a name that is nobody's, nothing."""
    await _alice(pool)
    attempts = _attempts(pool)
    with caplog.at_level(logging.DEBUG):
        for user_id in (
            _ALICE,
            "@hunter2:test.example",
            "@\ud800hunter2:a",
            "@hunter2\0:a",
            "email hunter2@example.org",
        ):
            await attempts.failed("192.0.2.1", user_id)
    assert f"A wrong secret for {_ALICE} from 192.0.2.1" in caplog.text
    assert caplog.text.count("A wrong secret for nobody") == 4
    assert "hunter2" not in caplog.text


async def test_addresses_kept_are_bounded(pool: Pool) -> None:
    """Of each account only the last addresses are remembered."""
    await _alice(pool)
    attempts = _attempts(pool)
    for n in range(60):
        async with attempts.attempt(f"198.51.100.{n}", _ALICE):
            pass
    assert await pool.fetchval("SELECT count(*) FROM login_addresses") == 50
    assert await pool.fetchval("SELECT count(*) FROM login_addresses WHERE address = '198.51.100.59'") == 1


async def test_old_addresses_are_forgotten(pool: Pool) -> None:
    """From where somebody logged in is not known for ever: after 90 days it counts no more, and is deleted."""
    await _alice(pool)
    attempts = _attempts(pool)
    for n in range(2):
        async with attempts.attempt(f"198.51.100.{n}", _ALICE):
            pass
    day = 24 * 3600 * 1000
    await pool.execute("UPDATE login_addresses SET last_ts = last_ts - $1 WHERE address LIKE '%.0'", 91 * day)
    await pool.execute("UPDATE login_addresses SET last_ts = last_ts - $1 WHERE address LIKE '%.1'", 89 * day)
    for n in range(20):
        await _allowed(attempts, f"192.0.2.{n}")
    assert not await _allowed(attempts, "198.51.100.0")
    assert await _allowed(attempts, "198.51.100.1")
    await attempts.sweep()
    rows = await pool.fetch("SELECT address FROM login_addresses")
    assert [row["address"] for row in rows] == ["198.51.100.1"]


async def _log_in(api: Api, user: str, password: str) -> Answer:
    return await api.post("/login", {"type": "m.login.password", "user": user, "password": password})


async def test_guessing_is_slowed_over_http_and_after_a_restart(database: str, tmp_path: Path) -> None:
    """The fourth wrong password is refused with Retry-After, also by the server that was started anew.

    # spec: client-server-api/#rate-limiting
    """
    config = server_config(database, tmp_path, rate_limits=_LIMITED)
    async with running_server(config) as server, open_api(server.url) as api:
        answers = [await _log_in(api, f"nobody{n % 2}", "wrong") for n in range(4)]
        assert [answer.status for answer in answers] == [403, 403, 403, 429]
    async with running_server(config) as server, open_api(server.url) as api:
        answer = await _log_in(api, "somebody-else", "wrong")
        assert (answer.status, answer.errcode) == (429, "M_LIMIT_EXCEEDED")
        wait_ms = answer.body["retry_after_ms"]
        assert 0 < wait_ms <= 1_000_000
        assert int(answer.headers["Retry-After"]) == math.ceil(wait_ms / 1000)


async def test_the_right_password_is_not_slowed(database: str, tmp_path: Path) -> None:
    """Any number of good logins go through, and the owner gets in where they did before, whatever others guess."""
    limits = {**_LIMITED, "registration": None}
    config = server_config(database, tmp_path, rate_limits=limits)
    async with running_server(config) as server, open_api(server.url) as api:
        await api.register("alice")
        for _ in range(6):
            assert (await _log_in(api, "alice", PASSWORD)).status == 200
        assert [(await _log_in(api, "alice", "wrong")).status for _ in range(4)] == [403, 403, 403, 429]


async def test_proving_the_password_again_is_slowed_too(database: str, tmp_path: Path) -> None:
    """Who has an access token can't try passwords at leisure where an operation asks for it."""
    config = server_config(database, tmp_path, rate_limits={**_LIMITED, "registration": None})
    async with running_server(config) as server, open_api(server.url) as api:
        alice = await api.register("alice")
        auth = {"type": "m.login.password", "password": "wrong"}
        body = {"new_password": "another good password", "auth": auth}
        answers = [(await alice.post("/account/password", body)).status for _ in range(4)]
        assert answers == [401, 401, 401, 429]


async def test_registering_is_limited_after_a_restart(database: str, tmp_path: Path) -> None:
    """The accounts that an address makes are counted across a restart, those of guests among them."""
    limits = {"enabled": True, "registration": {"per_second": 0.001, "burst": 2}}
    registration = {"mode": "open", "guests": True}
    config = server_config(database, tmp_path, rate_limits=limits, registration=registration)
    body = {"password": PASSWORD, "auth": {"type": "m.login.dummy"}}
    async with running_server(config) as server, open_api(server.url) as api:
        assert (await api.post("/register", body)).status == 200
        assert (await api.post("/register?kind=guest", {})).status == 200
    async with running_server(config) as server, open_api(server.url) as api:
        assert (await api.post("/register", body)).errcode == "M_LIMIT_EXCEEDED"
        assert (await api.post("/register?kind=guest", {})).errcode == "M_LIMIT_EXCEEDED"
        assert await server.services.pool.fetchval("SELECT count(*) FROM accounts") == 2


async def test_registration_tokens_can_not_be_guessed_at_leisure(database: str, tmp_path: Path) -> None:
    """Wrong tokens count, at /register and where their validity is asked; right ones don't."""
    limits = {"enabled": True, "code": {"per_second": 0.001, "burst": 3}, "registration": None}
    config = server_config(database, tmp_path, rate_limits=limits, registration={"mode": "token", "tokens": ["right"]})
    path = "/_matrix/client/v1/register/m.login.registration_token/validity?token="
    async with running_server(config) as server, open_api(server.url) as api:
        for _ in range(5):
            assert (await api.get(path + "right")).body == {"valid": True}
        assert (await api.get(path + "wrong1")).body == {"valid": False}
        for n in range(2):
            auth = {"type": "m.login.registration_token", "token": f"guess{n}"}
            assert (await api.post("/register", {"password": PASSWORD, "auth": auth})).status == 401
        assert (await api.get(path + "wrong2")).status == 429
        auth = {"type": "m.login.registration_token", "token": "guess"}
        assert (await api.post("/register", {"password": PASSWORD, "auth": auth})).status == 429
