"""Knocking at rooms of other servers.  # spec: client-server-api/#knocking-on-rooms"""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.protocol.event_builder import complete_template
from tests.support.client import Client, RequestFailed, eventually
from tests.support.federating import Network
from tests.support.hostile import forge, send_pdus


async def _left(reader: Client) -> Any:
    wanted = '{"room":{"include_leave":true}}'
    return (await reader.request("GET", "/sync", None, {"filter": wanted}))["rooms"]["leave"]


@pytest.mark.parametrize("how", ["kick", "ban"])
async def test_a_knock_that_is_turned_away_ends_where_it_came_from(network: Network, how: str) -> None:
    """The knocking server is not in the room, and learns all the same that its user is not let in."""
    one, two = await network.server(), await network.server()
    alice, bob = await one.user("alice"), await two.user("bob")
    rule = {"type": "m.room.join_rules", "content": {"join_rule": "knock"}}
    room_id = await alice.create_room(preset="private_chat", name="Den", initial_state=[rule])
    await bob.request("POST", f"/knock/{room_id}", {"reason": "let me in"}, {"via": one.name})
    section = (await bob.request("GET", "/sync"))["rooms"]["knock"][room_id]
    shown = {event["type"]: event["content"] for event in section["knock_state"]["events"]}
    assert shown["m.room.name"] == {"name": "Den"}
    member = await alice.request("GET", f"/rooms/{room_id}/state/m.room.member/{bob.user_id}")
    assert (member["membership"], member["reason"]) == ("knock", "let me in")
    await alice.membership(room_id, how, bob.user_id)

    async def is_told() -> bool:
        return room_id in await _left(bob)

    await eventually(is_told, "the end of the knock")
    assert room_id not in (await bob.request("GET", "/sync"))["rooms"]["knock"]


async def test_a_knock_can_be_taken_back(network: Network) -> None:
    """Leaving before anyone has answered tells the room's servers; whoever can't be told does not stop it."""
    one, two = await network.server(), await network.server()
    alice, bob = await one.user("alice"), await two.user("bob")
    rule = {"type": "m.room.join_rules", "content": {"join_rule": "knock"}}
    for reachable in (True, False):
        room_id = await alice.create_room(preset="private_chat", initial_state=[rule])
        await bob.request("POST", f"/knock/{room_id}", {}, {"via": one.name})
        if not reachable:
            network.cut(one, two)
        await bob.request("POST", f"/rooms/{room_id}/leave", {"reason": "never mind"})
        member = await alice.request("GET", f"/rooms/{room_id}/state/m.room.member/{bob.user_id}")
        assert (member["membership"], member.get("reason")) == (
            ("leave", "never mind") if reachable else ("knock", None)
        )
        assert room_id in await _left(bob)


async def test_strangers_end_no_knock(network: Network) -> None:
    """A server that, by what the room shows, has no say there can't make a user's knock seem to be over."""
    one, two, three = [await network.server() for _ in range(3)]
    alice, bob, eve = await one.user("alice"), await two.user("bob"), await three.user("eve")
    rule = {"type": "m.room.join_rules", "content": {"join_rule": "knock"}}
    room_id = await alice.create_room(preset="private_chat", room_version="11", initial_state=[rule])
    await bob.request("POST", f"/knock/{room_id}", {}, {"via": one.name})
    own = await eve.create_room(preset="public_chat", room_version="11")
    ban = await forge(
        three, own, sender=eve.user_id, type="m.room.member", state_key=bob.user_id, content={"membership": "ban"}
    )
    moved = complete_template(ban.json | {"room_id": room_id}, ban.room_version, three.name, three.services.signing_key)
    assert "error" in (await send_pdus(three, two, moved.json))[moved.event_id]
    assert room_id in (await bob.request("GET", "/sync"))["rooms"]["knock"]


async def test_knocking_where_members_of_another_room_may_join(network: Network) -> None:
    """At a knock_restricted room members of the allowed room of any server come in, and all others may knock."""
    one, two, three = [await network.server() for _ in range(3)]
    alice, bob, carol = await one.user("alice"), await two.user("bob"), await three.user("carol")
    club = await alice.create_room(preset="public_chat")
    content = {"join_rule": "knock_restricted", "allow": [{"type": "m.room_membership", "room_id": club}]}
    rule = {"type": "m.room.join_rules", "content": content}
    room_id = await alice.create_room(preset="private_chat", initial_state=[rule])
    await bob.join(club, via=one.name)
    await bob.join(room_id, via=one.name)
    member = await alice.request("GET", f"/rooms/{room_id}/state/m.room.member/{bob.user_id}")
    assert member["join_authorised_via_users_server"] == alice.user_id
    with pytest.raises(RequestFailed) as refused:
        await carol.join(room_id, via=one.name)
    assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")
    await carol.request("POST", f"/knock/{room_id}", {}, {"via": one.name})
    await alice.membership(room_id, "invite", carol.user_id)
    await carol.sync_until(lambda: carol.room(room_id).membership == "invite", "to be invited")
    await carol.join(room_id)
