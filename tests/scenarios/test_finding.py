"""Relations, search and the user directory across servers."""

from __future__ import annotations

from typing import Any

from tests.support.client import Client, eventually
from tests.support.federating import Network


async def _bundle(client: Client, room_id: str, event_id: str) -> Any:
    event = await client.request("GET", f"/rooms/{room_id}/event/{event_id}")
    return event["unsigned"].get("m.relations", {})


async def _search(client: Client, term: str) -> list[str]:
    body = {"search_categories": {"room_events": {"search_term": term, "order_by": "recent"}}}
    found = (await client.request("POST", "/search", body))["search_categories"]["room_events"]
    return [result["result"]["event_id"] for result in found["results"]]


async def _directory(client: Client, term: str) -> list[str]:
    found = await client.request("POST", "/user_directory/search", {"search_term": term})
    return [user["user_id"] for user in found["results"]]


async def test_what_comes_from_elsewhere_is_summed_up_and_found(network: Network) -> None:
    """Edits and threads of another server's user count here, can be searched for, and end with their redaction; so
    does history that is only fetched."""
    one, two = await network.server(), await network.server()
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    root = await alice.send(room_id, "harbour")
    await bob.join(room_id, via=one.name)
    assert root in [event["event_id"] for event in await bob.history(room_id)]
    content = {"body": "in the thread", "msgtype": "m.text", "m.relates_to": {"rel_type": "m.thread", "event_id": root}}
    reply = await bob.send(room_id, content)
    edit = await alice.edit(room_id, root, "port")

    async def arrived() -> bool:
        here, there = await _bundle(alice, room_id, root), await _bundle(bob, room_id, root)
        return "m.thread" in here and "m.replace" in there

    await eventually(arrived, "both to know both relations")
    for client in (alice, bob):
        bundle = await _bundle(client, room_id, root)
        assert bundle["m.thread"]["latest_event"]["event_id"] == reply
        assert bundle["m.replace"]["event_id"] == edit
        assert await _search(client, "thread") == [reply]
        assert await _search(client, "harbour") == [root]
    await bob.redact(room_id, reply)
    await alice.redact(room_id, edit)

    async def gone() -> bool:
        return not await _bundle(alice, room_id, root) and not await _bundle(bob, room_id, root)

    await eventually(gone, "the redactions to take effect on both sides")
    assert await _search(alice, "thread") == []
    assert await _search(bob, "port") == []


async def test_users_of_other_servers_are_found_by_their_member_events(network: Network) -> None:
    """A user of another server in a shared room is found by the name that they have there, and no longer by an old
    one; once the room is left, not at all."""
    one, two = await network.server(), await network.server()
    alice, bob = await one.user("alice"), await two.user("bob")
    profile = f"/profile/{bob.user_id}/displayname"
    await bob.request("PUT", profile, {"displayname": "Robert 王小明"})
    room_id = await alice.create_room(preset="private_chat", invite=[bob.user_id])
    assert await _directory(alice, "robert") == []
    await bob.sync_until(lambda: bob.room(room_id).membership == "invite", "to be invited")
    await bob.join(room_id, via=one.name)

    async def found(term: str) -> bool:
        return await _directory(alice, term) == [bob.user_id]

    await eventually(lambda: found("小明"), "Alice to find Bob")
    assert await _directory(bob, "alice") == [alice.user_id]
    await bob.request("PUT", profile, {"displayname": "Bobby"})
    await eventually(lambda: found("bobby"), "Alice to find Bob by his new name")
    assert await _directory(alice, "robert") == []
    await alice.membership(room_id, "kick", bob.user_id)
    assert await _directory(alice, "bobby") == []
