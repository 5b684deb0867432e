"""Coming back from a provider: once, however many answers come at the same moment; and who is let into an account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import pytest

from homeserver.main import Server, running_server
from tests.support.api import open_api
from tests.support.oidc import CLIENT_ID, CLIENT_SECRET, OidcServer, query_of, running_oidc_server
from tests.support.servers import server_config

Start = Callable[..., AbstractAsyncContextManager[Server]]


class Answer(NamedTuple):
    """Where a browser ends up that brings an answer: the status, the next address and the new cookie, "" if none."""

    status: int
    location: str
    cookie: str


@pytest.fixture
async def there() -> AsyncIterator[OidcServer]:
    async with running_oidc_server() as provider:
        yield provider


@pytest.fixture
def start(database: str, tmp_path: Path, there: OidcServer) -> Start:
    """A function that starts a server that trusts the provider, with these settings for it."""

    @asynccontextmanager
    async def started(**settings: Any) -> AsyncIterator[Server]:
        provider = {"id": "there", "name": "Elsewhere", "issuer": there.issuer, "client_id": CLIENT_ID}
        config = server_config(
            database,
            tmp_path,
            single_sign_on={"providers": [{**provider, "client_secret": CLIENT_SECRET, **settings}]},
            federation={"allow_addresses": ["127.0.0.0/8", "::1"]},
        )
        async with running_server(config) as server:
            yield server

    return started


async def _leave(server: Server, there: OidcServer) -> tuple[str, str]:
    """Goes to the provider and signs in there; returns the address to come back to, and the browser's cookie."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{server.url}/account/sso/there", allow_redirects=False) as response,
    ):
        return there.answer(query_of(response.headers["Location"])), _cookie(response)


async def _come_back(address: str, cookie: str) -> Answer:
    async with (
        aiohttp.ClientSession() as session,
        session.get(address, headers={"Cookie": cookie}, allow_redirects=False) as response,
    ):
        return Answer(response.status, response.headers.get("Location", ""), _cookie(response))


def _cookie(response: aiohttp.ClientResponse) -> str:
    cookies = SimpleCookie(response.headers.get("Set-Cookie", ""))
    return "; ".join(f"{name}={morsel.value}" for name, morsel in cookies.items())


async def _signs_in(server: Server, there: OidcServer) -> bool:
    """Whether who signs in there is let into an account here, instead of being asked for a user name."""
    answer = await _come_back(*await _leave(server, there))
    assert answer.status in (302, 303), answer
    return urlsplit(answer.location).path != "/account/sso/new"


async def test_an_answer_counts_once_however_many_bring_it(start: Start, there: OidcServer) -> None:
    """Of many requests that bring the same answer from the same browser at the same moment, one goes on."""
    async with start() as server:
        address, cookie = await _leave(server, there)
        answers = await asyncio.gather(*(_come_back(address, cookie) for _ in range(8)))
        assert sorted(answer.status // 100 for answer in answers) == [3] + [4] * 7
        assert (await _come_back(address, cookie)).status // 100 == 4


@pytest.mark.parametrize("rule", ["email", "localpart"])
async def test_an_address_or_name_with_a_new_owner_opens_nothing(start: Start, there: OidcServer, rule: str) -> None:
    """Whoever is given the address or the name there that somebody had before is not let into that one's account."""
    async with start(link_existing=rule) as server, open_api(server.url) as api:
        alice = await api.register("alice")
        await server.services.pool.execute(
            "INSERT INTO account_threepids (medium, address, user_nid, validated_ts, added_ts) "
            "SELECT 'email', 'alice@example.org', user_nid, 0, 0 FROM users WHERE user_id = $1",
            alice.user_id,
        )
        claims = {"preferred_username": "alice", "email": "alice@example.org", "email_verified": True}
        there.person = {"sub": "the-first", **claims}
        assert await _signs_in(server, there)
        there.person = {"sub": "the-next", **claims}
        assert not await _signs_in(server, there)
        there.person = {"sub": "the-first", **claims}
        assert await _signs_in(server, there)
