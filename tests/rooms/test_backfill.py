"""History fetched from other servers: where it goes, and what of it is not believed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from homeserver.protocol.errors import Unavailable
from homeserver.protocol.events import JsonObject
from tests.support import federating
from tests.support.client import Client
from tests.support.federating import Network, Node, timeline_ids

_ALL = 2**63 - 1


@pytest.fixture
async def network(make_database: Callable[[], Awaitable[str]], tmp_path: Path) -> AsyncIterator[Network]:
    """Servers in this process that reach one another over TLS; none at first."""
    async with federating.network(make_database, tmp_path) as network:
        yield network


async def _late_bob(network: Network, messages: int = 5) -> tuple[Node, Node, Client, Client, str]:
    """A room of Alice's in which something was said before Bob came."""
    one, two = await network.server(), await network.server()
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    for number in range(messages):
        await alice.send(room_id, f"message {number}")
    await bob.join(room_id, via=one.name)
    return one, two, alice, bob, room_id


async def _bodies(client: Client, room_id: str) -> list[str]:
    return [event["content"]["body"] for event in await client.history(room_id) if "body" in event["content"]]


async def test_what_was_said_in_an_absence_goes_between_before_and_after(network: Network) -> None:
    """Who was away for a while finds the gap filled in its place, once."""
    one, two, alice, bob, room_id = await _late_bob(network)
    await bob.send(room_id, "first visit")
    await alice.sees(room_id, "first visit")
    await bob.membership(room_id, "leave")
    await alice.sees_member(room_id, bob.user_id, "leave")
    for number in range(5, 10):
        await alice.send(room_id, f"message {number}")
    await bob.join(room_id, via=one.name)
    await bob.send(room_id, "second visit")
    await alice.sees(room_id, "second visit")
    expected = [
        *(f"message {number}" for number in range(5)),
        "first visit",
        *(f"message {number}" for number in range(5, 10)),
        "second visit",
    ]
    assert await _bodies(bob, room_id) == expected
    assert await _bodies(bob, room_id) == expected
    assert await timeline_ids(one, room_id) == await timeline_ids(two, room_id)
    assert await two.services.pool.fetchval("SELECT count(*) FROM missing_prev_events") == 0


async def test_sync_is_told_nothing_of_it(network: Network) -> None:
    """What is found by scrolling back does not appear at the other end of the room."""
    _one, two, alice, bob, room_id = await _late_bob(network)
    await bob.sync()
    before = [event["event_id"] for event in bob.room(room_id).timeline]
    room = await two.services.timeline.room(room_id)
    while await two.services.backfiller.fill(room, None, _ALL):
        pass
    await bob.sync()
    assert [event["event_id"] for event in bob.room(room_id).timeline] == before
    await alice.send(room_id, "new")
    await bob.sees(room_id, "new")


async def test_history_that_was_redacted_since_comes_redacted(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redaction that is known before its target takes effect when the target is found."""
    one, two, alice, bob, room_id = await _late_bob(network)
    said = await alice.history(room_id)
    target = next(event["event_id"] for event in said if event["content"].get("body") == "message 3")
    [pdu] = [await two.remote.get_event(one.name, target)]
    backfill = two.remote.backfill
    await alice.redact(room_id, target)
    await alice.send(room_id, "redacted")
    await bob.sees(room_id, "redacted")

    async def unredacted(*args: Any) -> list[JsonObject]:
        answer = await backfill(*args)
        return [pdu if one["depth"] == pdu["depth"] else one for one in answer]

    monkeypatch.setattr(two.remote, "backfill", unredacted)
    assert "message 3" not in await _bodies(bob, room_id)
    assert "message 2" in await _bodies(bob, room_id)


@pytest.mark.parametrize("forgery", ["nothing", "other room", "unconnected", "forged", "nonsense"])
async def test_what_does_not_belong_there_is_not_entered(
    network: Network, forgery: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only events that lie behind the gap, of this room, signed by their senders, are taken from an answer."""
    one, two, alice, bob, room_id = await _late_bob(network)
    other = await alice.create_room(preset="public_chat")
    await bob.join(other, via=one.name)
    await alice.send(other, "elsewhere")
    before = await timeline_ids(two, room_id)
    backfill = two.remote.backfill

    async def forged(server: str, room_id: str, wanted: Any, count: int) -> list[JsonObject]:
        true = await backfill(server, room_id, wanted, count)
        match forgery:
            case "nothing":
                return []
            case "other room":
                ids = list(await timeline_ids(one, other))
                return [await two.remote.get_event(one.name, event_id) for event_id in ids]
            case "unconnected":
                return true[1:]
            case "forged":
                return [pdu | {"signatures": {}} for pdu in true]
            case _:
                return [{}, {"room_id": room_id}, {"type": 5}]

    monkeypatch.setattr(two.remote, "backfill", forged)
    room = await two.services.timeline.room(room_id)
    assert not await two.services.backfiller.fill(room, None, _ALL)
    assert await timeline_ids(two, room_id) == before


async def test_a_gap_that_nobody_fills_is_not_tried_each_time(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failure the other servers are left alone for a while, so that scrolling stays quick."""
    _one, two, _alice, _bob, room_id = await _late_bob(network)
    asked: list[str] = []

    async def down(server: str, *_: Any) -> list[JsonObject]:
        asked.append(server)
        raise Unavailable("down")

    monkeypatch.setattr(two.remote, "backfill", down)
    room = await two.services.timeline.room(room_id)
    for _ in range(3):
        assert not await two.services.backfiller.fill(room, None, _ALL)
    assert len(asked) == 1
