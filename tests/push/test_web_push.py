"""Web Push: a browser that registers straight with this server (MSC4174, RFC 8030, RFC 8291, RFC 8292)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from homeserver.main import Server, running_server
from homeserver.push import sender as sender_module
from homeserver.push.web_push import encrypt_message
from homeserver.secrets import loose_permissions
from tests.support.api import Api
from tests.support.servers import server_config
from tests.support.web_push import PushService, base64url, decrypt, push_service, unbase64url


@pytest.fixture
async def server(database: str, tmp_path: Path) -> AsyncIterator[Server]:
    """A running server that may connect to push services on loopback."""
    settings: dict[str, Any] = {"federation": {"allow_addresses": ["127.0.0.0/8"], "allow_domains": []}}
    async with running_server(server_config(database, tmp_path, **settings)) as server:
        yield server


@pytest.fixture
async def service(alice: Api) -> AsyncIterator[PushService]:
    capability = (await alice.get("/capabilities")).body["capabilities"]["m.webpush"]
    assert capability["enabled"] is True
    async with push_service(capability["vapid"]) as service:
        yield service


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are tried again soon."""
    monkeypatch.setattr(sender_module, "RETRY_MS", 50)


async def _set(api: Api, body: dict[str, Any]) -> int:
    """The status, which the released specification doesn't know."""
    headers = {"Authorization": f"Bearer {api.token}"}
    url = f"{api.url}/_matrix/client/v3/pushers/set"
    async with api.session.post(url, json=body, headers=headers) as response:
        return response.status


async def _room(alice: Api, bob: Api, **fields: Any) -> str:
    room_id: str = (await alice.post("/createRoom", {"preset": "public_chat", **fields})).body["room_id"]
    assert (await bob.post(f"/join/{quote(room_id)}", {})).status == 200
    return room_id


async def _say(api: Api, room_id: str, body: str) -> str:
    path = f"/rooms/{quote(room_id)}/send/m.room.message/{abs(hash(body))}"
    answer = await api.put(path, {"msgtype": "m.text", "body": body})
    assert answer.status == 200, answer
    event_id: str = answer.body["event_id"]
    return event_id


async def _subscribe(api: Api, service: PushService) -> None:
    assert await _set(api, service.pusher()) == 201
    ack = (await service.count(1))[0]
    assert (await api.post("/pushers/ack", ack)).status == 200
    service.messages.clear()
    service.headers.clear()
    service.sizes.clear()


def test_messages_are_encrypted_as_in_the_rfc() -> None:
    """The example of RFC 8291, section 5, comes out byte for byte, and the receiver reads it."""
    sender = _private("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw")
    receiver = unbase64url("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4")
    auth, salt = unbase64url("BTBZMqHH6r4Tts7J_aSIgg"), unbase64url("DGv6ra1nlYgDCS1FRnbzlw")
    text = b"When I grow up, I want to be a watermelon"
    body = encrypt_message(text, receiver, auth, sender=sender, salt=salt)
    assert base64url(body) == (
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A"
        "_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )
    assert decrypt(body, _private("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"), auth) == text


def _private(text: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(unbase64url(text), "big"), ec.SECP256R1())


async def test_a_browser_is_told_after_it_has_said_the_token(alice: Api, service: PushService, tmp_path: Path) -> None:
    """Nothing but the token comes before; afterwards messages do, encrypted and signed by this server's own key."""
    bob = await alice.as_token(None).register("bob")
    room_id = await _room(alice, bob, name="Mission Control")
    assert await _set(bob, service.pusher()) == 201
    ack = (await service.count(1))[0]
    assert ack["app_id"] == "org.example.web"
    [shown] = (await bob.get("/pushers")).body["pushers"]
    assert (shown["kind"], shown["activated"]) == ("webpush", False)
    await _say(alice, room_id, "too early")
    assert (await bob.post("/pushers/ack", {**ack, "ack_token": "another"})).errcode == "M_UNKNOWN_ACTIVATION_TOKEN"
    assert (await alice.post("/pushers/ack", ack)).errcode == "M_NOT_FOUND"
    assert (await bob.post("/pushers/ack", ack)).status == 200
    assert (await bob.get("/pushers")).body["pushers"][0]["activated"] is True
    assert (await bob.post("/pushers/ack", {**ack, "ack_token": ""})).errcode == "M_UNKNOWN_ACTIVATION_TOKEN"
    event_id = await _say(alice, room_id, "hello")
    told = (await service.count(2))[1]
    assert (told["event_id"], told["room_id"], told["room_name"]) == (event_id, room_id, "Mission Control")
    assert (told["app_id"], told["content"]["body"]) == ("org.example.web", "hello")
    assert told["counts"] == {"unread": 2}
    assert "devices" not in told
    assert service.headers[1]["Topic"] != service.headers[0]["Topic"]
    assert int(service.headers[1]["TTL"]) > 0
    # Set again as it was, it stays as it is; with another secret it has to be activated again.
    assert await _set(bob, service.pusher()) == 200
    assert (await bob.get("/pushers")).body["pushers"][0]["activated"] is True
    service.auth = b"fedcba9876543210"
    assert await _set(bob, service.pusher()) == 201
    assert (await service.count(3))[2].keys() == {"app_id", "ack_token"}
    assert loose_permissions(tmp_path / "vapid.key") is None


async def test_a_token_is_good_for_a_while_only(alice: Api, service: PushService, server: Server) -> None:
    """What comes back too late activates nothing; the client sets the pusher again and is sent another."""
    assert await _set(alice, service.pusher()) == 201
    ack = (await service.count(1))[0]
    async with server.services.pool.acquire() as conn:
        await conn.execute("UPDATE pushers SET ack_expires_ts = 1")
    assert (await alice.post("/pushers/ack", ack)).errcode == "M_EXPIRED_ACTIVATION_TOKEN"
    assert await _set(alice, service.pusher()) == 201
    fresh = (await service.count(2))[1]
    assert fresh["ack_token"] != ack["ack_token"]
    assert (await alice.post("/pushers/ack", fresh)).status == 200


async def test_what_is_too_long_for_a_service_goes_without_its_content(alice: Api, service: PushService) -> None:
    """No message is longer than 4096 bytes; of a long one the browser is told which event it is."""
    bob = await alice.as_token(None).register("bob")
    room_id = await _room(alice, bob)
    await _subscribe(bob, service)
    event_id = await _say(alice, room_id, "ї" * 10_000)
    [told] = await service.count(1)
    assert told["event_id"] == event_id
    assert "content" not in told
    await _say(alice, room_id, "x" * 3_300)
    assert "content" in (await service.count(2))[1]
    assert max(service.sizes) <= 4096


@pytest.mark.parametrize("status", [404, 410, 403])
async def test_a_subscription_that_has_ended_is_forgotten(alice: Api, service: PushService, status: int) -> None:
    """Once the service says that there is nobody, the pusher is gone."""
    bob = await alice.as_token(None).register("bob")
    room_id = await _room(alice, bob)
    await _subscribe(bob, service)
    service.status = status
    await _say(alice, room_id, "is anybody there?")
    await service.count(1)
    for _ in range(200):
        if not (await bob.get("/pushers")).body["pushers"]:
            break
    assert (await bob.get("/pushers")).body["pushers"] == []


async def test_a_service_that_is_busy_is_asked_again(alice: Api, service: PushService) -> None:
    """A message that was not taken comes again, with the same topic."""
    bob = await alice.as_token(None).register("bob")
    room_id = await _room(alice, bob)
    await _subscribe(bob, service)
    service.status = 429
    event_id = await _say(alice, room_id, "once more")
    await service.count(2)
    service.status = 201
    seen = len(service.messages)
    await service.count(seen + 1)
    assert {one["event_id"] for one in service.messages} == {event_id}
    assert len({one["Topic"] for one in service.headers}) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"pushkey": "key"},
        {"pushkey": "B" + "A" * 86},
        {"data": {"url": "https://push.example.org/x"}},
        {"data": {"url": "https://push.example.org/x", "auth": "short"}},
        {"data": {"auth": "A" * 22}},
        {"data": {"url": "http://push.example.org/x", "auth": "A" * 22}},
        {"data": {"url": "https://10.0.0.1/x", "auth": "A" * 22}},
    ],
)
async def test_what_is_no_subscription_is_refused(alice: Api, service: PushService, changes: dict[str, Any]) -> None:
    """Keys that are none, and addresses where this server sends nothing."""
    answer = await alice.post("/pushers/set", service.pusher(**changes))
    assert (answer.status, answer.errcode in ("M_INVALID_PARAM", "M_MISSING_PARAM")) == (400, True), answer
    assert (await alice.get("/pushers")).body["pushers"] == []
