"""What OAuth 2.0 clients find out, and how they register.

# spec: client-server-api/#client-registration
"""

from __future__ import annotations

import json
from pathlib import Path

import asyncpg
import pytest

from homeserver.main import Server, running_server
from tests.support.api import Api, open_api
from tests.support.oauth2 import METADATA, OAuth2, registered
from tests.support.servers import server_config

_METADATA_PATH = "/_matrix/client/v1/auth_metadata"


@pytest.fixture
async def oauth2(server: Server, api: Api) -> OAuth2:
    """A client of `server` that has not registered."""
    return OAuth2(server, api)


async def test_the_metadata_is_found_everywhere(api: Api, server: Server) -> None:
    """The stable path, that of the proposal and those of the RFCs tell the same."""
    answer = await api.get(_METADATA_PATH)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "public, max-age=600"
    assert answer.body["issuer"] == f"{server.url}/"
    for key, value in answer.body.items():
        if key.endswith(("_endpoint", "_uri")):
            assert value.startswith(f"{server.url}/"), key
    for path in (
        "/_matrix/client/unstable/org.matrix.msc2965/auth_metadata",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
    ):
        assert (await api.get(path)).body == answer.body
    issuer = await api.get("/_matrix/client/unstable/org.matrix.msc2965/auth_issuer")
    assert issuer.body == {"issuer": answer.body["issuer"]}


async def test_the_endpoints_of_the_metadata_are_there(api: Api) -> None:
    """Whatever address the metadata names for programs answers."""
    metadata = (await api.get(_METADATA_PATH)).body
    for name in ("token", "revocation", "registration", "introspection", "device_authorization"):
        async with api.session.post(metadata[f"{name}_endpoint"], data=b"") as response:
            assert response.status == 400, name
            assert "error" in await response.json()
    async with api.session.get(metadata["jwks_uri"]) as response:
        assert await response.json() == {"keys": []}


async def test_the_configured_address_is_told(database: str, tmp_path: Path) -> None:
    """With public_baseurl every address begins with that, however the request came."""
    config = server_config(database, tmp_path, public_baseurl="https://matrix.example.org/base/")
    async with running_server(config) as server, open_api(server.url) as api:
        body = (await api.get(_METADATA_PATH, headers={"Host": "evil.example"})).body
        assert body["issuer"] == "https://matrix.example.org/base/"
        assert body["token_endpoint"] == "https://matrix.example.org/base/oauth2/token"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "localhost"},
        {"Host": "127.0.0.1:1"},
        {"X-Forwarded-For": "192.0.2.1"},
        {"X-Forwarded-Host": "matrix.example.org"},
    ],
)
async def test_without_an_address_there_is_no_oauth(api: Api, headers: dict[str, str]) -> None:
    """An address that the request made up is told to nobody, and clients sign in as ever where none is known."""
    answer = await api.get(_METADATA_PATH, headers=headers)
    assert (answer.status, answer.errcode) == (404, "M_UNRECOGNIZED")
    flows = [flow["type"] for flow in (await api.get("/login", headers=headers)).body["flows"]]
    assert "m.login.password" in flows


async def test_it_can_be_switched_off(database: str, tmp_path: Path) -> None:
    """Without oauth2.enabled none of its endpoints is there."""
    async with (
        running_server(server_config(database, tmp_path, oauth2={"enabled": False})) as server,
        open_api(server.url) as api,
    ):
        assert (await api.get(_METADATA_PATH)).errcode == "M_UNRECOGNIZED"
        client = OAuth2(server, api)
        assert (await client.register()).status == 404
        assert (await client.exchange("code")).status == 404


async def test_registration_can_be_switched_off(database: str, tmp_path: Path) -> None:
    """Without oauth2.registration only the clients of the configuration sign people in."""
    uri = "https://portal.example/callback"
    services = [{"client_id": "portal", "client_secret": "a-secret-of-the-portal", "redirect_uris": [uri]}]
    config = server_config(database, tmp_path, oauth2={"registration": False, "clients": services})
    async with running_server(config) as server, open_api(server.url) as api:
        await api.register("alice")
        client = OAuth2(server, api, "portal")
        assert (await client.register()).status == 403
        code = await client.code("@alice:test.example", redirect_uri=uri)
        assert (await client.exchange(code, redirect_uri=uri)).status == 401
        code = await client.code("@alice:test.example", redirect_uri=uri)
        secret = "a-secret-of-the-portal"
        tokens = await client.exchange(code, redirect_uri=uri, client_secret=secret)
        assert tokens.status == 200
        assert await client.works(tokens.body["access_token"])
        assert (await client.refresh(tokens.body["refresh_token"], client_secret=secret)).status == 200


async def test_a_client_registers(oauth2: OAuth2) -> None:
    """The answer has an id and what was registered; what means nothing here is left out."""
    answer = await oauth2.register(
        **{
            "client_name#fr": "Appli",
            "logo_uri": "https://cdn.app.example/logo.png",
            "grant_types": [*METADATA["grant_types"], "urn:ietf:params:oauth:grant-type:token-exchange"],
            "response_types": ["code", "id_token"],
            "contacts": ["a@b"],
            "x": {"y": []},
        }
    )
    assert answer.status == 201
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.body
    assert body.pop("client_id")
    assert body.pop("client_id_issued_at") > 1_700_000_000
    assert body == {**METADATA, "logo_uri": "https://cdn.app.example/logo.png"}


async def test_equal_clients_share_a_registration(oauth2: OAuth2, database: str) -> None:
    """Clients register before every sign-in: that must not fill the database."""
    ids = {(await oauth2.register()).body["client_id"] for _ in range(3)}
    ids |= {(await oauth2.register(contacts=["a@b"])).body["client_id"]}
    assert len(ids) == 1
    assert (await oauth2.register(client_name="Other")).body["client_id"] not in ids
    secret = [(await oauth2.register(token_endpoint_auth_method="client_secret_post")).body for _ in range(2)]
    assert len({body["client_id"] for body in secret}) == len({body["client_secret"] for body in secret}) == 2
    conn = await asyncpg.connect(database)
    stored = await conn.fetchval("SELECT string_agg(c::text, ' ') FROM oauth2_clients c")
    await conn.close()
    assert secret[0]["client_secret"] not in stored


async def test_clients_without_a_session_are_forgotten(server: Server, alice: Api, database: str) -> None:
    """After some time, when another registers; those with a session stay."""
    used = await registered(server, alice)
    await used.sign_in("@alice:test.example")
    unused = await registered(server, alice, client_name="Unused")
    conn = await asyncpg.connect(database)
    await conn.execute("UPDATE oauth2_clients SET used_ts = 1")
    await registered(server, alice, client_name="New")
    left = {row["client_id"] for row in await conn.fetch("SELECT client_id FROM oauth2_clients")}
    await conn.close()
    assert used.client_id in left
    assert unused.client_id not in left


_NATIVE = {"application_type": "native", "client_uri": "https://example.com/"}
_WEB = {"application_type": "web", "client_uri": "https://example.com/"}


@pytest.mark.parametrize(
    ("kind", "uri"),
    [
        (_WEB, "https://example.com/callback"),
        (_WEB, "https://app.example.com/callback"),
        (_WEB, "https://example.com:5173/?query=value"),
        ({**_WEB, "application_type": None}, "https://example.com/"),
        (_NATIVE, "com.example.app:/callback"),
        (_NATIVE, "com.example:/"),
        (_NATIVE, "com.example:callback"),
        (_NATIVE, "http://localhost/callback"),
        (_NATIVE, "http://127.0.0.1/callback"),
        (_NATIVE, "http://[::1]/callback"),
        (_NATIVE, "http://127.0.0.1"),
        (_NATIVE, "https://app.example.com/callback"),
    ],
)
async def test_addresses_that_a_client_may_have(oauth2: OAuth2, kind: dict[str, object], uri: str) -> None:
    """Those that the specification names as valid, and their like.

    # spec: client-server-api/#redirect-uri-validation
    """
    answer = await oauth2.register(**kind, redirect_uris=[uri])
    assert (answer.status, answer.body["redirect_uris"]) == (201, [uri])


@pytest.mark.parametrize(
    ("kind", "uri"),
    [
        (_WEB, "https://example.com/callback#fragment"),
        (_WEB, "https://example.com/callback#"),
        (_WEB, "http://example.com/callback"),
        (_WEB, "http://localhost/"),
        (_WEB, "com.example.app:/callback"),
        (_WEB, "https://user@example.com/callback"),
        (_WEB, "https://user:pass@example.com/callback"),
        (_WEB, "https://example.com@evil.org/"),
        (_WEB, "https://example.com\\@evil.org/"),
        (_WEB, "https://evil.org/?https://example.com/"),
        (_WEB, "https://example.com.evil.org/"),
        (_WEB, "https://evilexample.com/"),
        (_WEB, "https://com/"),
        (_WEB, "https://.example.com/"),
        (_WEB, "https://EXAMPLE.com/"),
        (_WEB, "HTTPS://example.com/"),
        (_WEB, "https://example.com:99999/"),
        (_WEB, "https://example.com:/"),
        (_WEB, "https://example.com:0443/"),
        (_WEB, "https://example.com/a b"),
        (_WEB, "https://example.com/\u202e"),
        (_WEB, "https://ex\u0430mple.com/"),
        (_WEB, "https:///callback"),
        (_WEB, "https:example.com"),
        (_WEB, "//example.com/"),
        (_WEB, ""),
        (_WEB, "https://example.com/" + "x" * 2048),
        ({**_WEB, "client_uri": "https://localhost/"}, "https://app.localhost/"),
        ({**_WEB, "client_uri": "https://192.0.2.1/"}, "https://a.192.0.2.1/"),
        (_NATIVE, "example:/callback"),
        (_NATIVE, "com.example.app://callback"),
        (_NATIVE, "com.examples:/callback"),
        (_NATIVE, "com:/callback"),
        (_NATIVE, "com.example:"),
        (_NATIVE, "https://localhost/callback"),
        (_NATIVE, "http://localhost:1234/callback"),
        (_NATIVE, "http://localhost.evil.org/callback"),
        (_NATIVE, "http://127.0.0.1@evil.org/callback"),
        (_NATIVE, "http://192.168.0.1/callback"),
        (_NATIVE, "http://0.0.0.0/callback"),
        (_NATIVE, "javascript:alert(1)"),
        (_NATIVE, "data:text/html,x"),
        (_NATIVE, "file:///etc/passwd"),
    ],
)
async def test_addresses_that_no_client_may_have(oauth2: OAuth2, kind: dict[str, object], uri: str) -> None:
    """Those that the specification names as invalid, and those that browsers and servers read differently."""
    answer = await oauth2.register(**kind, redirect_uris=["https://example.com/good", uri])
    assert (answer.status, answer.body["error"]) == (400, "invalid_redirect_uri")


@pytest.mark.parametrize(
    "metadata",
    [
        {"client_uri": None},
        {"client_uri": "http://app.example/"},
        {"client_uri": "https://user@app.example/"},
        {"client_uri": "app.example"},
        {"client_uri": 5},
        {"client_uri": ["https://app.example/"]},
        {"client_name": 5},
        {"client_name": "x" * 300},
        {"client_name": "Element\u202e"},
        {"client_name": "a\nb"},
        {"client_name": "\ud800"},
        {"logo_uri": "https://evil.example/logo.png"},
        {"logo_uri": "http://app.example/logo.png"},
        {"tos_uri": "javascript:alert(1)"},
        {"policy_uri": "https://app.example.evil.org/"},
        {"application_type": "desktop"},
        {"token_endpoint_auth_method": "private_key_jwt"},
        {"grant_types": []},
        {"grant_types": ["password"]},
        {"grant_types": "authorization_code"},
        {"grant_types": ["authorization_code"] * 51},
        {"grant_types": [5]},
        {"response_types": ["token"]},
        {"redirect_uris": None},
        {"redirect_uris": []},
        {"redirect_uris": "https://app.example/"},
        {"redirect_uris": [None]},
        {"redirect_uris": [f"https://app.example/{number}" for number in range(21)]},
    ],
)
async def test_hostile_metadata(oauth2: OAuth2, metadata: dict[str, object]) -> None:
    """What is wrong, endless or made to deceive is refused, and nothing is registered."""
    answer = await oauth2.register(**metadata)
    assert answer.status == 400, answer
    assert answer.body["error"] in ("invalid_client_metadata", "invalid_redirect_uri")
    async with oauth2.server.services.pool.acquire() as conn:
        assert await conn.fetchval("SELECT count(*) FROM oauth2_clients") == 0


async def test_registrations_of_the_wrong_form(oauth2: OAuth2) -> None:
    """What is no JSON object, or is very large, is refused."""
    json_type = {"Content-Type": "application/json"}
    for body in ("", "[]", "{", "null", "5", b"\xff"):
        answer = await oauth2.post("register", body, **json_type)
        assert (answer.status, answer.body["error"]) == (400, "invalid_client_metadata"), body
    large = json.dumps({**METADATA, "x": "y" * 100_000})
    assert (await oauth2.post("register", large, **json_type)).status == 413


async def test_registrations_are_limited(database: str, tmp_path: Path) -> None:
    """An address can't register without end; clients take that for a reason to try later and not to log out."""
    limits = {"enabled": True, "oauth2_registration": {"per_second": 0.01, "burst": 3}}
    config = server_config(database, tmp_path, rate_limits=limits)
    async with running_server(config) as server, open_api(server.url) as api:
        client = OAuth2(server, api)
        answers = [await client.register(client_name=f"App {number}") for number in range(5)]
        assert [answer.status for answer in answers] == [201, 201, 201, 429, 429]
        assert answers[-1].errcode == "M_LIMIT_EXCEEDED"
