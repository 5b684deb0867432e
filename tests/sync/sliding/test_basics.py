"""Lists, windows and rooms of sliding sync."""

from __future__ import annotations

import pytest

from tests.sync.sliding.conftest import PhoneOf
from tests.sync.sliding.phone import everything, listing
from tests.sync.world import World, bodies, user_id


async def test_a_first_response_has_the_window_with_all_that_was_asked(world: World, phone_of: PhoneOf) -> None:
    """Rooms are told whole: newest events, state asked for, names, counts, `initial`; and how many there are in all."""
    room = await world.create_room("alice")
    await world.set_state(room, "alice", "m.room.name", {"name": "Garden"})
    await world.set_state(room, "alice", "m.room.avatar", {"url": "mxc://here.example/a"})
    await world.join(room, "bob")
    for number in range(5):
        await world.say(room, "bob", str(number))
    response = await phone_of("alice").sync(everything(2, [["m.room.create", ""], ["m.room.member", "$ME"]]))
    assert response["lists"] == {"all": {"count": 1}}
    told = response["rooms"][room.room_id]
    assert bodies(told["timeline"]) == ["3", "4"]
    assert told["initial"] is told["limited"] is True
    assert (told["name"], told["avatar"]) == ("Garden", "mxc://here.example/a")
    assert (told["joined_count"], told["invited_count"], told["num_live"]) == (2, 0, 0)
    assert (told["notification_count"], told["highlight_count"]) == (5, 0)
    assert (told["membership"], told["lists"]) == ("join", ["all"])
    assert {(event["type"], event["state_key"]) for event in told["required_state"]} == {
        ("m.room.create", ""),
        ("m.room.member", user_id("alice")),
    }
    assert "heroes" not in told
    assert "is_dm" not in told


async def test_then_only_what_is_new(world: World, phone_of: PhoneOf) -> None:
    """Nothing of a room where nothing happened; of others what did, with how much of it is live."""
    quiet, busy = await world.create_room("alice"), await world.create_room("alice")
    phone = phone_of("alice")
    await phone.sync(everything(10))
    assert (await phone.sync(everything(10)))["rooms"] == {}
    await world.say(busy, "alice", "one")
    response = await phone.sync(everything(10))
    told = response["rooms"][busy.room_id]
    assert quiet.room_id not in response["rooms"]
    assert bodies(told["timeline"]) == ["one"]
    assert told["num_live"] == 1
    assert not told["limited"]
    assert "initial" not in told
    assert "name" not in told
    assert "required_state" not in told


async def test_windows_cut_the_list_by_recency(world: World, phone_of: PhoneOf) -> None:
    """A window has the most recently active rooms; a larger one brings those that were not told yet."""
    rooms = [await world.create_room("alice") for _ in range(5)]
    await world.say(rooms[1], "alice", "now I am first")
    phone = phone_of("alice")
    first = await phone.sync({"lists": {"top": listing(1, ranges=[[0, 1]])}})
    assert first["rooms"].keys() == {rooms[1].room_id, rooms[4].room_id}
    assert first["lists"]["top"]["count"] == 5
    second = await phone.sync({"lists": {"top": listing(1, ranges=[[0, 9]])}})
    assert second["rooms"].keys() == {rooms[each].room_id for each in (0, 2, 3)}
    await world.say(rooms[0], "alice", "now I am")
    third = await phone.sync({"lists": {"top": listing(1, range=[0, 0], ranges=None)}})
    assert third["rooms"].keys() == {rooms[0].room_id}


async def test_a_response_has_only_so_much(world: World, phone_of: PhoneOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more rooms than fit, the most recently active come first and the others with the next responses, unasked."""
    monkeypatch.setattr("homeserver.sync.sliding.plan._MOST_EVENTS", 30)
    rooms = [await world.create_room("alice") for _ in range(5)]
    phone = phone_of("alice")
    told = [set((await phone.sync(everything(10), timeout=20))["rooms"]) for _ in range(3)]
    ids = [room.room_id for room in reversed(rooms)]
    assert told == [set(ids[:2]), set(ids[2:4]), set(ids[4:])]
    assert (await phone.sync(everything(10)))["rooms"] == {}
