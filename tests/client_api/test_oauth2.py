"""Signing in by OAuth 2.0: the authorization code grant and what comes of it.

# spec: client-server-api/#oauth-20-api
"""

from __future__ import annotations

import asyncio
import base64
import logging
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import jwt
import pytest

from homeserver.accounts.oauth2.authorization import deny
from homeserver.accounts.oauth2.errors import AuthorizationError
from homeserver.main import Server, running_server
from tests.support.api import PASSWORD, Api, open_api
from tests.support.oauth2 import REDIRECT_URI, SCOPE, VERIFIER, OAuth2, answered, challenge_of, registered
from tests.support.servers import server_config

USER = "@alice:test.example"


@pytest.fixture
async def oauth2(server: Server, alice: Api) -> OAuth2:
    """A public client of `server`, where alice has an account."""
    return await registered(server, alice)


async def test_a_whole_sign_in(oauth2: OAuth2) -> None:
    """Code, token, refresh: the session is an ordinary device with the name of its client."""
    tokens = await oauth2.sign_in(USER)
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] == 300
    assert tokens["scope"] == SCOPE
    api = oauth2.api.as_token(tokens["access_token"])
    who = (await api.get("/account/whoami")).body
    assert (who["user_id"], who["device_id"]) == (USER, "PHONE12345")
    assert (await api.get("/devices/PHONE12345")).body["display_name"] == "App"
    new = await oauth2.refresh(tokens["refresh_token"])
    assert new.status == 200
    assert await oauth2.works(new.body["access_token"])
    assert not await oauth2.works(tokens["access_token"])


async def test_the_answers_are_kept_by_nobody(oauth2: OAuth2) -> None:
    """Answers with tokens are marked as not to be stored, and any site's script may read them.

    # spec: client-server-api/#web-browser-clients
    """
    answer = await oauth2.exchange(await oauth2.code(USER))
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    wrong = await oauth2.exchange("nonsense")
    assert wrong.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("mode", ["query", "fragment"])
async def test_the_browser_goes_back_with_the_answer(oauth2: OAuth2, mode: str) -> None:
    """The code, the state and who gave it come in the query or in the fragment, as was asked."""
    location = await oauth2.agree(USER, response_mode=mode)
    parts = urlsplit(location)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == REDIRECT_URI
    assert bool(parts.fragment) == (mode == "fragment")
    assert bool(parts.query) == (mode == "query")
    values = answered(location)
    assert values["state"] == "a state"
    # RFC 9207: a client that knows two servers sees whose code it is.
    assert values["iss"] == oauth2.issuer
    refused = answered(deny(await oauth2.check(oauth2.query(response_mode=mode))))
    assert (refused["error"], refused["state"], refused["iss"]) == ("access_denied", "a state", oauth2.issuer)


async def test_who_has_no_account_is_shown_where_to_make_one(oauth2: OAuth2) -> None:
    """`prompt=create` says that the user wants to register.  # spec: client-server-api/#user-registration"""
    assert (await oauth2.check(oauth2.query(prompt="create"))).prompt == "create"
    assert (await oauth2.check(oauth2.query())).prompt is None


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"response_mode": "form_post"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": "openid"}, "invalid_scope"),
        ({"scope": "urn:matrix:client:api:*"}, "invalid_scope"),
        ({"scope": "urn:matrix:client:device:A"}, "invalid_scope"),
        ({"scope": f"{SCOPE} urn:matrix:client:device:OTHER"}, "invalid_scope"),
        ({"scope": "urn:matrix:client:api:* urn:matrix:client:device:"}, "invalid_scope"),
        ({"scope": 'urn:matrix:client:api:* urn:matrix:client:device:a"b'}, "invalid_scope"),
        ({"scope": "urn:matrix:client:api:* urn:matrix:client:device:" + "x" * 256}, "invalid_scope"),
        ({"prompt": "none"}, "interaction_required"),
        ({"request": "eyJ"}, "request_not_supported"),
        ({"request_uri": "https://app.example/r"}, "request_uri_not_supported"),
        ({"state": "x" * 5000}, "invalid_request"),
    ],
)
async def test_requests_that_the_client_is_told_about(
    oauth2: OAuth2, changes: dict[str, str | None], error: str
) -> None:
    """What is wrong with a request of a client that is known goes back to it; PKCE can't be left out or weakened."""
    with pytest.raises(AuthorizationError) as caught:
        await oauth2.check(oauth2.query(**changes))
    assert caught.value.redirect is not None
    assert caught.value.redirect.startswith(f"{REDIRECT_URI}?")
    assert answered(caught.value.redirect)["error"] == error


@pytest.mark.parametrize(
    "redirect_uri",
    [
        None,
        "",
        "https://evil.example/callback",
        f"{REDIRECT_URI}/more",
        f"{REDIRECT_URI}x",
        f"{REDIRECT_URI}?a=b",
        f"{REDIRECT_URI}#fragment",
        f"{REDIRECT_URI}#",
        "https://app.example/Callback",
        "https://APP.example/callback",
        "HTTPS://app.example/callback",
        "https://app.example:443/callback",
        "https://app.example@evil.example/callback",
        "https://user@app.example/callback",
        "https://app.example/callback/..",
        "https://app.example/../callback",
        "https://app.example/%63allback",
        "https://app.example\\@evil.example/callback",
        "http://app.example/callback",
        "//app.example/callback",
        "https://app.example.evil.example/callback",
        "javascript:alert(1)",
    ],
)
async def test_nobody_is_sent_to_an_address_that_was_not_registered(oauth2: OAuth2, redirect_uri: str | None) -> None:
    """Addresses are compared letter by letter, and for a wrong one the browser stays here."""
    with pytest.raises(AuthorizationError) as caught:
        await oauth2.check(oauth2.query(redirect_uri=redirect_uri))
    assert caught.value.redirect is None


async def test_requests_that_nobody_is_sent_back_for(oauth2: OAuth2) -> None:
    """An unknown client, a parameter that is there twice, what can't be read: the person is told, nobody else."""
    good = oauth2.query()
    for query in (
        oauth2.query(client_id="nobody"),
        oauth2.query(client_id=None),
        f"{good}&redirect_uri=https%3A%2F%2Fevil.example",
        f"{good}&state=other",
        f"{good}&x=%ff",
        f"{good}&x=%00",
        f"{good}&x={'y' * 20_000}",
        "",
    ):
        with pytest.raises(AuthorizationError) as caught:
            await oauth2.check(query)
        assert caught.value.redirect is None


async def test_any_port_of_the_loopback_interface(server: Server, alice: Api) -> None:
    """A native client may listen on whatever port is free; nothing else of the address may differ.

    # spec: client-server-api/#redirect-uri-validation
    """
    uris = ["http://127.0.0.1/callback", "http://[::1]/callback", "http://localhost/callback", "example.app:/callback"]
    client = await registered(server, alice, application_type="native", redirect_uris=uris)
    for uri in (
        *uris,
        "http://127.0.0.1:49152/callback",
        "http://[::1]:1/callback",
        "http://localhost:65535/callback",
    ):
        assert (await client.check(client.query(redirect_uri=uri))).redirect_uri == uri
    for uri in (
        "http://127.0.0.1:49152/other",
        "http://127.0.0.1:0/callback",
        "http://127.0.0.1:65536/callback",
        "http://127.0.0.2:49152/callback",
        "http://127.0.0.1:49152@evil.example/callback",
        "http://127.0.0.1:49152/callback#f",
        "http://127.0.0.1:/callback",
        "https://127.0.0.1:49152/callback",
        "http://localhost.evil.example:1/callback",
        "example.app://callback",
    ):
        with pytest.raises(AuthorizationError):
            await client.check(client.query(redirect_uri=uri))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_verifier": None}, "invalid_grant"),
        ({"code_verifier": "x" * 43}, "invalid_grant"),
        ({"code_verifier": challenge_of(VERIFIER)}, "invalid_grant"),
        ({"code_verifier": "short"}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_grant"),
        ({"redirect_uri": f"{REDIRECT_URI}/"}, "invalid_grant"),
        ({"client_id": None}, "invalid_request"),
        ({"client_id": "nobody"}, "invalid_client"),
        ({"client_secret": "secret"}, "invalid_client"),
        ({"code": None}, "invalid_request"),
        ({"code": "nonsense"}, "invalid_grant"),
        ({"grant_type": None}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
    ],
)
async def test_a_code_is_only_for_who_asked_for_it(oauth2: OAuth2, changes: dict[str, str | None], error: str) -> None:
    """Without the verifier, the address and the client of the request a code is worth nothing."""
    answer = await oauth2.exchange(**{"code": await oauth2.code(USER), **changes})  # type: ignore[arg-type]
    assert answer.status == (401 if error == "invalid_client" else 400)
    assert answer.body["error"] == error


async def test_a_wrong_guess_uses_the_code_up(oauth2: OAuth2) -> None:
    """Nobody can try verifiers on a code that they found."""
    code = await oauth2.code(USER)
    assert (await oauth2.exchange(code, code_verifier="x" * 43)).status == 400
    assert (await oauth2.exchange(code)).status == 400


async def test_the_code_of_another_client(server: Server, alice: Api, oauth2: OAuth2) -> None:
    """A client can't use a code that was given to another, and does not spoil it either."""
    code = await oauth2.code(USER)
    other = await registered(server, alice, client_name="Other")
    assert other.client_id != oauth2.client_id
    assert (await other.exchange(code)).body["error"] == "invalid_grant"
    assert (await oauth2.exchange(code)).status == 200


async def test_a_code_is_good_for_a_minute(oauth2: OAuth2, database: str) -> None:
    """Later it is as good as none."""
    code = await oauth2.code(USER)
    conn = await asyncpg.connect(database)
    await conn.execute("UPDATE oauth2_codes SET expires_ts = expires_ts - 60001")
    await conn.close()
    assert (await oauth2.exchange(code)).body["error"] == "invalid_grant"


async def test_a_code_that_comes_again_ends_what_it_gave(oauth2: OAuth2) -> None:
    """The second who brings a code is told nothing, and the session of the first ends."""
    code = await oauth2.code(USER)
    first = await oauth2.exchange(code)
    refreshed = await oauth2.refresh(first.body["refresh_token"])
    assert (await oauth2.exchange(code)).body["error"] == "invalid_grant"
    for tokens in (first.body, refreshed.body):
        assert not await oauth2.works(tokens["access_token"])
        assert (await oauth2.refresh(tokens["refresh_token"])).body["error"] == "invalid_grant"


async def test_of_many_who_bring_a_code_at_once_one_gets_tokens(oauth2: OAuth2) -> None:
    """However many come at the same moment."""
    code = await oauth2.code(USER)
    answers = await asyncio.gather(*(oauth2.exchange(code) for _ in range(10)))
    assert sorted(answer.status for answer in answers) == [200] + [400] * 9


async def test_codes_and_tokens_are_never_stored_nor_logged(
    oauth2: OAuth2, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who reads the database or the log finds nothing that could be used."""
    with caplog.at_level(logging.DEBUG):
        code = await oauth2.code(USER)
        tokens = (await oauth2.exchange(code)).body
        await oauth2.refresh(tokens["refresh_token"])
        await oauth2.refresh("tpar_nonsense")
        await oauth2.works(tokens["access_token"])
    conn = await asyncpg.connect(database)
    tables = ("oauth2_codes", "sessions", "refresh_tokens", "access_tokens", "oauth2_clients")
    text = " ".join([await conn.fetchval(f"SELECT string_agg(t::text, ' ') FROM {table} t") for table in tables])
    await conn.close()
    assert "PHONE12345" in text
    for secret in (code, tokens["access_token"], tokens["refresh_token"], VERIFIER):
        assert secret not in text
        assert secret.encode().hex() not in text
        assert secret not in caplog.text


async def test_a_device_of_somebody_else(oauth2: OAuth2, alice: Api) -> None:
    """Device ids are each user's own: asking for another's makes one of one's own and touches nothing."""
    bob = await alice.as_token(None).register("bob", device_id="PHONE12345")
    tokens = await oauth2.sign_in(USER)
    who = (await oauth2.api.as_token(tokens["access_token"]).get("/account/whoami")).body
    assert who["user_id"] == USER
    assert (await bob.get("/account/whoami")).status == 200


async def test_a_device_of_another_application_is_not_taken_over(server: Server, alice: Api, oauth2: OAuth2) -> None:
    """A client can't become a device that the user has elsewhere: neither one with a password nor another client's."""
    scope = f"urn:matrix:client:api:* urn:matrix:client:device:{alice.device_id}"
    assert answered(await oauth2.agree(USER, scope=scope))["error"] == "invalid_scope"
    assert (await alice.get("/account/whoami")).status == 200
    tokens = await oauth2.sign_in(USER)
    uri = "https://other.example/callback"
    other = await registered(server, alice, client_uri="https://other.example/", redirect_uris=[uri])
    assert answered(await other.agree(USER, redirect_uri=uri))["error"] == "invalid_scope"
    assert await oauth2.works(tokens["access_token"])


async def test_a_client_signs_in_again_on_its_device(server: Server, alice: Api, oauth2: OAuth2) -> None:
    """After a soft logout the same application, in whatever version, goes on with its device; the old tokens end."""
    tokens = await oauth2.sign_in(USER)
    newer = await registered(server, alice, client_name="App 2")
    assert newer.client_id != oauth2.client_id
    again = await newer.sign_in(USER)
    assert not await oauth2.works(tokens["access_token"])
    assert (await oauth2.refresh(tokens["refresh_token"])).status == 400
    assert await oauth2.works(again["access_token"])


async def test_a_device_that_somebody_took_meanwhile(oauth2: OAuth2, alice: Api) -> None:
    """Between the consent and the token request the user may have signed in elsewhere as that device: it stays."""
    code = await oauth2.code(USER)
    other = await alice.as_token(None).login("alice", device_id="PHONE12345")
    assert (await oauth2.exchange(code)).body["error"] == "invalid_grant"
    assert (await other.get("/account/whoami")).status == 200


async def test_a_spent_refresh_token_ends_the_session(oauth2: OAuth2) -> None:
    """Rotation as with /refresh: a retry is fine, a token whose successor was used ends everything.

    # spec: client-server-api/#refresh-token-grant
    """
    tokens = await oauth2.sign_in(USER)
    assert (await oauth2.refresh(tokens["refresh_token"])).status == 200
    new = await oauth2.refresh(tokens["refresh_token"])
    assert await oauth2.works(new.body["access_token"])
    answer = await oauth2.refresh(tokens["refresh_token"])
    assert (answer.status, answer.body["error"]) == (400, "invalid_grant")
    assert not await oauth2.works(new.body["access_token"])
    assert (await oauth2.refresh(new.body["refresh_token"])).status == 400


async def test_refresh_tokens_belong_to_their_client(server: Server, alice: Api, oauth2: OAuth2) -> None:
    """Another client can't refresh, nor can /refresh; and the token endpoint refreshes no session of /login."""
    tokens = await oauth2.sign_in(USER)
    other = await registered(server, alice, client_name="Other")
    assert (await other.refresh(tokens["refresh_token"])).body["error"] == "invalid_grant"
    assert (await oauth2.api.post("/refresh", {"refresh_token": tokens["refresh_token"]})).status == 401
    body = {"type": "m.login.password", "user": "alice", "password": PASSWORD, "refresh_token": True}
    legacy = (await oauth2.api.post("/login", body)).body
    assert (await oauth2.refresh(legacy["refresh_token"])).body["error"] == "invalid_grant"
    assert (await oauth2.refresh(tokens["refresh_token"])).status == 200
    assert (await oauth2.api.post("/refresh", {"refresh_token": legacy["refresh_token"]})).status == 200


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
@pytest.mark.parametrize("named", [True, False])
async def test_revocation_ends_session_and_device(oauth2: OAuth2, kind: str, named: bool) -> None:
    """Either token ends both and the device, with or without the client's id; what is gone already is no error.

    # spec: client-server-api/#token-revocation
    """
    tokens = await oauth2.sign_in(USER)
    form = {"token": tokens[kind], "token_type_hint": kind} | ({"client_id": oauth2.client_id} if named else {})
    for _ in range(2):
        answer = await oauth2.post("revoke", form)
        assert (answer.status, answer.body) == (200, {})
    assert not await oauth2.works(tokens["access_token"])
    assert (await oauth2.refresh(tokens["refresh_token"])).status == 400


async def test_a_token_that_leaked_can_be_revoked_by_who_finds_it(server: Server, alice: Api, oauth2: OAuth2) -> None:
    """Another client may end a session whose token it has: it could do worse. Nonsense ends nothing."""
    tokens = await oauth2.sign_in(USER)
    other = await registered(server, alice, client_name="Other")
    assert (await other.post("revoke", {"token": "nonsense", "client_id": other.client_id})).status == 200
    assert await oauth2.works(tokens["access_token"])
    form = {"token": tokens["access_token"], "client_id": other.client_id}
    assert (await other.post("revoke", form)).status == 200
    assert not await oauth2.works(tokens["access_token"])


async def test_revocation_ends_a_long_poll(oauth2: OAuth2) -> None:
    """A client that is logged out elsewhere learns it at once."""
    tokens = await oauth2.sign_in(USER)
    api = oauth2.api.as_token(tokens["access_token"])
    since = (await api.get("/sync")).body["next_batch"]
    waiting = asyncio.create_task(api.get("/sync", query={"since": since, "timeout": "60000"}))
    async with asyncio.timeout(20):
        await oauth2.post("revoke", {"token": tokens["access_token"]})
        assert (await waiting).status == 401


async def test_bodies_of_the_wrong_form(oauth2: OAuth2) -> None:
    """What is no form, or says something twice, is refused in OAuth's words."""
    json_type = {"Content-Type": "application/json"}
    assert (await oauth2.post("token", "{}", **json_type)).body["error"] == "invalid_request"
    for body in ("", "grant_type=a&grant_type=b", b"\xff=\xfe", "client_id=%00", "a=b&" * 200):
        answer = await oauth2.post("token", body)
        assert (answer.status, answer.body["error"]) == (400, "invalid_request"), body
    assert (await oauth2.post("token", "x" * 100_000)).status == 413


async def test_confidential_clients_prove_who_they_are(server: Server, alice: Api) -> None:
    """A client that has a secret must show it, in either of the two ways, and not in both."""
    client = OAuth2(server, alice.as_token(None))
    secret_client = (await client.register(token_endpoint_auth_method="client_secret_basic")).body
    client.client_id, secret = secret_client["client_id"], secret_client["client_secret"]
    assert (await client.exchange(await client.code(USER))).body["error"] == "invalid_client"
    assert (await client.exchange(await client.code(USER), client_secret="wrong")).status == 401
    tokens = await client.exchange(await client.code(USER), client_secret=secret)
    assert tokens.status == 200
    basic = base64.b64encode(f"{client.client_id}:{secret}".encode()).decode()
    form = {"grant_type": "refresh_token", "refresh_token": tokens.body["refresh_token"]}
    assert (await client.post("token", form)).body["error"] == "invalid_request"
    for header in (f"Basic {basic}x", "Basic !", "Basic", "Digest x", "Bearer x"):
        wrong = await client.post("token", form, Authorization=header)
        assert (wrong.status, wrong.body["error"]) == (401, "invalid_client"), header
        assert "WWW-Authenticate" in wrong.headers
    both = await client.post("token", {**form, "client_secret": secret}, Authorization=f"Basic {basic}")
    assert both.body["error"] == "invalid_request"
    assert (await client.post("token", form, Authorization=f"Basic {basic}")).status == 200
    revoked = await client.post("revoke", {"token": tokens.body["access_token"], "client_id": client.client_id})
    assert (revoked.status, revoked.body["error"]) == (401, "invalid_client")


async def test_what_could_become_a_session_ends_with_all_of_them(oauth2: OAuth2, alice: Api) -> None:
    """After /logout/all a code that was given before, or a device that was agreed to, is worth nothing."""
    code = await oauth2.code(USER)
    device = (await oauth2.begin_device()).body
    await oauth2.answer_device(device["user_code"], USER)
    assert (await alice.post("/logout/all")).status == 200
    assert (await oauth2.exchange(code)).body["error"] == "invalid_grant"
    assert (await oauth2.poll(device["device_code"])).body["error"] == "invalid_grant"


async def test_locked_accounts_get_no_sessions(oauth2: OAuth2, database: str) -> None:
    """A code is worth nothing while the account is locked; a session that is there goes on after the lock is lifted."""
    code, tokens = await oauth2.code(USER, scope=SCOPE.replace("PHONE", "DESK")), await oauth2.sign_in(USER)
    conn = await asyncpg.connect(database)
    await conn.execute("UPDATE accounts SET locked = true")
    assert (await oauth2.exchange(code)).body["error"] == "invalid_grant"
    new = await oauth2.refresh(tokens["refresh_token"])
    refused = await oauth2.api.as_token(new.body["access_token"]).get("/account/whoami")
    assert (refused.status, refused.errcode, refused.body["soft_logout"]) == (401, "M_USER_LOCKED", True)
    await conn.execute("UPDATE accounts SET locked = false")
    await conn.close()
    newer = await oauth2.refresh(new.body["refresh_token"])
    assert await oauth2.works(newer.body["access_token"])


async def test_deactivated_accounts_get_no_tokens(oauth2: OAuth2, database: str) -> None:
    """A code that was given before is worth nothing after, and neither is a refresh token."""
    code, tokens = await oauth2.code(USER, scope=SCOPE.replace("PHONE", "DESK")), await oauth2.sign_in(USER)
    conn = await asyncpg.connect(database)
    await conn.execute("UPDATE accounts SET deactivated = true")
    await conn.close()
    assert (await oauth2.exchange(code)).body["error"] == "invalid_grant"
    assert (await oauth2.refresh(tokens["refresh_token"])).body["error"] == "invalid_grant"


async def test_services_may_ask_whose_tokens_are(database: str, tmp_path: Path) -> None:
    """A configured service finds out about a token; other clients don't, and of what is no token there is nothing."""
    services = [
        {"client_id": "asker", "client_secret": "a-secret-of-the-asker", "introspection": True},
        {"client_id": "other", "client_secret": "a-secret-of-another"},
    ]
    config = server_config(database, tmp_path, oauth2={"clients": services})
    async with running_server(config) as server, open_api(server.url) as api:
        alice = await api.register("alice")
        client = await registered(server, api)
        tokens = await client.sign_in(USER)
        asker = {"client_id": "asker", "client_secret": "a-secret-of-the-asker"}
        told = (await client.post("introspect", {"token": tokens["access_token"], **asker})).body
        assert told["active"]
        assert (told["sub"], told["username"], told["device_id"]) == (USER, "alice", "PHONE12345")
        assert (told["scope"], told["client_id"]) == (SCOPE, client.client_id)
        legacy = (await client.post("introspect", {"token": alice.token or "", **asker})).body
        assert legacy["active"]
        assert legacy["scope"] == f"urn:matrix:client:api:* urn:matrix:client:device:{alice.device_id}"
        for token in ("nonsense", tokens["refresh_token"]):
            assert (await client.post("introspect", {"token": token, **asker})).body == {"active": False}
        await client.post("revoke", {"token": tokens["access_token"]})
        gone = await client.post("introspect", {"token": tokens["access_token"], **asker})
        assert gone.body == {"active": False}
        for form in (
            {"client_id": client.client_id},
            {"client_id": "other", "client_secret": "a-secret-of-another"},
            {"client_id": "asker", "client_secret": "wrong"},
            {},
        ):
            answer = await client.post("introspect", {"token": alice.token or "", **form})
            assert answer.status in (400, 401, 403), form
            assert "active" not in answer.body


async def test_application_services_may_ask_whose_tokens_are(database: str, tmp_path: Path) -> None:
    """An application service proves with its own token that it may ask; a user's token proves nothing."""
    registration = tmp_path / "service.yaml"
    registration.write_text(
        "{id: service, url: null, as_token: as-secret, hs_token: hs-secret, sender_localpart: _service, "
        "namespaces: {users: []}}"
    )
    config = server_config(database, tmp_path, application_services=[str(registration)])
    async with running_server(config) as server, open_api(server.url) as api:
        alice = await api.register("alice")
        client = OAuth2(server, api)
        form = {"token": alice.token or ""}
        told = await client.post("introspect", form, Authorization="Bearer as-secret")
        assert (told.status, told.body["active"], told.body["sub"]) == (200, True, USER)
        refused = await client.post("introspect", form, Authorization=f"Bearer {alice.token}")
        assert (refused.status, refused.body["error"]) == (401, "invalid_client")


async def test_tokens_that_say_something(database: str, tmp_path: Path) -> None:
    """With jwt_access_tokens another service checks a token with the published key, and it still ends at once here."""
    config = server_config(database, tmp_path, oauth2={"jwt_access_tokens": True})
    async with running_server(config) as server, open_api(server.url) as api:
        await api.register("alice")
        client = await registered(server, api)
        tokens = await client.sign_in(USER)
        keys = (await api.get("/_matrix/client/v1/auth_metadata")).body["jwks_uri"]
        async with api.session.get(keys) as response:
            key = jwt.PyJWKSet.from_dict(await response.json()).keys[0]
        new = (await client.refresh(tokens["refresh_token"])).body
        for token in (tokens["access_token"], new["access_token"]):
            claims = jwt.decode(token, key, ["EdDSA"], audience="test.example", issuer=client.issuer)
            assert (claims["sub"], claims["device_id"], claims["scope"]) == (USER, "PHONE12345", SCOPE)
            assert claims["exp"] - claims["iat"] == 300
            assert jwt.get_unverified_header(token)["typ"] == "at+jwt"
        assert await client.works(new["access_token"])
        await client.post("revoke", {"token": new["access_token"]})
        assert not await client.works(new["access_token"])
        forged = jwt.encode({"sub": USER}, "x" * 32, "HS256")
        assert not await client.works(forged)
    async with running_server(config) as server, open_api(server.url) as api:
        keys = (await api.get("/_matrix/client/v1/auth_metadata")).body["jwks_uri"]
        async with api.session.get(keys) as response:
            assert (await response.json())["keys"][0]["kid"] == key.key_id
    assert (tmp_path / "oauth2_token.key").stat().st_mode & 0o077 == 0
