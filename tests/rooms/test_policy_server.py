"""Rooms in which a policy server vouches for events.  # spec: server-server-api/#policy-servers"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from homeserver.protocol.errors import Forbidden, MatrixError, Unavailable
from homeserver.protocol.event_builder import complete_template
from homeserver.protocol.events import Event, JsonObject, parse_event
from homeserver.protocol.room_versions import room_version
from homeserver.protocol.signing import SigningKey, generate_signing_key, sign_event
from homeserver.remote import Remote, RemoteError
from homeserver.rooms.checked_pdus import checked
from homeserver.rooms.policy_server import PolicyServer, is_recommended
from homeserver.rooms.timeline import NewEvent
from homeserver.storage.events import Status, StoredEvent
from homeserver.storage.names import Room
from homeserver.storage.transactions import ClientTransaction
from tests.support.rooms import ALICE, BOB, Rooms, rooms_on

POLICY = "policy.example"
JANITOR = f"@janitor:{POLICY}"
_VERSION = "11"
_SERVER_KEY = generate_signing_key()
_POLICY_KEY = SigningKey("policy_server", bytes(range(32)))
_CONTENT = {"via": POLICY, "public_keys": {"ed25519": _POLICY_KEY.verify_key_base64}}


class PolicyRemote:
    """Other servers: of them only the policy server answers, and refuses what says "spam"."""

    def __init__(self) -> None:
        self.asked: list[JsonObject] = []
        self.key = _POLICY_KEY
        self.failing = False
        self.answer: Any = None

    async def check_event(self, event: Event) -> None:
        return None

    def recently_failed(self, destination: str) -> bool:
        return self.failing

    async def ask_policy_server(self, destination: str, pdu: JsonObject) -> JsonObject:
        self.asked.append(pdu)
        if self.answer is not None:
            return cast(JsonObject, self.answer)
        if "spam" in str(pdu["content"]):
            body = {"errcode": "M_FORBIDDEN", "error": "That looks like spam"}
            raise RemoteError(destination, 400, "M_FORBIDDEN", "That looks like spam", body)
        signed = sign_event({**pdu, "signatures": {}}, room_version(_VERSION), POLICY, self.key)
        return {POLICY: signed["signatures"][POLICY]}


@pytest.fixture
def remote() -> PolicyRemote:
    return PolicyRemote()


@pytest.fixture
async def rooms(database: str, remote: PolicyRemote) -> AsyncIterator[Rooms]:
    async with rooms_on(database, remote=cast(Remote, remote)) as built:
        yield built


async def elsewhere(
    rooms: Rooms, room: Room, type: str, content: JsonObject, state_key: str | None = None, *, signed: bool = False
) -> StoredEvent:
    """An event of the user on the policy server's own server, as it arrives here."""
    async with rooms.pool.acquire() as conn:
        head = await rooms.timeline.head(conn, room)
        template = await rooms.timeline.template(conn, head, NewEvent(type, JANITOR, content, state_key))
    event = complete_template(template, room.version, POLICY, _SERVER_KEY)
    if signed:
        event = parse_event(sign_event(event.json, room.version, POLICY, _POLICY_KEY), room.version)
    await rooms.receiver.receive_checked(POLICY, room, checked(event))
    return await rooms.event(event.event_id)


async def guarded(rooms: Rooms) -> Room:
    """A room that uses the policy server."""
    room = await rooms.create(version=_VERSION)
    await elsewhere(rooms, room, "m.room.member", {"membership": "join"}, JANITOR)
    await rooms.set_state(room, ALICE, "m.room.policy", _CONTENT)
    return room


def vouched(stored: StoredEvent) -> bool:
    return is_recommended(stored.event, PolicyServer(POLICY, _POLICY_KEY.verify_key_base64))


async def test_events_of_ours_are_signed_before_they_are_sent(rooms: Rooms, remote: PolicyRemote) -> None:
    """Messages, state and memberships carry the policy server's signature besides that of this server."""
    room = await guarded(rooms)
    message = await rooms.event(await rooms.message(room, ALICE, "hello"))
    topic = await rooms.event(await rooms.set_state(room, ALICE, "m.room.topic", {"topic": "t"}))
    await rooms.membership.join(room.room_id, BOB)
    for stored in (message, topic):
        assert vouched(stored)
        assert stored.event.json["signatures"].keys() == {"test", POLICY}
        assert stored.status is Status.ACCEPTED
    assert await rooms.membership_of(room, BOB) == "join"
    assert [pdu["type"] for pdu in remote.asked] == ["m.room.message", "m.room.topic", "m.room.member"]
    assert message.event.event_id in topic.event.prev_events


async def test_what_the_policy_server_refuses_is_not_sent(rooms: Rooms) -> None:
    """The sender is told what the policy server said, and nothing is kept of the event."""
    room = await guarded(rooms)
    with pytest.raises(MatrixError) as refused:
        await rooms.message(room, ALICE, "spam")
    assert (refused.value.status, refused.value.errcode) == (400, "M_FORBIDDEN")
    assert refused.value.message == "That looks like spam"
    async with rooms.pool.acquire() as conn:
        assert not await conn.fetchval("SELECT EXISTS (SELECT FROM events WHERE type = 'm.room.message')")
    await rooms.message(room, ALICE, "ham")


async def test_the_policy_itself_needs_nobodys_leave(rooms: Rooms, remote: PolicyRemote) -> None:
    """The m.room.policy event with an empty state key is never put to the policy server; others of that type are."""
    room = await guarded(rooms)
    remote.failing = True
    with pytest.raises(Unavailable):
        await rooms.message(room, ALICE, "hello")
    with pytest.raises(Unavailable):
        await rooms.set_state(room, ALICE, "m.room.policy", {}, state_key="x")
    await rooms.set_state(room, ALICE, "m.room.policy", {})
    await rooms.message(room, ALICE, "hello")
    assert remote.asked == []


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"via": POLICY},
        {"via": 5, "public_keys": {"ed25519": "x"}},
        {"via": POLICY, "public_keys": []},
        {"via": POLICY, "public_keys": {"ed25519": 5}},
        {"via": "nobody.example", "public_keys": {"ed25519": "x"}},
        {"via": "\0", "public_keys": {"ed25519": "x"}},
    ],
)
async def test_an_invalid_policy_is_none(rooms: Rooms, remote: PolicyRemote, content: JsonObject) -> None:
    """Without all of its fields, or without a user of that server in the room, there is no policy server."""
    room = await guarded(rooms)
    await rooms.set_state(room, ALICE, "m.room.policy", content)
    await rooms.message(room, ALICE, "spam")
    assert remote.asked == []


async def test_the_policy_server_goes_with_its_last_user(rooms: Rooms, remote: PolicyRemote) -> None:
    """When the policy server's user leaves, events need no signature any more."""
    room = await guarded(rooms)
    await elsewhere(rooms, room, "m.room.member", {"membership": "leave"}, JANITOR, signed=True)
    await rooms.message(room, ALICE, "spam")
    assert remote.asked == []


async def test_received_events_without_its_signature_are_asked_about(rooms: Rooms, remote: PolicyRemote) -> None:
    """The missing signature is fetched and kept with the event; one that is there is enough."""
    room = await guarded(rooms)
    there = await elsewhere(rooms, room, "m.room.message", {"body": "a"}, signed=True)
    assert remote.asked == []
    fetched = await elsewhere(rooms, room, "m.room.message", {"body": "b"})
    assert len(remote.asked) == 1
    for stored in (there, fetched):
        assert stored.status is Status.ACCEPTED
        assert vouched(stored)
        assert _SERVER_KEY.key_id in stored.event.json["signatures"][POLICY]


@pytest.mark.parametrize("way", ["refused", "unreachable", "wrong key", "nonsense"])
async def test_received_events_it_does_not_vouch_for_are_soft_failed(
    rooms: Rooms, remote: PolicyRemote, way: str
) -> None:
    """An event without a good signature is not shown, and the room goes on without it."""
    room = await guarded(rooms)
    remote.failing = way == "unreachable"
    if way == "wrong key":
        remote.key = SigningKey("policy_server", bytes(32))
    if way == "nonsense":
        remote.answer = {POLICY: {"ed25519:policy_server": 7}}
    stored = await elsewhere(rooms, room, "m.room.message", {"body": "spam" if way == "refused" else "ham"})
    assert stored.status is Status.SOFT_FAILED
    assert stored.ord is None
    remote.failing, remote.key, remote.answer = False, _POLICY_KEY, None
    message = await rooms.event(await rooms.message(room, ALICE, "hello"))
    assert stored.event.event_id not in message.event.prev_events


@pytest.mark.parametrize("answer", [{}, {POLICY: []}, {POLICY: {}}, {POLICY: {"ed25519:policy_server": "AAAA"}}])
async def test_no_good_signature_is_no_signature(rooms: Rooms, remote: PolicyRemote, answer: JsonObject) -> None:
    """Whatever the policy server answers instead of a signature, the event is not sent."""
    room = await guarded(rooms)
    remote.answer = answer
    with pytest.raises(Unavailable):
        await rooms.message(room, ALICE, "hello")


async def test_transactions_are_idempotent_there_too(rooms: Rooms, remote: PolicyRemote) -> None:
    """Repeating a transaction gives the event that it made, and asks nobody; setting state to what it is does too."""
    room = await guarded(rooms)
    transaction = ClientTransaction(await rooms.timeline.names.user_nid(ALICE), "PHONE", "t1")
    first = await rooms.message(room, ALICE, "a", transaction=transaction)
    assert await rooms.message(room, ALICE, "a", transaction=transaction) == first
    topic = await rooms.set_state(room, ALICE, "m.room.topic", {"topic": "t"})
    assert await rooms.set_state(room, ALICE, "m.room.topic", {"topic": "t"}) == topic
    assert len(remote.asked) == 2


async def test_invitations_are_signed_too(rooms: Rooms, remote: PolicyRemote) -> None:
    """Inviting a user of this server asks the policy server; one that it refuses is not invited."""
    room = await guarded(rooms)
    with pytest.raises(MatrixError):
        await rooms.membership.invite(room, ALICE, BOB, {"reason": "spam"})
    assert await rooms.membership_of(room, BOB) is None
    await rooms.membership.invite(room, ALICE, BOB)
    assert await rooms.membership_of(room, BOB) == "invite"


async def test_the_rules_of_the_room_still_count(rooms: Rooms, remote: PolicyRemote) -> None:
    """A policy server recommends; it allows nothing that the room's rules don't."""
    room = await guarded(rooms)
    with pytest.raises(Forbidden):
        await rooms.message(room, BOB, "hello")
    assert remote.asked == []
