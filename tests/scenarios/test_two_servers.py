"""Alice on one server, Bob on another: everything that they do to each other."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.client import Client, RequestFailed, eventually
from tests.support.federating import Network, Node, agree, is_idle, state_ids, timeline_ids


async def _pair(network: Network) -> tuple[Node, Node, Client, Client]:
    one, two = await network.server(), await network.server()
    return one, two, await one.user("alice"), await two.user("bob")


async def _shared_room(network: Network, **settings: object) -> tuple[Node, Node, Client, Client, str]:
    """A public room of Alice's that Bob has joined."""
    one, two, alice, bob = await _pair(network)
    room_id = await alice.create_room(preset="public_chat", **settings)
    await bob.join(room_id, via=one.name)
    await bob.sync_until(lambda: bob.room(room_id).membership == "join", "to be in the room")
    return one, two, alice, bob, room_id


@pytest.mark.parametrize("version", ["1", "3", "6", "11", "12"])
async def test_bob_joins_by_alias_and_they_chat(network: Network, version: str) -> None:
    """A user joins a room of another server by its alias, and both hear each other, in every format of events."""
    one, two, alice, bob = await _pair(network)
    room_id = await alice.create_room(preset="public_chat", room_alias_name="tea", name="Tea", room_version=version)
    assert await bob.join(f"#tea:{one.name}") == room_id
    await bob.sync_until(lambda: bob.room(room_id).membership == "join", "to be in the room")
    await alice.sees_member(room_id, bob.user_id, "join")
    await alice.send(room_id, "hello Bob")
    await bob.sees(room_id, "hello Bob")
    await bob.send(room_id, "hello Alice")
    await alice.sees(room_id, "hello Alice")
    assert await state_ids(one, room_id) == await state_ids(two, room_id)


async def test_bob_reads_what_was_said_before_he_came(network: Network) -> None:
    """Scrolling back in a room of another server brings its whole history, in order, through several fetches."""
    one, two, alice, bob = await _pair(network)
    room_id = await alice.create_room(preset="public_chat")
    sent = [await alice.send(room_id, f"message {number}") for number in range(130)]
    await bob.join(room_id, via=one.name)
    history = await bob.history(room_id)
    assert [event["event_id"] for event in history if event["type"] == "m.room.message"] == sent
    assert history[0]["type"] == "m.room.create"
    assert await timeline_ids(one, room_id) == await timeline_ids(two, room_id)


async def test_bob_is_invited_and_accepts(network: Network) -> None:
    """An invitation reaches the other server with what it says of the room, and can be accepted."""
    _one, _two, alice, bob = await _pair(network)
    room_id = await alice.create_room(preset="private_chat", name="Secret", invite=[bob.user_id])
    await bob.sync_until(lambda: bob.room(room_id).membership == "invite", "to be invited")
    assert bob.room(room_id).state["m.room.name", ""]["content"] == {"name": "Secret"}
    assert bob.room(room_id).state["m.room.member", bob.user_id]["sender"] == alice.user_id
    await bob.join(room_id)
    await alice.sees_member(room_id, bob.user_id, "join")
    await alice.send(room_id, "welcome")
    await bob.sees(room_id, "welcome")


async def test_bob_declines_an_invitation(network: Network) -> None:
    """Declining reaches the room over the server that the invitation came from."""
    _one, _two, alice, bob = await _pair(network)
    room_id = await alice.create_room(preset="private_chat", invite=[bob.user_id])
    await bob.sync_until(lambda: bob.room(room_id).membership == "invite", "to be invited")
    await bob.membership(room_id, "leave")
    await alice.sees_member(room_id, bob.user_id, "leave")
    await bob.sync_until(lambda: bob.room(room_id).membership == "leave", "to be out")


async def test_an_invitation_is_withdrawn(network: Network) -> None:
    """Kicking someone who is invited ends the invitation on the other server, which is not in the room."""
    _one, _two, alice, bob = await _pair(network)
    room_id = await alice.create_room(preset="private_chat", invite=[bob.user_id])
    await bob.sync_until(lambda: bob.room(room_id).membership == "invite", "to be invited")
    await alice.membership(room_id, "kick", bob.user_id)
    await bob.sync_until(lambda: bob.room(room_id).membership == "leave", "to be no longer invited")


async def test_bob_leaves_and_hears_no_more(network: Network) -> None:
    """Who has left is seen to have left, and is sent nothing that is said afterwards."""
    one, two, alice, bob, room_id = await _shared_room(network)
    await bob.membership(room_id, "leave")
    await alice.sees_member(room_id, bob.user_id, "leave")
    secret = await alice.send(room_id, "among ourselves")
    await eventually(lambda: is_idle(one), "everything to be sent")
    assert secret not in await timeline_ids(two, room_id)


@pytest.mark.parametrize("action", ["kick", "ban"])
async def test_bob_is_thrown_out(network: Network, action: str) -> None:
    """A kick or a ban reaches the server of whom it hits, who can't speak any more; after a ban also not come back."""
    one, _two, alice, bob, room_id = await _shared_room(network)
    await alice.membership(room_id, action, bob.user_id)
    await bob.sync_until(lambda: bob.room(room_id).membership == "leave", "to be out")
    with pytest.raises(RequestFailed) as refused:
        await bob.send(room_id, "let me in")
    assert refused.value.errcode == "M_FORBIDDEN"
    if action == "ban":
        with pytest.raises(RequestFailed) as refused:
            await bob.join(room_id, via=one.name)
        assert refused.value.errcode == "M_FORBIDDEN"
    else:
        await bob.join(room_id, via=one.name)
        await alice.sees_member(room_id, bob.user_id, "join")


async def test_bob_comes_back_and_misses_what_was_said_meanwhile(network: Network) -> None:
    """Who left and came back is sent nothing of what was said in between, and goes on as before."""
    one, _two, alice, bob, room_id = await _shared_room(network)
    await bob.membership(room_id, "leave")
    await alice.sees_member(room_id, bob.user_id, "leave")
    meanwhile = await alice.send(room_id, "meanwhile")
    await bob.join(room_id, via=one.name)
    await alice.send(room_id, "again")
    await bob.sees(room_id, "again")
    await bob.send(room_id, "here I am")
    await alice.sees(room_id, "here I am")
    assert meanwhile not in {event["event_id"] for event in bob.room(room_id).timeline[-3:]}


async def test_bob_knocks_and_is_let_in(network: Network) -> None:
    """A knock shows in the room, and can be answered with an invitation."""
    one, _two, alice, bob = await _pair(network)
    knock = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
    room_id = await alice.create_room(preset="private_chat", name="Door", initial_state=[knock])
    await bob.request("POST", f"/knock/{room_id}", {"reason": "please"}, query={"via": one.name})
    await alice.sees_member(room_id, bob.user_id, "knock")
    await bob.sync_until(lambda: bob.room(room_id).membership == "knock", "to have knocked")
    assert bob.room(room_id).state["m.room.name", ""]["content"] == {"name": "Door"}
    await alice.membership(room_id, "invite", bob.user_id)
    await bob.sync_until(lambda: bob.room(room_id).membership == "invite", "to be invited")
    await bob.join(room_id)
    await alice.sees_member(room_id, bob.user_id, "join")


async def test_a_restricted_room_lets_in_members_of_the_other(network: Network) -> None:
    """A restricted room is open to members of the room that it names, and to nobody else, across servers."""
    one, two, alice, bob = await _pair(network)
    carol = await two.user("carol")
    club = await alice.create_room(preset="public_chat")
    await bob.join(club, via=one.name)
    rule = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": club}]}
    restricted = [{"type": "m.room.join_rules", "state_key": "", "content": rule}]
    room_id = await alice.create_room(preset="private_chat", initial_state=restricted)
    with pytest.raises(RequestFailed) as refused:
        await carol.join(room_id, via=one.name)
    assert refused.value.errcode == "M_FORBIDDEN"
    await bob.join(room_id, via=one.name)
    await alice.sees_member(room_id, bob.user_id, "join")
    content = alice.room(room_id).state["m.room.member", bob.user_id]["content"]
    assert content["join_authorised_via_users_server"] == alice.user_id
    await bob.send(room_id, "inside")
    await alice.sees(room_id, "inside")
    # Now Bob's server is in both rooms, and can't let Carol in either: she is not in the club.
    with pytest.raises(RequestFailed) as refused:
        await carol.join(room_id, via=one.name)
    assert refused.value.errcode == "M_FORBIDDEN"


async def test_both_change_the_state_at_once(network: Network) -> None:
    """Two changes of one piece of state that cross each other end in the same state on both servers."""
    one, two, alice, bob, room_id = await _shared_room(network)
    levels = {"users": {alice.user_id: 100, bob.user_id: 100}}
    version = (await alice.request("GET", f"/rooms/{room_id}/state/m.room.create/"))["room_version"]
    if version == "12":
        levels = {"users": {bob.user_id: 100}}
    await alice.set_state(room_id, "m.room.power_levels", levels)
    await agree(room_id, one, two)
    for round_number in range(5):
        await asyncio.gather(
            alice.set_state(room_id, "m.room.topic", {"topic": f"Alice's {round_number}"}),
            bob.set_state(room_id, "m.room.topic", {"topic": f"Bob's {round_number}"}),
            alice.send(room_id, f"A{round_number}"),
            bob.send(room_id, f"B{round_number}"),
        )
    await agree(room_id, one, two)
    for client in (alice, bob):
        await client.sees(room_id, *(f"{who}{number}" for who in "AB" for number in range(5)))


async def test_a_server_that_was_down_catches_up(network: Network) -> None:
    """What was said while a server was down reaches it when it is back, all of it."""
    one, two, alice, bob, room_id = await _shared_room(network)
    await two.stop()
    for number in range(200):
        await alice.send(room_id, f"message {number}")
    await two.start()
    # That it is back is noticed when it says something, and by trying again.
    await bob.sees(room_id, "message 199", "message 0", seconds=60)
    await agree(room_id, one, two)
    assert [body for body in bob.room(room_id).bodies() if body.startswith("message")] == [
        f"message {number}" for number in range(200)
    ]


async def test_the_sender_loses_nothing_by_stopping(network: Network) -> None:
    """What a server could not send before it stopped, it sends when it runs again."""
    one, two, alice, bob, room_id = await _shared_room(network)
    network.cut(one, two)
    for number in range(20):
        await alice.send(room_id, f"message {number}")
    await one.stop()
    network.heal()
    await one.start()
    await bob.sees(room_id, *(f"message {number}" for number in range(20)))
    await agree(room_id, one, two)
    await eventually(lambda: is_idle(one), "nothing to be left")


async def test_typing_and_receipts_are_told(network: Network) -> None:
    """Who types, and who has read what, is seen on the other server."""
    _one, _two, alice, bob, room_id = await _shared_room(network)
    event_id = await alice.send(room_id, "read this")
    await bob.sees(room_id, "read this")
    seen: list[str] = []

    async def ephemeral(kind: str) -> bool:
        answer = await alice.sync(timeout=1000)
        joined = answer.get("rooms", {}).get("join", {}).get(room_id, {})
        seen.extend(str(event["content"]) for event in joined.get("ephemeral", {}).get("events", []))
        return any(kind in content for content in seen)

    await bob.request("PUT", f"/rooms/{room_id}/typing/{bob.user_id}", {"typing": True, "timeout": 30000})
    await eventually(lambda: ephemeral(f"{{'user_ids': ['{bob.user_id}']}}"), "Bob to be seen typing")
    await bob.request("POST", f"/rooms/{room_id}/receipt/m.read/{event_id}", {})
    await eventually(lambda: ephemeral(event_id), "Bob's receipt")


async def test_a_redaction_reaches_the_other_server(network: Network) -> None:
    """What is redacted is redacted everywhere."""
    _one, _two, alice, bob, room_id = await _shared_room(network)
    event_id = await alice.send(room_id, "oops")
    await bob.sees(room_id, "oops")
    await alice.redact(room_id, event_id)

    async def redacted() -> bool:
        event = await bob.request("GET", f"/rooms/{room_id}/event/{event_id}")
        return bool(event["content"] == {})

    await eventually(redacted, "the redaction")


async def test_profiles_are_looked_up(network: Network) -> None:
    """The profile of a user of another server can be read."""
    _one, _two, alice, bob = await _pair(network)
    await alice.request("PUT", f"/profile/{alice.user_id}/displayname", {"displayname": "Alice A."})
    profile = await bob.request("GET", f"/profile/{alice.user_id}")
    assert profile["displayname"] == "Alice A."
