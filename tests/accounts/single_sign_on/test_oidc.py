"""Who has come back from a provider: only what it has properly signed, for us, now and for this sign-in, counts."""

from __future__ import annotations

import time
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from homeserver.accounts.single_sign_on.oidc import OidcProvider
from homeserver.accounts.single_sign_on.provider import Identity, Login, SingleSignOnFailed
from homeserver.config.single_sign_on import ProviderConfig
from homeserver.outbound import OutboundClient
from tests.support.oidc import CLIENT_ID, CLIENT_SECRET, OidcServer, query_of, running_oidc_server

LOGIN = Login("state", "nonce", "v" * 43, "http://localhost/account/sso/there/callback")


@pytest.fixture
async def there() -> AsyncIterator[OidcServer]:
    async with running_oidc_server() as server:
        yield server


@pytest.fixture
async def outbound() -> AsyncIterator[OutboundClient]:
    client = OutboundClient(allow=["127.0.0.0/8"])
    yield client
    await client.close()


@pytest.fixture
def provider(there: OidcServer, outbound: OutboundClient) -> OidcProvider:
    return OidcProvider(config(there), outbound)


def config(there: OidcServer, **values: Any) -> ProviderConfig:
    common = {"id": "there", "issuer": there.issuer, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    return ProviderConfig.model_validate({**common, **values})


async def come_back(there: OidcServer, provider: OidcProvider, **changes: str) -> Identity:
    address = await provider.address(LOGIN, again=False)
    answer = query_of(there.answer(query_of(address)))
    return await provider.identify(LOGIN, {**answer, **changes})


async def test_a_person_is_who_the_provider_says(there: OidcServer, provider: OidcProvider) -> None:
    """Subject, names and a checked address come from the ID token and, for what it leaves out, from the userinfo."""
    there.person |= {"preferred_username": "Alice", "sid": "s1"}
    there.user_info = {"name": "Alice A.", "email": "Alice@Example.org", "email_verified": True}
    assert await come_back(there, provider) == Identity("alice-there", "Alice", "Alice A.", "alice@example.org", "s1")
    assert there.asked[0]["scope"] == "openid profile email"


async def test_an_address_that_is_not_checked_is_none(there: OidcServer, provider: OidcProvider) -> None:
    """What somebody merely typed in there says nothing about whose address it is."""
    there.person |= {"email": "boss@example.org"}
    assert (await come_back(there, provider)).email is None


@pytest.mark.parametrize(
    "lies",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "somebody-else"},
        {"aud": ["somebody-else", CLIENT_ID]},
        {"aud": [CLIENT_ID, "somebody-else"], "azp": "somebody-else"},
        {"aud": None},
        {"nonce": "of another sign-in"},
        {"nonce": None},
        {"nonce": ["nonce"]},
        {"exp": 1},
        {"exp": "soon"},
        {"exp": None},
        {"iat": None},
        {"nbf": int(time.time()) + 3600},
        {"sub": None},
        {"sub": ""},
        {"sub": ["alice-there"]},
        {"sub": "a\0b"},
        {"at_hash": "AAAA"},
    ],
)
async def test_a_token_that_says_something_wrong_is_refused(
    there: OidcServer, provider: OidcProvider, lies: dict[str, Any]
) -> None:
    """An ID token of another issuer, for another client or sign-in, expired or malformed proves nothing."""
    there.lies = lies
    with pytest.raises(SingleSignOnFailed):
        await come_back(there, provider)


def _other_key(there: OidcServer) -> None:
    there.signing_key = RSAKey.generate_key(2048, {"kid": "one"})


def _client_secret(there: OidcServer) -> None:
    there.algorithm = "HS256"
    there.signing_key = OctKey.import_key(CLIENT_SECRET.ljust(32))


@pytest.mark.parametrize("forge", [_other_key, _client_secret])
async def test_a_token_that_is_not_signed_by_the_provider_is_refused(
    there: OidcServer, provider: OidcProvider, forge: Callable[[OidcServer], None]
) -> None:
    """Neither another key nor a shared secret will do."""
    forge(there)
    with pytest.raises(SingleSignOnFailed):
        await come_back(there, provider)


async def test_an_unsigned_token_is_refused(
    there: OidcServer, provider: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`alg: none` is no signature."""
    now = int(time.time())
    claims = {"iss": there.issuer, "aud": CLIENT_ID, "nonce": "nonce", "sub": "x", "iat": now, "exp": now + 60}
    with warnings.catch_warnings(action="ignore"):  # the library says that it is no signature
        token = jwt.encode({"alg": "none"}, claims, OctKey.generate_key(256), algorithms=["none"])
    monkeypatch.setattr(there, "id_token", lambda nonce: token)
    with pytest.raises(SingleSignOnFailed):
        await come_back(there, provider)


async def test_an_answer_of_another_provider_is_refused(there: OidcServer, provider: OidcProvider) -> None:
    """An answer that names another issuer is not taken, and its code is not sent anywhere (mix-up)."""
    with pytest.raises(SingleSignOnFailed):
        await come_back(there, provider, iss="https://evil.example")
    assert len(there._codes) == 1, "the code has been used"


async def test_an_answer_must_name_its_issuer_if_the_provider_says_that_it_does(
    there: OidcServer, provider: OidcProvider
) -> None:
    """Where answers name their issuer, one that names none is another's."""
    there.metadata = {"authorization_response_iss_parameter_supported": True}
    with pytest.raises(SingleSignOnFailed):
        await come_back(there, provider)
    assert (await come_back(there, provider, iss=there.issuer)).subject == "alice-there"


async def test_a_code_counts_once(there: OidcServer, provider: OidcProvider) -> None:
    """A code that has been used signs nobody in."""
    address = await provider.address(LOGIN, again=False)
    answer = query_of(there.answer(query_of(address)))
    await provider.identify(LOGIN, answer)
    with pytest.raises(SingleSignOnFailed):
        await provider.identify(LOGIN, answer)


async def test_new_keys_of_a_provider_are_fetched(there: OidcServer, provider: OidcProvider) -> None:
    """When a provider signs with a key that is not known here, its keys are asked for again, but not at will."""
    await come_back(there, provider)
    there.key = RSAKey.generate_key(2048, {"kid": "one"})
    with pytest.raises(SingleSignOnFailed):
        await come_back(there, provider)  # a moment after they were asked for
    provider._keys_at -= 3600
    assert (await come_back(there, provider)).subject == "alice-there"


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"token_endpoint": "http://login.example.org/token"},
        {"jwks_uri": None},
        {"authorization_endpoint": "https://login.example.org/\r\nx: y"},
    ],
)
async def test_a_discovery_document_that_lies_is_refused(
    there: OidcServer, provider: OidcProvider, metadata: dict[str, Any]
) -> None:
    """Another issuer's document, or one whose endpoints are not reached by TLS, is not used."""
    there.metadata = metadata
    with pytest.raises(SingleSignOnFailed):
        await provider.address(LOGIN, again=False)


async def test_claims_about_somebody_else_are_refused(there: OidcServer, provider: OidcProvider) -> None:
    """The userinfo endpoint must speak of the person whom the ID token names."""
    there.user_info = {"sub": "bob-there", "email": "bob@example.org", "email_verified": True}
    with pytest.raises(SingleSignOnFailed):
        await come_back(there, provider)


async def test_microsoft(there: OidcServer, outbound: OutboundClient) -> None:
    """Of Microsoft the issuer and the person are those of a tenant, and an address counts only if it was checked."""
    provider = OidcProvider(config(there, kind="microsoft", issuer=there.issuer), outbound)
    there.metadata = {"issuer": there.issuer + "/{tenantid}/v2.0"}
    tenant = "72f988bf-86f1-41af-91ab-2d7cd011db47"
    there.person |= {"tid": tenant, "email": "boss@example.org", "email_verified": True}
    there.lies = {"iss": f"{there.issuer}/{tenant}/v2.0"}
    found = await come_back(there, provider)
    assert (found.subject, found.email) == (f"{tenant}:alice-there", None)
    there.person["xms_edov"] = True
    assert (await come_back(there, provider)).email == "boss@example.org"
    there.lies = {"iss": f"{there.issuer}/another-tenant/v2.0"}
    with pytest.raises(SingleSignOnFailed):
        await come_back(there, provider)


async def test_apple(there: OidcServer, outbound: OutboundClient) -> None:
    """To Apple a client proves itself by a token that it signs anew, and the answer is asked for as a post."""
    there.client_key = ECKey.generate_key("P-256")
    pem = there.client_key.as_pem(private=True).decode()
    apple = {"kind": "apple", "client_secret": None, "team_id": "TEAM", "key_id": "KEY", "private_key": pem}
    provider = OidcProvider(config(there, **apple), outbound)
    there.person |= {"email": "alice@privaterelay.example", "email_verified": "true"}
    assert (await come_back(there, provider)).email == "alice@privaterelay.example"
    assert there.asked[0]["response_mode"] == "form_post"
    there.client_key = ECKey.generate_key("P-256")
    with pytest.raises(SingleSignOnFailed):
        await come_back(there, provider)


async def test_google(there: OidcServer, outbound: OutboundClient) -> None:
    """Google needs nothing but a name and a secret: the rest is known."""
    google = ProviderConfig.model_validate(
        {"id": "google", "kind": "google", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    )
    assert (google.issuer, google.name) == ("https://accounts.google.com", "Google")
    there.person |= {"email": "alice@gmail.example", "email_verified": True, "name": "Alice"}
    found = await come_back(there, OidcProvider(config(there, kind="google", issuer=there.issuer), outbound))
    assert (found.email, found.display_name) == ("alice@gmail.example", "Alice")


async def test_logout_tokens(there: OidcServer, provider: OidcProvider) -> None:
    """A logout token names a person or a session; an ID token does not pass for one."""
    told = await provider.ended(there.logout_token(sub="alice-there", sid="s1"))
    assert (told.subject, told.session_id) == ("alice-there", "s1")
    wrong: list[dict[str, Any]] = [
        {},
        {"sub": "alice-there", "nonce": "nonce"},
        {"sub": "alice-there", "events": {}},
        {"sub": "alice-there", "aud": "somebody-else"},
        {"sub": "alice-there", "exp": 1},
        {"sub": "alice-there", "exp": None},
        {"sub": "alice-there", "iss": "https://evil.example"},
    ]
    for claims in wrong:
        with pytest.raises(SingleSignOnFailed):
            await provider.ended(there.logout_token(**claims))
    with pytest.raises(SingleSignOnFailed):
        await provider.ended(there.id_token("nonce"))
