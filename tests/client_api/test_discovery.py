"""What an operator configures for others to find: relays for calls, whom to turn to, the policy server's key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from homeserver.config import Config
from homeserver.main import running_server
from tests.support.api import Api, open_api
from tests.support.servers import server_config

_KEY = "6yhHGKhCiXTSEN2ksjV7kXN6rBQZ3XbM7LlC6NSs0WM"


@pytest.fixture
async def configured(database: str, tmp_path: Path) -> AsyncIterator[Api]:
    """A server with everything set."""
    config = server_config(
        database,
        tmp_path,
        registration={"guests": True},
        turn={"uris": ["turn:turn.example?transport=udp"], "shared_secret": "s3cret", "lifetime_seconds": 600},
        support={
            "contacts": [{"email_address": "admin@test.example"}, {"matrix_id": "@a:b", "role": "m.role.security"}],
            "page": "https://test.example/help",
        },
        policy_server={"public_key": _KEY},
    )
    async with running_server(config) as server, open_api(server.url) as api:
        yield api


async def test_nothing_configured_is_nothing_found(api: Api, alice: Api) -> None:
    """Without settings there are no relays, and nothing at the well-known addresses."""
    assert (await alice.get("/voip/turnServer")).body == {}
    assert (await api.get("/voip/turnServer")).status == 401
    for name in ("support", "policy_server"):
        assert (await api.get(f"/.well-known/matrix/{name}")).errcode == "M_NOT_FOUND"


async def test_credentials_of_relays_are_the_users_and_end(configured: Api) -> None:
    """The name says until when and for whom, the password proves it to whoever knows the shared secret."""
    alice = await configured.register("alice")
    body = (await alice.get("/voip/turnServer")).body
    until, _, user_id = body["username"].partition(":")
    assert user_id == alice.user_id
    assert 590 < int(until) - time.time() <= 600
    expected = hmac.new(b"s3cret", body["username"].encode(), hashlib.sha1).digest()
    assert base64.b64decode(body["password"]) == expected
    assert body["uris"] == ["turn:turn.example?transport=udp"]
    assert body["ttl"] == 600


async def test_guests_get_relays_only_if_told(configured: Api) -> None:
    """Relays cost the operator traffic, so guests get none by default."""
    guest = (await configured.post("/register?kind=guest", {})).body
    assert (await configured.as_token(guest["access_token"]).get("/voip/turnServer")).body == {}


async def test_well_known_support_and_policy_server(configured: Api) -> None:
    """Both are public, and say what the operator has set."""
    assert (await configured.get("/.well-known/matrix/support")).body == {
        "contacts": [
            {"email_address": "admin@test.example", "role": "m.role.admin"},
            {"matrix_id": "@a:b", "role": "m.role.security"},
        ],
        "support_page": "https://test.example/help",
    }
    answer = await configured.get("/.well-known/matrix/policy_server")
    assert answer.body == {"public_keys": {"ed25519": _KEY}}
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    "settings",
    [
        {"turn": {"uris": ["turn:x"]}},
        {"turn": {"uris": ["https://x"], "shared_secret": "s"}},
        {"turn": {"uris": ["turn:x"], "username": "u"}},
        {"support": {"contacts": [{"role": "m.role.admin"}]}},
    ],
)
def test_half_a_configuration_is_refused(settings: dict[str, object]) -> None:
    """Relays without credentials and contacts that can't be contacted are mistakes that the operator is told of."""
    with pytest.raises(ValidationError):
        Config.model_validate(settings)
