"""Who may ask: signatures of requests, the operator's lists, rate limits; and the keys that all rests on."""

from __future__ import annotations

import time
from typing import Any

import pytest

from federation.signed_requests import sign_request
from homeserver.protocol.canonical_json import encode_canonical_json
from homeserver.protocol.events import JsonObject
from homeserver.protocol.signing import SigningKey, check_signed_json, generate_signing_key
from homeserver.remote import RemoteError
from tests.support.api import Answer, open_api
from tests.support.federating import Network, Node


async def _call(to: Node, method: str, path: str, authorization: list[str], content: Any = None) -> Answer:
    """Asks on the federation listener, which the test reaches on its own port without TLS checks of names."""
    body = None if content is None else encode_canonical_json(content, strict=False)
    async with open_api(to.federation_url) as api:
        headers = [("Authorization", one) for one in authorization]
        async with api.session.request(
            method, to.federation_url + path, data=body, headers=headers, ssl=False
        ) as response:
            return Answer(response.status, await response.json(), response.headers)


def _sign(
    by: Node, to: Node, method: str, path: str, content: Any = None, *, key: SigningKey | None = None, **names: str
) -> str:
    origin, destination = names.get("origin", by.name), names.get("destination", to.name)
    return sign_request(method, path, origin, destination, key or by.services.signing_key, content)


async def test_requests_must_be_signed_by_their_origin_for_this_server(network: Network) -> None:
    """Without signature, with that of another key, for another server, another path or another body: 401."""
    one, two = await network.server(), await network.server()
    path = "/_matrix/federation/v1/send/1"
    body = {"origin": two.name, "pdus": []}
    refused = {
        "unsigned": [],
        "nonsense": ["X-Matrix nonsense"],
        "another scheme": ["Bearer token"],
        "another key": [_sign(two, one, "PUT", path, body, key=generate_signing_key())],
        "another server": [_sign(two, one, "PUT", path, body, destination="else.example")],
        "another path": [_sign(two, one, "PUT", path + "2", body)],
        "another method": [_sign(two, one, "POST", path, body)],
        "another body": [_sign(two, one, "PUT", path, {**body, "pdus": [{}]})],
        "no body": [_sign(two, one, "PUT", path)],
        "another origin": [_sign(two, one, "PUT", path, body, origin=one.name)],
        "two origins": [_sign(two, one, "PUT", path, body), _sign(two, one, "PUT", path, body, origin=one.name)],
    }
    for name, authorization in refused.items():
        answer = await _call(one, "PUT", path, authorization, body)
        assert (answer.status, answer.errcode) == (401, "M_UNAUTHORIZED"), name
    answer = await _call(one, "PUT", path, [_sign(two, one, "PUT", path, body)], body)
    assert answer.status == 200, answer
    # During a change of keys a server signs with both; one that is good suffices.
    both = [_sign(two, one, "PUT", path, body, key=generate_signing_key()), _sign(two, one, "PUT", path, body)]
    assert (await _call(one, "PUT", path, both, body)).status == 200


async def test_the_operators_lists_hold_for_what_comes_in(network: Network) -> None:
    """A server that is denied, or not among those allowed, is refused."""
    two = await network.server()
    closed = await network.server(federation={"deny_domains": [two.name]})
    elsewhere = await network.server(federation={"allow_domains": ["else.example"]})
    off = await network.server(federation={"enabled": False})
    path = "/_matrix/federation/v1/query/profile?user_id=%40alice%3Alocalhost"
    for to in (closed, elsewhere, off):
        answer = await _call(to, "GET", path, [_sign(two, to, "GET", path)])
        assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")


async def test_a_server_that_asks_too_often_is_told_to_wait(network: Network) -> None:
    """Requests are counted for each origin."""
    limits = {"enabled": True, "federation": {"per_second": 0.01, "burst": 3}}
    one, two = await network.server(rate_limits=limits), await network.server()
    for _ in range(3):
        with pytest.raises(RemoteError) as refused:
            await two.remote.query_profile(one.name, f"@nobody:{one.name}")
        assert refused.value.peer_status == 404
    with pytest.raises(RemoteError) as refused:
        await two.remote.query_profile(one.name, f"@nobody:{one.name}")
    assert (refused.value.peer_status, refused.value.peer_errcode) == (429, "M_LIMIT_EXCEEDED")


async def test_a_transaction_that_is_too_long_is_refused(network: Network) -> None:
    """At most 50 events and 100 EDUs, both in arrays."""
    one, two = await network.server(), await network.server()
    too_long: list[JsonObject] = [{"pdus": [{}] * 51}, {"pdus": [], "edus": [{}] * 101}]
    for content in (*too_long, {"pdus": {}}, {"pdus": [], "edus": "x"}):
        with pytest.raises(RemoteError) as refused:
            await two.remote.send_transaction(one.name, "long", content)
        assert refused.value.peer_status == 400


async def test_own_keys_are_published_and_signed(network: Network) -> None:
    """The keys that sign now and those that signed before, valid for a while, signed by the current one."""
    old = {"key_id": "ed25519:old", "public_key": generate_signing_key().verify_key_base64, "expired_ts": 5}
    one = await network.server(old_signing_keys=[old])
    key = one.services.signing_key
    for path in ("/_matrix/key/v2/server", "/_matrix/key/v2/server/ed25519:any"):
        answer = (await _call(one, "GET", path, [])).body
        assert answer["server_name"] == one.name
        assert answer["verify_keys"] == {key.key_id: {"key": key.verify_key_base64}}
        assert answer["old_verify_keys"] == {"ed25519:old": {"key": old["public_key"], "expired_ts": 5}}
        assert answer["valid_until_ts"] > time.time() * 1000
        check_signed_json(answer, one.name, key.key_id, key.verify_key)


async def test_a_notary_vouches_for_the_keys_of_others(network: Network) -> None:
    """Asked for another server's keys, this one fetches them and adds its signature; of one that is silent, nothing."""
    one, two = await network.server(), await network.server()
    key, notary_key = two.services.signing_key, one.services.signing_key
    query: JsonObject = {"server_keys": {two.name: {}, "silent.invalid": {}, one.name: {}}}
    posted = (await _call(one, "POST", "/_matrix/key/v2/query", [], query)).body["server_keys"]
    fetched = (await _call(one, "GET", f"/_matrix/key/v2/query/{two.name}", [])).body["server_keys"]
    assert {answer["server_name"] for answer in posted} == {one.name, two.name}
    for answer in [*fetched, *(answer for answer in posted if answer["server_name"] == two.name)]:
        assert answer["verify_keys"] == {key.key_id: {"key": key.verify_key_base64}}
        check_signed_json(answer, two.name, key.key_id, key.verify_key)
        check_signed_json(answer, one.name, notary_key.key_id, notary_key.verify_key)
    malformed: list[JsonObject] = [{}, {"server_keys": []}, {"server_keys": {"no name": {}}}]
    for wrong in (*malformed, {"server_keys": {two.name: []}}):
        assert (await _call(one, "POST", "/_matrix/key/v2/query", [], wrong)).status == 400


async def test_the_version_is_told(network: Network) -> None:
    """Anyone may know what software this is."""
    one = await network.server()
    answer = await _call(one, "GET", "/_matrix/federation/v1/version", [])
    assert answer.body["server"]["name"] == "Talk pAI"
