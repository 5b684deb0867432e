"""OpenID: proving to another service who one is.  # spec: client-server-api/#openid"""

from __future__ import annotations

from homeserver.main import Server
from tests.support.api import Api

_USERINFO = "/_matrix/federation/v1/openid/userinfo"


async def test_a_token_says_who_asked_for_it(api: Api, alice: Api) -> None:
    """The token is exchanged for the user's id, by anyone, and opens nothing else."""
    answer = await alice.post(f"/user/{alice.user_id}/openid/request_token", {})
    assert answer.status == 200
    token = answer.body.pop("access_token")
    assert answer.body == {"token_type": "Bearer", "matrix_server_name": "test.example", "expires_in": 3600}
    assert (await api.get(_USERINFO, query={"access_token": token})).body == {"sub": alice.user_id}
    assert (await api.as_token(token).get("/account/whoami")).errcode == "M_UNKNOWN_TOKEN"


async def test_tokens_are_stored_as_hashes_and_end(server: Server, api: Api, alice: Api) -> None:
    """The database has no token in it, and one that has expired says nothing."""
    token = (await alice.post(f"/user/{alice.user_id}/openid/request_token", {})).body["access_token"]
    async with server.services.pool.acquire() as conn:
        assert token.encode() not in await conn.fetchval("SELECT token_hash FROM openid_tokens")
        await conn.execute("UPDATE openid_tokens SET expires_ts = 1")
    answer = await api.get(_USERINFO, query={"access_token": token})
    assert (answer.status, answer.errcode) == (401, "M_UNKNOWN_TOKEN")
    await alice.post(f"/user/{alice.user_id}/openid/request_token", {})
    async with server.services.pool.acquire() as conn:
        assert await conn.fetchval("SELECT count(*) FROM openid_tokens") == 1


async def test_who_may_ask(api: Api, alice: Api) -> None:
    """Only users ask, for themselves; an access token is no OpenID token."""
    assert (await alice.post("/user/@bob:test.example/openid/request_token", {})).errcode == "M_FORBIDDEN"
    assert (await api.post(f"/user/{alice.user_id}/openid/request_token", {})).status == 401
    assert (await api.get(_USERINFO, query={"access_token": alice.token or ""})).status == 401
    assert (await api.get(_USERINFO)).status == 401
