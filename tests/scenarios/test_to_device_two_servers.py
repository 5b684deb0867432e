"""Alice on one server, Bob on another: what their devices say to each other, and who hears of new ones."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from homeserver.remote import RemoteError
from tests.support.client import Client, eventually
from tests.support.federating import Network, Node

_txn_ids = itertools.count()


async def _pair(network: Network) -> tuple[Node, Node, Client, Client, str]:
    """Alice and Bob in a room of hers."""
    one, two = await network.server(), await network.server()
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id, via=one.name)
    await alice.sees_member(room_id, bob.user_id, "join")
    return one, two, alice, bob, room_id


async def _send(sender: Client, user_id: str, number: int) -> None:
    messages = {user_id: {"*": {"n": number}}}
    await sender.request("PUT", f"/sendToDevice/org.example.test/{next(_txn_ids)}", {"messages": messages})


class Inbox:
    """What a device is told, sync by sync, each acknowledging the one before."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._since: str | None = None
        self.numbers: list[int] = []
        self.changed: list[str] = []

    async def sync(self) -> None:
        query = {"since": self._since} if self._since else {}
        response: Any = await self._client.request("GET", "/sync", query=query)
        self._since = response["next_batch"]
        self.numbers += [event["content"]["n"] for event in response["to_device"]["events"]]
        self.changed += response["device_lists"]["changed"]

    async def until_numbers(self, wanted: list[int]) -> None:
        async def come() -> bool:
            await self.sync()
            return len(self.numbers) >= len(wanted)

        await eventually(come, f"messages {wanted}")
        assert self.numbers == wanted


async def test_messages_cross_servers_in_order(network: Network) -> None:
    """Messages to a device of another server arrive there, each once and in order."""
    _one, _two, alice, bob, _room_id = await _pair(network)
    inbox = Inbox(bob)
    for number in range(30):
        await _send(alice, bob.user_id, number)
    await inbox.until_numbers(list(range(30)))


async def test_messages_outlive_broken_lines_and_restarts(network: Network) -> None:
    """What could not be sent before the sender stopped, or while the receiver was away, arrives once, in order."""
    one, two, alice, bob, _room_id = await _pair(network)
    inbox = Inbox(bob)
    await inbox.sync()
    network.cut(one, two)
    for number in range(3):
        await _send(alice, bob.user_id, number)
    await one.stop()
    await one.start()
    await _send(alice, bob.user_id, 3)
    await two.stop()
    await two.start()
    network.heal()
    await _send(alice, bob.user_id, 4)
    await inbox.until_numbers(list(range(5)))


async def test_a_repeated_transaction_is_delivered_once(network: Network) -> None:
    """An EDU that comes again in another transaction is known by its message id."""
    one, two, alice, bob, _room_id = await _pair(network)
    content = {
        "sender": alice.user_id,
        "type": "org.example.test",
        "message_id": "the one",
        "messages": {bob.user_id: {"*": {"n": 7}}},
    }
    edu = {"edu_type": "m.direct_to_device", "content": content}
    forged = {"edu_type": "m.direct_to_device", "content": content | {"sender": bob.user_id, "message_id": "other"}}
    malformed = {"edu_type": "m.direct_to_device", "content": content | {"message_id": 1}}
    inbox = Inbox(bob)
    for txn_id in ("first", "second"):
        transaction = {"origin": one.name, "origin_server_ts": 0, "pdus": [], "edus": [forged, malformed, edu, edu]}
        await one.remote.send_transaction(two.name, txn_id, transaction)
        await inbox.sync()
    assert inbox.numbers == [7]


async def test_the_other_server_hears_of_changed_devices(network: Network) -> None:
    """A renamed device is told to the clients of the other server that share a room, after a restart too."""
    one, two, alice, bob, _room_id = await _pair(network)
    inbox = Inbox(bob)
    await inbox.sync()
    [device] = (await alice.request("GET", "/devices"))["devices"]
    network.cut(one, two)
    await alice.request("PUT", f"/devices/{device['device_id']}", {"display_name": "New"})
    await one.stop()
    await one.start()
    network.heal()
    await alice.request("PUT", f"/devices/{device['device_id']}", {"display_name": "Newer"})

    async def told() -> bool:
        await inbox.sync()
        return alice.user_id in inbox.changed

    await eventually(told, "Alice's change to be told")


async def test_the_other_server_asks_for_the_whole_list(network: Network) -> None:
    """The answer names the last update that went out, has no device without keys, and strangers are not found."""
    one, two, alice, _bob, _room_id = await _pair(network)
    empty = {"user_id": alice.user_id, "stream_id": 0, "devices": []}
    assert await two.remote.query_user_devices(one.name, alice.user_id) == empty
    [device] = (await alice.request("GET", "/devices"))["devices"]
    await alice.request("PUT", f"/devices/{device['device_id']}", {"display_name": "New"})
    assert (await two.remote.query_user_devices(one.name, alice.user_id))["stream_id"] > 0
    with pytest.raises(RemoteError) as refused:
        await two.remote.query_user_devices(one.name, f"@nobody:{one.name}")
    assert refused.value.peer_status == 404
