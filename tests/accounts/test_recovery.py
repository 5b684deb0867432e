"""Getting back into an account by a link in a mail: once, for an hour, by whoever reads the account's own address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from homeserver.accounts import threepids
from homeserver.accounts.email_validation import Purpose, Threepid, TokenRequest, request_token
from homeserver.accounts.recovery import find_recovery, request_recovery, use_recovery
from homeserver.main import Server, running_server
from homeserver.protocol.errors import BadRequest, NotFound
from homeserver.storage.users import ensure_user
from tests.support.api import Api
from tests.support.servers import server_config
from tests.support.smtp import Mailbox, email_settings, smtp_server

_ALICE = "@alice:test.example"
_ADDRESS = "alice@example.org"
_HASH = "$2b$04$" + "." * 53


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with smtp_server() as mailbox:
        yield mailbox


@pytest.fixture
async def server(database: str, tmp_path: Path, mailbox: Mailbox) -> AsyncIterator[Server]:
    config = server_config(
        database, tmp_path, public_baseurl="https://chat.test.example", email=email_settings(mailbox)
    )
    async with running_server(config) as server:
        yield server


@pytest.fixture
async def alice(api: Api, server: Server) -> Api:
    """A user with a confirmed address."""
    alice = await api.register("alice")
    async with server.services.pool.acquire() as conn, conn.transaction():
        await threepids.add(conn, await ensure_user(conn, _ALICE), Threepid("email", _ADDRESS, 1))
    return alice


async def _token(server: Server, mailbox: Mailbox, number: int = 1) -> str:
    async with server.services.pool.acquire() as conn, conn.transaction():
        await request_recovery(conn, _ADDRESS)
    server.services.mail.wake()
    return parse_qs(urlsplit(await mailbox.link(number)).query)["token"][0]


async def _use(server: Server, token: str) -> list[str]:
    async with server.services.pool.acquire() as conn, conn.transaction():
        return (await use_recovery(conn, server.config, token, _HASH))[1]


async def test_a_link_sets_another_password(alice: Api, server: Server, mailbox: Mailbox) -> None:
    """It names its user, ends the sessions, and the owner is told."""
    token = await _token(server, mailbox)
    async with server.services.pool.acquire() as conn:
        assert await find_recovery(conn, token) == _ALICE
    assert await _use(server, token) == [alice.device_id]
    server.services.mail.wake()
    assert (await mailbox.mail(2))["Subject"] == "Your password was changed"


async def test_a_link_works_once_even_at_once(alice: Api, server: Server, mailbox: Mailbox) -> None:
    """Of several who use the same link at the same time one gets through, and nobody does afterwards."""
    token = await _token(server, mailbox)
    results = await asyncio.gather(*(_use(server, token) for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(result, list) for result in results) == 1
    assert sum(isinstance(result, BadRequest) for result in results) == 5
    with pytest.raises(BadRequest):
        await _use(server, token)
    async with server.services.pool.acquire() as conn:
        assert await find_recovery(conn, token) is None


async def test_one_link_used_voids_the_others(alice: Api, server: Server, mailbox: Mailbox) -> None:
    """Links of earlier mails don't outlive the password that they were asked for."""
    first, second = await _token(server, mailbox, 1), await _token(server, mailbox, 2)
    await _use(server, second)
    with pytest.raises(BadRequest):
        await _use(server, first)


async def test_a_link_that_fails_changes_nothing(alice: Api, server: Server, mailbox: Mailbox) -> None:
    """What is wrong, too old or another's opens nothing, and the password stays."""
    token = await _token(server, mailbox)
    for wrong in ("", token[:-1], token + "A", "x" * 300, "\0", "\ud800"):
        with pytest.raises(BadRequest):
            await _use(server, wrong)
    await server.services.pool.execute("UPDATE recovery_tokens SET expires_ts = created_ts")
    with pytest.raises(BadRequest):
        await _use(server, token)
    await alice.login("alice")


async def test_nobody_is_written_to_about_an_unknown_address(alice: Api, server: Server, mailbox: Mailbox) -> None:
    """The same statements run, and no mail goes out."""
    async with server.services.pool.acquire() as conn, conn.transaction():
        await request_recovery(conn, "nobody@example.org")
    await _token(server, mailbox)
    assert [message["To"] for message in mailbox.messages] == [_ADDRESS]
    assert await server.services.pool.fetchval("SELECT count(*) FROM recovery_tokens") == 1


async def test_an_address_that_was_removed_recovers_nothing(alice: Api, server: Server, mailbox: Mailbox) -> None:
    """A link that is on its way to a former address of the account is void."""
    token = await _token(server, mailbox)
    await alice.post("/account/3pid/delete", {"medium": "email", "address": _ADDRESS})
    with pytest.raises(BadRequest):
        await _use(server, token)


async def test_a_deactivated_account_stays_so(alice: Api, server: Server, mailbox: Mailbox) -> None:
    """Nobody comes back into an account that has ended."""
    token = await _token(server, mailbox)
    await server.services.pool.execute("UPDATE accounts SET deactivated = true")
    with pytest.raises(NotFound):
        await _use(server, token)


async def test_tokens_are_stored_as_hashes(alice: Api, server: Server, mailbox: Mailbox) -> None:
    """Who reads the table can't make a link of it."""
    token = await _token(server, mailbox)
    text = await server.services.pool.fetchval("SELECT string_agg(t::text, ' ') FROM recovery_tokens t")
    assert token not in text
    assert token.encode().hex() not in text


async def test_the_same_work_for_the_known_and_the_unknown(alice: Api, server: Server) -> None:
    """Asking about an address takes the same statements whether or not it is somebody's, so time tells nothing."""

    async def statements(asked: TokenRequest | str) -> list[str]:
        made: list[str] = []
        async with server.services.pool.acquire() as conn, conn.transaction():
            with conn.query_logger(lambda record: made.append(record.query)):
                if isinstance(asked, str):
                    await request_recovery(conn, asked)
                else:
                    await request_token(conn, asked)
        # The driver asks on its own, once for each connection, what the types are.
        return [query for query in made if "set_config" not in query and "pg_catalog" not in query]

    assert await statements(_ADDRESS) == await statements("nobody@example.org")
    purposes: tuple[Purpose, ...] = ("register", "password", "add")
    for purpose in purposes:
        known = TokenRequest(purpose, "email", _ADDRESS, "secret", 1)
        unknown = TokenRequest(purpose, "email", "nobody@example.org", "secret", 1)
        found = await statements(known)
        assert len(found) >= 4
        assert found == await statements(unknown)
