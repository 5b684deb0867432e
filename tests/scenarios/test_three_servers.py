"""Alice, Bob and Carol on three servers: what one server passes on to the others, and lines that break."""

from __future__ import annotations

import asyncio

from tests.support.client import Client, eventually
from tests.support.federating import Network, Node, agree, is_idle, state_ids, timeline_ids


async def _trio(network: Network, carols_power: int = 100) -> tuple[list[Node], list[Client], str]:
    """A room of Alice's that Bob, then Carol, have joined over Alice's server."""
    nodes = [await network.server() for _ in range(3)]
    users = [await node.user(name) for node, name in zip(nodes, ("alice", "bob", "carol"), strict=True)]
    alice, bob, carol = users
    room_id = await alice.create_room(preset="public_chat", room_version="11")
    await bob.join(room_id, via=nodes[0].name)
    await carol.join(room_id, via=nodes[0].name)
    levels = {"users": {alice.user_id: 100, bob.user_id: 100, carol.user_id: carols_power}}
    await alice.set_state(room_id, "m.room.power_levels", levels)
    await agree(room_id, *nodes)
    return nodes, users, room_id


async def test_a_join_over_one_server_is_passed_on_to_the_others(network: Network) -> None:
    """Carol joins and leaves over Alice's server; Bob's learns of it and Carol hears Bob at once."""
    _nodes, (alice, bob, carol), room_id = await _trio(network)
    await bob.sees_member(room_id, carol.user_id, "join")
    await bob.send(room_id, "hello Carol")
    await carol.sees(room_id, "hello Carol")
    await carol.membership(room_id, "leave")
    await bob.sees_member(room_id, carol.user_id, "leave")
    await alice.sees_member(room_id, carol.user_id, "leave")


async def test_a_declined_invitation_is_passed_on(network: Network) -> None:
    """Carol declines over the server that invited her; that one tells Bob's."""
    nodes = [await network.server() for _ in range(3)]
    alice, bob, carol = [await node.user(name) for node, name in zip(nodes, ("alice", "bob", "carol"), strict=True)]
    room_id = await alice.create_room(preset="private_chat", invite=[bob.user_id, carol.user_id])
    await bob.join(room_id, via=nodes[0].name)
    await carol.sync_until(lambda: carol.room(room_id).membership == "invite", "to be invited")
    await carol.membership(room_id, "leave")
    await bob.sees_member(room_id, carol.user_id, "leave")


async def test_a_dead_server_delays_nobody(network: Network) -> None:
    """While one server is down, the others hear each other as ever; when it is back, it learns everything."""
    nodes, (alice, bob, carol), room_id = await _trio(network)
    await nodes[2].stop()
    for number in range(10):
        await alice.send(room_id, f"message {number}")
        await bob.sees(room_id, f"message {number}", seconds=5)
    await nodes[2].start()
    await carol.sees(room_id, "message 9")
    await agree(room_id, *nodes)


async def test_both_sides_of_a_partition_go_on_and_agree_afterwards(network: Network) -> None:
    """Alice's server loses the two others. Both sides talk and change state. Healed, all have all, and one state."""
    nodes, (alice, bob, carol), room_id = await _trio(network)
    network.cut(nodes[0], nodes[1])
    network.cut(nodes[0], nodes[2])
    for number in range(8):
        await asyncio.gather(
            alice.send(room_id, f"A{number}"),
            bob.send(room_id, f"B{number}"),
            carol.send(room_id, f"C{number}"),
            alice.set_state(room_id, "m.room.topic", {"topic": f"by Alice {number}"}),
            bob.set_state(room_id, "m.room.name", {"name": f"by Bob {number}"}),
            carol.set_state(room_id, "m.room.topic", {"topic": f"by Carol {number}"}),
        )
    await carol.sees(room_id, "B7")
    assert "A7" not in carol.room(room_id).bodies()
    network.heal()
    await asyncio.gather(*(user.send(room_id, f"{user.user_id} is back") for user in (alice, bob, carol)))
    await agree(room_id, *nodes, seconds=60)
    said = {f"{who}{number}" for who in "ABC" for number in range(8)}
    for user in (alice, bob, carol):
        assert said <= {event["content"].get("body") for event in await user.history(room_id)}


async def test_a_ban_in_a_partition_wins(network: Network) -> None:
    """Carol is banned on one side of a partition and goes on on the other: healed, she is out everywhere."""
    nodes, (alice, bob, carol), room_id = await _trio(network, carols_power=0)
    network.cut(nodes[0], nodes[1])
    network.cut(nodes[0], nodes[2])
    await alice.membership(room_id, "ban", carol.user_id)
    late = await carol.send(room_id, "still here")
    await bob.sees(room_id, "still here")
    network.heal()
    await alice.send(room_id, "healed")
    await bob.send(room_id, "healed too")
    await bob.sees_member(room_id, carol.user_id, "ban")
    await alice.sees_member(room_id, carol.user_id, "ban")

    async def same_state() -> bool:
        return await state_ids(nodes[0], room_id) == await state_ids(nodes[1], room_id)

    await eventually(same_state, "the servers to agree")
    # What she said after the ban, as Alice's server has it, is not shown there.
    assert late not in await timeline_ids(nodes[0], room_id)


async def test_what_is_said_without_a_server_never_reaches_it(network: Network) -> None:
    """A server whose last user has left is sent nothing more, though others send in the same moment."""
    nodes, (alice, bob, carol), room_id = await _trio(network)
    network.cut(nodes[0], nodes[2])
    await carol.membership(room_id, "leave")
    await bob.sees_member(room_id, carol.user_id, "leave")
    # Of this Alice's server asks what it follows.
    await bob.send(room_id, "she has left")
    await alice.sees_member(room_id, carol.user_id, "leave")
    secret = await alice.send(room_id, "without Carol")
    network.heal()
    await bob.sees(room_id, "without Carol")
    await eventually(lambda: is_idle(nodes[0]), "everything to be sent")
    assert secret not in await timeline_ids(nodes[2], room_id)
