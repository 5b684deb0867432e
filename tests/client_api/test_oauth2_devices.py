"""The device authorization grant: a code on one device, a browser on another.

# spec: client-server-api/#device-authorisation-grant
"""

from __future__ import annotations

import asyncio
import re

import asyncpg
import pytest

from homeserver.accounts.oauth2 import device_grants
from homeserver.main import Server
from homeserver.protocol.errors import Forbidden, NotFound
from homeserver.storage.accounts import find_account
from tests.support.api import Api
from tests.support.oauth2 import SCOPE, OAuth2, registered

USER = "@alice:test.example"


@pytest.fixture
async def oauth2(server: Server, alice: Api) -> OAuth2:
    """A public client of `server`, where alice has an account."""
    return await registered(server, alice)


async def _time_passes(database: str, ms: int) -> None:
    conn = await asyncpg.connect(database)
    await conn.execute(
        "UPDATE oauth2_device_grants SET polled_ts = polled_ts - $1::bigint, expires_ts = expires_ts - $1::bigint", ms
    )
    await conn.close()


async def test_a_device_is_signed_in(oauth2: OAuth2) -> None:
    """The device is told to wait until its user has agreed, and gets tokens once."""
    begun = await oauth2.begin_device()
    assert begun.status == 200
    assert begun.headers["Cache-Control"] == "no-store"
    codes = begun.body
    assert re.fullmatch("[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}", codes["user_code"])
    assert codes["verification_uri"] == f"{oauth2.server.url}/oauth2/device"
    assert codes["verification_uri_complete"] == f"{oauth2.server.url}/oauth2/device?user_code={codes['user_code']}"
    assert (codes["expires_in"], codes["interval"]) == (1800, 5)
    waiting = await oauth2.poll(codes["device_code"])
    assert (waiting.status, waiting.body["error"]) == (400, "authorization_pending")
    await oauth2.answer_device(codes["user_code"].lower().replace("-", " "), USER)
    tokens = await oauth2.poll(codes["device_code"])
    assert tokens.status == 200
    assert tokens.body["scope"] == SCOPE
    who = (await oauth2.api.as_token(tokens.body["access_token"]).get("/account/whoami")).body
    assert (who["user_id"], who["device_id"]) == (USER, "PHONE12345")
    assert (await oauth2.refresh(tokens.body["refresh_token"])).status == 200
    assert (await oauth2.poll(codes["device_code"])).body["error"] == "invalid_grant"


async def test_who_asks_too_often_is_slowed_down(oauth2: OAuth2, database: str) -> None:
    """Each time it is too soon the device must wait five seconds longer from then on.  # spec: msc/4341"""
    code = (await oauth2.begin_device()).body["device_code"]
    errors = []
    for wait in (0, 0, 6, 16):
        await _time_passes(database, wait * 1000)
        errors.append((await oauth2.poll(code)).body["error"])
    assert errors == ["authorization_pending", "slow_down", "slow_down", "authorization_pending"]


async def test_the_user_may_refuse(oauth2: OAuth2) -> None:
    """The device is told, and nobody can change the answer."""
    codes = (await oauth2.begin_device()).body
    async with oauth2.server.services.pool.acquire() as conn:
        grant = await device_grants.find(conn, oauth2.server.config.oauth2, codes["user_code"])
        assert grant is not None
        assert (grant.client.name, grant.device_id) == ("App", "PHONE12345")
        await device_grants.deny(conn, grant)
        account = await find_account(conn, USER)
        assert account is not None
        with pytest.raises(NotFound):
            await device_grants.approve(conn, grant, account.user_nid)
        assert await device_grants.find(conn, oauth2.server.config.oauth2, codes["user_code"]) is None
    assert (await oauth2.poll(codes["device_code"])).body["error"] == "access_denied"


async def test_codes_expire(oauth2: OAuth2, database: str) -> None:
    """After half an hour neither code is worth anything."""
    codes = (await oauth2.begin_device()).body
    await _time_passes(database, 1_800_001)
    assert (await oauth2.poll(codes["device_code"])).body["error"] == "expired_token"
    async with oauth2.server.services.pool.acquire() as conn:
        assert await device_grants.find(conn, oauth2.server.config.oauth2, codes["user_code"]) is None


async def test_an_approval_is_used_once(oauth2: OAuth2) -> None:
    """Of many who poll at the same moment one gets the tokens."""
    codes = (await oauth2.begin_device()).body
    await oauth2.answer_device(codes["user_code"], USER)
    answers = await asyncio.gather(*(oauth2.poll(codes["device_code"]) for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [200] + [400] * 7


async def test_another_clients_device_code(server: Server, alice: Api, oauth2: OAuth2) -> None:
    """A device code is good for the client that it was given to."""
    codes = (await oauth2.begin_device()).body
    await oauth2.answer_device(codes["user_code"], USER)
    other = await registered(server, alice, client_name="Other")
    assert (await other.poll(codes["device_code"])).body["error"] == "invalid_grant"
    assert (await oauth2.poll(codes["device_code"])).status == 200


async def test_the_device_of_another_application(oauth2: OAuth2, alice: Api) -> None:
    """Nobody agrees to that by mistake."""
    scope = f"urn:matrix:client:api:* urn:matrix:client:device:{alice.device_id}"
    codes = (await oauth2.begin_device(scope=scope)).body
    with pytest.raises(Forbidden):
        await oauth2.answer_device(codes["user_code"], USER)
    assert (await alice.get("/account/whoami")).status == 200


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"scope": ""}, "invalid_scope"),
        ({"scope": "openid"}, "invalid_scope"),
        ({"client_id": "nobody"}, "invalid_client"),
        ({"client_id": ""}, "invalid_request"),
    ],
)
async def test_requests_that_are_refused(oauth2: OAuth2, changes: dict[str, str], error: str) -> None:
    """What is wrong is said at once, before anyone types a code."""
    answer = await oauth2.begin_device(**changes)
    assert (answer.status, answer.body["error"]) == (401 if error == "invalid_client" else 400, error)


async def test_a_client_that_did_not_register_for_it(server: Server, alice: Api) -> None:
    """Only those may use the grant that said so."""
    client = await registered(server, alice, grant_types=["authorization_code", "refresh_token"])
    assert (await client.begin_device()).body["error"] == "unauthorized_client"


async def test_a_client_for_devices_alone(server: Server, alice: Api) -> None:
    """A device without a browser needs no address to go back to, and can't use the other grant."""
    grants = ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"]
    client = await registered(server, alice, grant_types=grants, redirect_uris=None, response_types=None)
    codes = (await client.begin_device()).body
    await client.answer_device(codes["user_code"], USER)
    assert (await client.poll(codes["device_code"])).status == 200


@pytest.mark.parametrize("code", ["", "BCDF", "BCDF-GHJKL", "AEIO-UAEI", "x" * 100_000, "\0", "BCDF-GHJK"])
async def test_codes_that_nobody_was_given(oauth2: OAuth2, code: str) -> None:
    """Whatever is typed, there is an answer."""
    async with oauth2.server.services.pool.acquire() as conn:
        assert await device_grants.find(conn, oauth2.server.config.oauth2, code) is None


async def test_codes_are_never_stored(oauth2: OAuth2, database: str) -> None:
    """Who reads the database can neither approve nor use a grant."""
    codes = (await oauth2.begin_device()).body
    conn = await asyncpg.connect(database)
    text = await conn.fetchval("SELECT string_agg(g::text, ' ') FROM oauth2_device_grants g")
    await conn.close()
    assert "PHONE12345" in text
    assert codes["device_code"] not in text
    assert codes["user_code"] not in text
    assert codes["user_code"].replace("-", "") not in text
