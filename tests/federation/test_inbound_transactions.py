"""What a server takes in from transactions of others, and what it does not."""

from __future__ import annotations

import asyncio

from homeserver.protocol.event_builder import complete_template
from homeserver.protocol.events import JsonObject
from tests.support.client import Client
from tests.support.federating import Network, Node, state_ids, timeline_ids
from tests.support.hostile import forge, send_pdus


async def _room(network: Network) -> tuple[Node, Node, Client, Client, str]:
    victim, evil = await network.server(), await network.server()
    alice, mallory = await victim.user("alice"), await evil.user("mallory")
    room_id = await alice.create_room(preset="public_chat")
    await mallory.join(room_id, via=victim.name)
    return victim, evil, alice, mallory, room_id


async def test_one_bad_event_does_not_keep_the_others_out(network: Network) -> None:
    """Of a transaction each event is judged alone: malformed and forged ones get an error, the good ones are taken."""
    victim, evil, _alice, mallory, room_id = await _room(network)
    good = await forge(evil, room_id, sender=mallory.user_id)
    unsigned = (await forge(evil, room_id, sender=mallory.user_id, depth=39)).json | {"signatures": {}}
    misshapen = good.json | {"depth": "deep"}
    altered = (await forge(evil, room_id, sender=mallory.user_id, depth=40)).json
    altered = altered | {"origin_server_ts": 5}
    nonsense: JsonObject = {"room_id": room_id}
    results = await send_pdus(evil, victim, unsigned, misshapen, altered, nonsense, {"a": 1}, good.json)
    assert results[good.event_id] == {}
    assert sum("error" in result for result in results.values()) == 2
    assert good.event_id in await timeline_ids(victim, room_id)


async def test_an_event_in_the_name_of_another_servers_user_is_dropped(network: Network) -> None:
    """A server can't speak for users of others: their own server has to sign."""
    victim, evil, alice, _mallory, room_id = await _room(network)
    forged = await forge(evil, room_id, sender=alice.user_id)
    results = await send_pdus(evil, victim, forged.json)
    assert "error" in results[forged.event_id]
    assert forged.event_id not in await timeline_ids(victim, room_id)


async def test_an_event_whose_content_was_altered_is_taken_redacted(network: Network) -> None:
    """The signature covers the redacted form: where only the content hash is wrong, that form is what counts.

    # spec: server-server-api/#checks-performed-on-receipt-of-a-pdu 3
    """
    victim, evil, alice, mallory, room_id = await _room(network)
    event = await forge(evil, room_id, sender=mallory.user_id)
    await send_pdus(evil, victim, event.json | {"content": {"msgtype": "m.text", "body": "altered"}})
    seen = await alice.request("GET", f"/rooms/{room_id}/event/{event.event_id}")
    assert seen["content"] == {}


async def test_events_that_claim_to_be_of_another_room_change_nothing_there(network: Network) -> None:
    """An event for a room that cites another room's events, or comes from someone who is not in it, is not taken."""
    victim, evil, alice, mallory, room_id = await _room(network)
    private = await alice.create_room(preset="private_chat")
    before = await state_ids(victim, private)
    here = await forge(evil, room_id, sender=mallory.user_id)
    elsewhere = complete_template(
        here.json | {"room_id": private}, here.room_version, evil.name, evil.services.signing_key
    )
    results = await send_pdus(evil, victim, elsewhere.json)
    assert elsewhere.event_id not in await timeline_ids(victim, private)
    assert await state_ids(victim, private) == before
    assert results.keys() == {elsewhere.event_id}


async def test_a_server_without_power_can_not_take_over(network: Network) -> None:
    """State that the rules refuse its sender is rejected, however well it is signed."""
    victim, evil, _alice, mallory, room_id = await _room(network)
    before = await state_ids(victim, room_id)
    forged = await forge(
        evil,
        room_id,
        sender=mallory.user_id,
        type="m.room.power_levels",
        state_key="",
        content={"users": {mallory.user_id: 100}},
    )
    await send_pdus(evil, victim, forged.json)
    assert await state_ids(victim, room_id) == before
    assert forged.event_id not in await timeline_ids(victim, room_id)


async def test_events_over_the_size_limit_are_dropped(network: Network) -> None:
    """An event of more than 65,536 bytes is not taken; what comes with it is."""
    victim, evil, _alice, mallory, room_id = await _room(network)
    good = await forge(evil, room_id, sender=mallory.user_id)
    big = good.json | {"content": {"body": "x" * 70_000}}
    results = await send_pdus(evil, victim, big, good.json)
    assert results == {good.event_id: {}}


async def test_events_of_rooms_that_this_server_is_not_in_are_ignored(network: Network) -> None:
    """They leave no trace, and get an error where their id can be known without knowing the room's version."""
    victim, evil = await network.server(), await network.server()
    mallory = await evil.user("mallory")
    room_id = await mallory.create_room(preset="public_chat")
    forged = await forge(evil, room_id, sender=mallory.user_id)
    old = {"room_id": room_id, "event_id": "$old:localhost"}
    results = await send_pdus(evil, victim, forged.json, old)
    assert results == {"$old:localhost": {"error": "This server is not in that room"}}
    assert await victim.services.timeline.names.room(room_id) is None


async def test_a_repeated_transaction_is_answered_and_not_processed(network: Network) -> None:
    """The same transaction, even twice at the same moment, has its effect once and its answer each time."""
    victim, evil, _alice, mallory, room_id = await _room(network)
    event = await forge(evil, room_id, sender=mallory.user_id)
    answers = await asyncio.gather(*(send_pdus(evil, victim, event.json, txn_id="same") for _ in range(4)))
    assert answers == [{event.event_id: {}}] * 4
    other = await forge(evil, room_id, sender=mallory.user_id, depth=50)
    assert await send_pdus(evil, victim, other.json, txn_id="same") == {event.event_id: {}}
    assert other.event_id not in await timeline_ids(victim, room_id)


async def test_a_denied_server_is_not_heard(network: Network) -> None:
    """Events and typing of a server that the room's access list denies are refused."""
    victim, evil, alice, mallory, room_id = await _room(network)
    await alice.set_state(room_id, "m.room.server_acl", {"allow": ["*"], "deny": ["localhost"]})
    event = await forge(evil, room_id, sender=mallory.user_id)
    results = await send_pdus(evil, victim, event.json)
    assert "may not take part" in results[event.event_id]["error"]
    assert event.event_id not in await timeline_ids(victim, room_id)
    edu = {"edu_type": "m.typing", "content": {"room_id": room_id, "user_id": mallory.user_id, "typing": True}}
    await evil.remote.send_transaction(victim.name, "typing", {"origin": evil.name, "pdus": [], "edus": [edu]})
    room = await victim.services.timeline.room(room_id)
    assert victim.services.typing.in_room(room.nid) == []


async def test_typing_and_receipts_of_strangers_are_dropped(network: Network) -> None:
    """An EDU counts only for users of the server that sends it, and only in rooms that they are in."""
    victim, evil, alice, mallory, room_id = await _room(network)
    private = await alice.create_room(preset="private_chat")
    event_id = await alice.send(private, "secret")
    room, other = await victim.services.timeline.room(room_id), await victim.services.timeline.room(private)
    edus = [
        {"edu_type": "m.typing", "content": {"room_id": room_id, "user_id": alice.user_id, "typing": True}},
        {"edu_type": "m.typing", "content": {"room_id": private, "user_id": mallory.user_id, "typing": True}},
        {"edu_type": "m.typing", "content": {"room_id": 5, "user_id": None}},
        {"edu_type": "m.receipt", "content": {private: {"m.read": {mallory.user_id: {"event_ids": [event_id]}}}}},
        {
            "edu_type": "m.receipt",
            "content": {room_id: {"m.read": {alice.user_id: {"event_ids": [event_id], "data": {"ts": 1}}}}},
        },
        {"edu_type": "m.receipt", "content": {room_id: [1], private: {"m.read": {mallory.user_id: 7}}}},
        {"edu_type": "unknown", "content": {}},
        "nonsense",
        {"edu_type": "m.typing", "content": {"room_id": room_id, "user_id": mallory.user_id, "typing": True}},
    ]
    await evil.remote.send_transaction(victim.name, "edus", {"origin": evil.name, "pdus": [], "edus": edus})
    assert victim.services.typing.in_room(room.nid) == [mallory.user_id]
    assert victim.services.typing.in_room(other.nid) == []
    assert await victim.services.pool.fetchval("SELECT count(*) FROM receipts") == 0
