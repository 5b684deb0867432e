"""What other servers may read here: rooms that they are in or were in, and of these what their users may see."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from homeserver.remote import RemoteError
from tests.support.client import Client
from tests.support.federating import Network, Node, state_ids, timeline_ids


async def _pair(network: Network) -> tuple[Node, Node, Client, Client]:
    one, two = await network.server(), await network.server()
    return one, two, await one.user("alice"), await two.user("bob")


async def _events(node: Node, room_id: str) -> list[str]:
    rows = await node.services.pool.fetch(
        "SELECT e.event_id FROM events e JOIN rooms r USING (room_nid) WHERE r.room_id = $1 ORDER BY e.depth", room_id
    )
    return [row["event_id"] for row in rows]


async def _missing(node: Node, to: Node, room_id: str, earliest: list[str], latest: list[str], limit: int = 10) -> Any:
    return await node.remote.get_missing_events(
        to.name, room_id, earliest_events=earliest, latest_events=latest, limit=limit, min_depth=0
    )


async def test_a_stranger_reads_nothing(network: Network) -> None:
    """A server that is not in a room learns neither its events nor its state nor whether an event exists."""
    one, two, alice, bob = await _pair(network)
    room_id = await alice.create_room(preset="private_chat")
    event_id = await alice.send(room_id, "secret")
    shared = await alice.create_room(preset="public_chat")
    await bob.join(shared, via=one.name)
    remote = two.remote
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "event": lambda: remote.get_event(one.name, event_id),
        "state": lambda: remote.get_state(one.name, room_id, event_id),
        "state_ids": lambda: remote.get_state_ids(one.name, room_id, event_id),
        "event_auth": lambda: remote.get_event_auth(one.name, room_id, event_id),
        "backfill": lambda: remote.backfill(one.name, room_id, [event_id], 10),
        "missing": lambda: _missing(two, one, room_id, [], [event_id]),
    }
    for name, call in calls.items():
        with pytest.raises(RemoteError) as refused:
            await call()
        assert refused.value.peer_status == (404 if name == "event" else 403), name
    # Nor by the id of a room that it is in.
    for ask in (remote.get_state, remote.get_state_ids, remote.get_event_auth):
        with pytest.raises(RemoteError) as refused:
            await ask(one.name, shared, event_id)
        assert refused.value.peer_status == 404
    assert await remote.backfill(one.name, shared, [event_id], 10) == []
    assert await _missing(two, one, shared, [], [event_id]) == []


async def test_a_member_reads_state_and_history(network: Network) -> None:
    """State before an event, its auth chain, what came before it: as this server has it, and no more than was asked."""
    one, two, alice, bob = await _pair(network)
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id, via=one.name)
    sent = [await alice.send(room_id, f"message {number}") for number in range(30)]
    ids = await two.remote.get_state_ids(one.name, room_id, sent[-1])
    assert set(ids.pdu_ids) == set((await state_ids(one, room_id)).values())
    state = await two.remote.get_state(one.name, room_id, sent[-1])
    assert (len(state.pdus), len(state.auth_chain)) == (len(ids.pdu_ids), len(ids.auth_chain_ids))
    chain = await two.remote.get_event_auth(one.name, room_id, sent[-1])
    assert {pdu["type"] for pdu in chain} >= {"m.room.member", "m.room.power_levels"}
    history = await _events(one, room_id)
    page = await two.remote.backfill(one.name, room_id, [sent[-1]], 10)
    assert [pdu["content"]["body"] for pdu in page] == [f"message {number}" for number in range(29, 19, -1)]
    everything = await two.remote.backfill(one.name, room_id, [sent[-1]], 1000)
    assert len(everything) == len(history)
    missing = await _missing(two, one, room_id, [sent[10]], [sent[20]], limit=20)
    assert [pdu["content"]["body"] for pdu in missing] == [f"message {number}" for number in range(11, 20)]
    newest = await _missing(two, one, room_id, [], [sent[20]], limit=3)
    assert [pdu["content"]["body"] for pdu in newest] == [f"message {number}" for number in range(17, 20)]


async def test_what_a_servers_users_may_not_see_is_redacted(network: Network) -> None:
    """Where history is for those who were there, others get it without its content."""
    one, two, alice, bob = await _pair(network)
    joined = {"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "joined"}}
    room_id = await alice.create_room(preset="public_chat", initial_state=[joined])
    before = await alice.send(room_id, "before Bob")
    await bob.join(room_id, via=one.name)
    after = await alice.send(room_id, "with Bob")
    assert (await two.remote.get_event(one.name, before))["content"] == {}
    assert (await two.remote.get_event(one.name, after))["content"]["body"] == "with Bob"
    contents = [pdu["content"] for pdu in await two.remote.backfill(one.name, room_id, [after], 3)]
    assert contents[0]["body"] == "with Bob"
    assert contents[1]["membership"] == "join"
    assert contents[2] == {}
    [missing] = await _missing(two, one, room_id, [], [(await timeline_tail(one, room_id, 2))[0]], limit=1)
    assert missing["content"] == {}


async def timeline_tail(node: Node, room_id: str, count: int) -> list[str]:
    """The last events of a room, the oldest first."""
    return (await _events(node, room_id))[-count:]


async def test_who_has_left_reads_what_was_before(network: Network) -> None:
    """A server that has left may still read up to then, and nothing later."""
    one, two, alice, bob = await _pair(network)
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id, via=one.name)
    before = await alice.send(room_id, "while Bob is here")
    await bob.membership(room_id, "leave")
    await alice.sees_member(room_id, bob.user_id, "leave")
    after = await alice.send(room_id, "without Bob")
    assert (await two.remote.get_event(one.name, before))["content"]["body"] == "while Bob is here"
    for call in (two.remote.get_state_ids, two.remote.get_event_auth):
        with pytest.raises(RemoteError) as refused:
            await call(one.name, room_id, after)
        assert refused.value.peer_status == 403
    with pytest.raises(RemoteError) as refused:
        await two.remote.get_event(one.name, after)
    assert refused.value.peer_status == 404


async def test_a_denied_server_reads_nothing(network: Network) -> None:
    """The room's access list holds for reading too."""
    one, two, alice, bob = await _pair(network)
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id, via=one.name)
    event_id = await alice.send(room_id, "something")
    await alice.set_state(room_id, "m.room.server_acl", {"allow": ["*"], "deny": ["localhost"]})
    remote = two.remote
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: remote.get_state_ids(one.name, room_id, event_id),
        lambda: remote.backfill(one.name, room_id, [event_id], 10),
        lambda: remote.make_join(one.name, room_id, bob.user_id, ["12"]),
        lambda: remote.make_leave(one.name, room_id, bob.user_id),
    ]
    for call in calls:
        with pytest.raises(RemoteError) as refused:
            await call()
        assert (refused.value.peer_status, refused.value.peer_errcode) == (403, "M_FORBIDDEN")


async def test_profiles_and_aliases_of_this_server_are_answered(network: Network) -> None:
    """Queries for what is elsewhere or nowhere get an error."""
    one, two, alice, _bob = await _pair(network)
    room_id = await alice.create_room(preset="public_chat", room_alias_name="tea")
    await alice.request("PUT", f"/profile/{alice.user_id}/displayname", {"displayname": "Alice A."})
    assert await two.remote.query_directory(one.name, f"#tea:{one.name}") == (room_id, [one.name])
    assert await two.remote.query_profile(one.name, alice.user_id, "displayname") == {"displayname": "Alice A."}
    for call, status in (
        (two.remote.query_directory(one.name, f"#coffee:{one.name}"), 404),
        (two.remote.query_directory(one.name, "#tea:elsewhere.example"), 400),
        (two.remote.query_profile(one.name, f"@nobody:{one.name}"), 404),
        (two.remote.query_profile(one.name, alice.user_id, "avatar_url"), 404),
        (two.remote.query_profile(one.name, "@x:elsewhere.example"), 400),
    ):
        with pytest.raises(RemoteError) as refused:
            await call
        assert refused.value.peer_status == status


async def test_history_that_is_here_stays_as_it_is(network: Network) -> None:
    """Filling gaps that don't exist asks nobody and changes nothing."""
    one, _two, alice, _bob = await _pair(network)
    room_id = await alice.create_room(preset="public_chat")
    before = await timeline_ids(one, room_id)
    room = await one.services.timeline.room(room_id)
    assert not await one.services.backfiller.fill(room, None, 2**63 - 1)
    assert await timeline_ids(one, room_id) == before
