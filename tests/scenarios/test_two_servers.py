"""Alice on one server, Bob on another: everything that they do to each other."""

from __future__ import annotations

from tests.support.federating import Network


async def test_bob_joins_by_alias_and_they_chat(network: Network) -> None:
    """A user joins a room of another server by its alias, sees what was said, and both hear each other."""
    one, two = await network.server(), await network.server()
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(preset="public_chat", room_alias_name="tea", name="Tea")
    await alice.send(room_id, "before")
    assert await bob.join(f"#tea:{one.name}") == room_id
    await bob.sync_until(lambda: bob.room(room_id).membership == "join", "to be in the room")
    await alice.sees_member(room_id, bob.user_id, "join")
    await alice.send(room_id, "hello Bob")
    await bob.sees(room_id, "hello Bob")
    await bob.send(room_id, "hello Alice")
    await alice.sees(room_id, "hello Alice")
