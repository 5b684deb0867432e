"""Registering: open, by token, for guests, for application services, with the shared secret."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from homeserver.main import running_server
from tests.support.api import PASSWORD, Answer, Api, open_api
from tests.support.servers import server_config

_DUMMY = {"type": "m.login.dummy"}


@pytest.fixture
async def closed(database: str, tmp_path: Path) -> AsyncIterator[Api]:
    """A server where nobody may register, but for who knows the shared secret."""
    config = server_config(database, tmp_path, registration={"mode": "off", "shared_secret": "the shared secret"})
    async with running_server(config) as server, open_api(server.url) as api:
        yield api


@pytest.fixture
async def by_token(database: str, tmp_path: Path) -> AsyncIterator[Api]:
    """A server where those register who have a token: `always`, or `twice`, which is good for two."""
    config = server_config(database, tmp_path, registration={"mode": "token", "tokens": ["always"], "guests": True})
    async with running_server(config) as server, open_api(server.url) as api:
        await server.services.pool.execute("INSERT INTO registration_tokens (token, uses_allowed) VALUES ('twice', 2)")
        yield api


async def test_the_first_request_says_what_to_prove(api: Api) -> None:
    """A request without auth never succeeds; it is told the flows, and makes no account."""
    answer = await api.post("/register", {"username": "alice", "password": PASSWORD})
    assert answer.status == 401
    assert answer.body["flows"] == [{"stages": ["m.login.dummy"]}]
    assert answer.body["session"]
    assert "errcode" not in answer.body
    assert (await api.get("/register/available?username=alice")).body == {"available": True}


async def test_a_user_registers_in_two_steps(api: Api) -> None:
    """Whoever comes back with the session and the proof gets an account and a session that works."""
    body = {"username": "alice", "password": PASSWORD, "device_id": "PHONE", "initial_device_display_name": "Phone"}
    session = (await api.post("/register", body)).body["session"]
    answer = await api.post("/register", {**body, "auth": {**_DUMMY, "session": session}})
    assert answer.status == 200
    assert answer.body["user_id"] == "@alice:test.example"
    assert answer.body["device_id"] == "PHONE"
    alice = api.as_token(answer.body["access_token"])
    whoami = await alice.get("/account/whoami")
    assert whoami.body == {"user_id": "@alice:test.example", "device_id": "PHONE", "is_guest": False}
    assert (await alice.get("/devices/PHONE")).body["display_name"] == "Phone"


async def test_old_clients_prove_in_the_first_request(api: Api) -> None:
    """A session is only needed between two requests."""
    answer = await api.post("/register", {"username": "bot", "password": PASSWORD, "auth": _DUMMY})
    assert answer.status == 200


async def test_a_name_is_made_up_for_who_gives_none(api: Api) -> None:
    """Without a username the server chooses one, another each time."""
    names = {(await api.post("/register", {"password": PASSWORD, "auth": _DUMMY})).body["user_id"] for _ in range(3)}
    assert len(names) == 3


async def test_inhibit_login_gives_no_session(api: Api) -> None:
    """With inhibit_login the account is made and nothing else."""
    body = {"username": "alice", "password": PASSWORD, "auth": _DUMMY, "inhibit_login": True}
    answer = await api.post("/register", body)
    assert answer.body == {"user_id": "@alice:test.example", "home_server": "test.example"}
    assert (await (await api.login("alice")).get("/devices")).status == 200


@pytest.mark.parametrize(
    ("username", "errcode"),
    [
        ("alice", "M_USER_IN_USE"),
        ("ALICE", "M_USER_IN_USE"),
        ("al ice", "M_INVALID_USERNAME"),
        ("élise", "M_INVALID_USERNAME"),
        ("", "M_INVALID_USERNAME"),
        ("a:b", "M_INVALID_USERNAME"),
        ("a" * 250, "M_INVALID_USERNAME"),
        ("a" * 2_000, "M_INVALID_USERNAME"),
        (5, "M_BAD_JSON"),
    ],
)
async def test_a_name_that_can_not_be_had_is_refused_before_anything_is_proved(
    alice: Api, username: object, errcode: str
) -> None:
    """Errors about the name come before anything must be proved."""
    answer = await alice.as_token(None).post("/register", {"username": username, "password": PASSWORD})
    assert (answer.status, answer.errcode) == (400, errcode)


async def test_available_says_what_register_would(alice: Api) -> None:
    """/register/available refuses exactly the names that /register refuses."""
    for name, errcode in (("alice", "M_USER_IN_USE"), ("a b", "M_INVALID_USERNAME")):
        answer = await alice.get("/register/available", query={"username": name})
        assert (answer.status, answer.errcode) == (400, errcode)
    assert (await alice.get("/register/available", query={"username": "a" * 300})).errcode == "M_INVALID_USERNAME"
    assert (await alice.get("/register/available", query={"username": "ALICE"})).errcode == "M_USER_IN_USE"
    assert (await alice.get("/register/available", query={"username": "Bob"})).body == {"available": True}
    assert (await alice.get("/register/available")).errcode == "M_MISSING_PARAM"


@pytest.mark.parametrize(
    ("password", "errcode"),
    [
        ("short", "M_WEAK_PASSWORD"),
        ("x" * 73, "M_INVALID_PARAM"),
        ("a\0bcdefghi", "M_INVALID_PARAM"),
        (1, "M_BAD_JSON"),
    ],
)
async def test_a_password_that_can_not_be_had_is_refused(api: Api, password: object, errcode: str) -> None:
    """A password that is too short, or that could not be told from another, makes no account."""
    answer = await api.post("/register", {"username": "alice", "password": password, "auth": _DUMMY})
    assert (answer.status, answer.errcode) == (400, errcode)
    assert (await api.get("/register/available?username=alice")).status == 200


async def test_nobody_registers_where_registration_is_off(closed: Api) -> None:
    """With mode off, neither accounts nor guests are made, and no token is tested."""
    for path in ("/register", "/register?kind=guest"):
        answer = await closed.post(path, {"username": "alice", "password": PASSWORD, "auth": _DUMMY})
        assert answer.status == 403, path
    validity = await closed.get("/_matrix/client/v1/register/m.login.registration_token/validity?token=always")
    assert (validity.status, validity.errcode) == (403, "M_FORBIDDEN")


async def _register_with(api: Api, name: str, token: object) -> Answer:
    auth = {"type": "m.login.registration_token", "token": token}
    return await api.post("/register", {"username": name, "password": PASSWORD, "auth": auth})


async def test_a_token_lets_register(by_token: Api) -> None:
    """With mode token, a good token is asked for, and suffices."""
    first = await by_token.post("/register", {"username": "alice", "password": PASSWORD})
    assert first.body["flows"] == [{"stages": ["m.login.registration_token"]}]
    assert (await _register_with(by_token, "alice", "always")).status == 200
    assert (await _register_with(by_token, "bob", "always")).status == 200


@pytest.mark.parametrize("token", ["wrong", "", "a\0", 5, None, "x" * 1000, "é"])
async def test_a_wrong_token_lets_nobody_in(by_token: Api, token: object) -> None:
    """Any other token is a failed proof, which may be tried again."""
    answer = await _register_with(by_token, "alice", token)
    assert (answer.status, answer.errcode) == (401, "M_FORBIDDEN")
    assert answer.body["flows"]


async def test_the_dummy_proves_nothing_where_a_token_is_needed(by_token: Api) -> None:
    """A stage that is not in any flow completes none."""
    answer = await by_token.post("/register", {"username": "alice", "password": PASSWORD, "auth": _DUMMY})
    assert answer.status == 401
    assert answer.body["errcode"]


async def test_a_token_is_used_as_often_as_allowed(by_token: Api) -> None:
    """Only accounts that were made count, each once; then the token is worth nothing."""
    path = "/_matrix/client/v1/register/m.login.registration_token/validity?token=twice"
    assert (await by_token.get(path)).body == {"valid": True}
    assert (await _register_with(by_token, "not a name", "twice")).status == 400
    assert (await _register_with(by_token, "alice", "twice")).status == 200
    assert (await _register_with(by_token, "alice", "twice")).errcode == "M_USER_IN_USE"
    assert (await _register_with(by_token, "bob", "twice")).status == 200
    assert (await by_token.get(path)).body == {"valid": False}
    assert (await _register_with(by_token, "carol", "twice")).status == 401


async def test_a_guest_gets_in_and_not_far(by_token: Api) -> None:
    """Guests get an account without a password, whatever they ask to be called, and may not do what accounts may."""
    answer = await by_token.post("/register?kind=guest", {"username": "root", "device_id": "MINE"})
    assert answer.status == 200
    assert answer.body["user_id"].startswith("@guest-")
    assert answer.body["device_id"] != "MINE"
    guest = by_token.as_token(answer.body["access_token"])
    assert (await guest.get("/account/whoami")).body["is_guest"] is True
    assert (await guest.get("/pushrules/")).errcode == "M_GUEST_ACCESS_FORBIDDEN"


def _mac(nonce: str, username: str, password: str, admin: str, secret: str = "the shared secret") -> str:
    return hmac.new(secret.encode(), "\0".join([nonce, username, password, admin]).encode(), "sha1").hexdigest()


async def test_the_shared_secret_makes_accounts(closed: Api, database: str) -> None:
    """Who can sign with the shared secret makes accounts, administrators too, whatever the mode of registration."""
    path = "/_synapse/admin/v1/register"
    nonce = (await closed.get(path)).body["nonce"]
    body = {"nonce": nonce, "username": "root", "password": PASSWORD, "admin": True}
    answer = await closed.post(path, {**body, "mac": _mac(nonce, "root", PASSWORD, "admin")})
    assert answer.status == 200
    assert answer.body["user_id"] == "@root:test.example"
    assert (await closed.as_token(answer.body["access_token"]).get("/account/whoami")).status == 200
    conn = await asyncpg.connect(database)
    assert await conn.fetchval("SELECT admin FROM accounts") is True
    await conn.close()


async def test_a_wrong_mac_makes_nothing(closed: Api) -> None:
    """A MAC for something else, by another secret, or for a nonce that was not given out here, is refused."""
    path = "/_synapse/admin/v1/register"
    nonce = (await closed.get(path)).body["nonce"]
    body = {"nonce": nonce, "username": "root", "password": PASSWORD, "admin": True}
    for mac in (_mac(nonce, "root", PASSWORD, "notadmin"), _mac(nonce, "root", PASSWORD, "admin", "guess"), "", "é"):
        assert (await closed.post(path, {**body, "mac": mac})).status == 403
    for bad in ("made-up", nonce[:-1], "0-" + nonce, ""):
        signed = {**body, "nonce": bad, "mac": _mac(bad, "root", PASSWORD, "admin")}
        assert (await closed.post(path, signed)).status == 400


async def test_a_nonce_of_the_shared_secret_counts_once(closed: Api) -> None:
    """Of many requests that are signed with one nonce, at once or later, one makes its account."""
    path = "/_synapse/admin/v1/register"
    nonce = (await closed.get(path)).body["nonce"]
    signed = [
        {"nonce": nonce, "username": name, "password": PASSWORD, "mac": _mac(nonce, name, PASSWORD, "notadmin")}
        for name in (*(f"user{n}" for n in range(6)), "same", "same")
    ]
    answers = await asyncio.gather(*(closed.post(path, body) for body in signed))
    assert sorted(answer.status for answer in answers) == [200] + [400] * 7
    answer = await closed.post(
        path, {**signed[0], "username": "later", "mac": _mac(nonce, "later", PASSWORD, "notadmin")}
    )
    assert (answer.status, answer.errcode) == (400, "M_UNKNOWN")


async def test_without_a_shared_secret_there_is_nothing_to_sign_with(api: Api) -> None:
    """The endpoint is off unless a secret is configured."""
    assert (await api.get("/_synapse/admin/v1/register")).status == 400
    assert (await api.post("/_synapse/admin/v1/register", {"username": "x"})).status == 400
