"""createRoom: the events of a new room, in the order of the specification."""

from __future__ import annotations

import asyncio

import pytest

from homeserver.protocol.errors import BadRequest
from homeserver.rooms.timeline import NewEvent
from tests.support.rooms import ALICE, BOB, Rooms


@pytest.mark.parametrize(
    ("preset", "join_rule", "guests"),
    [
        ("private_chat", "invite", "can_join"),
        ("trusted_private_chat", "invite", "can_join"),
        ("public_chat", "public", None),
    ],
)
@pytest.mark.parametrize("version", ["1", "10", "11", "12"])
async def test_presets(rooms: Rooms, preset: str, join_rule: str, guests: str | None, version: str) -> None:
    """A preset sets join rules, history visibility and guest access as its row of the table says."""
    state = await rooms.state(await rooms.create(preset=preset, version=version))
    assert state["m.room.join_rules", ""].content == {"join_rule": join_rule}
    assert state["m.room.history_visibility", ""].content == {"history_visibility": "shared"}
    access = state.get(("m.room.guest_access", ""))
    assert (access and access.content.get("guest_access")) == guests


async def test_order_of_the_first_events(rooms: Rooms) -> None:
    """Create, the creator's join, power levels, alias, preset, initial state, name and topic, invites."""
    room = await rooms.create(
        alias="#pub:test",
        name="Pub",
        topic="Beer",
        initial_state=[NewEvent("org.example", ALICE, {"x": 1}, state_key="k")],
        invite=[BOB],
    )
    async with rooms.pool.acquire() as conn:
        rows = await conn.fetch("SELECT type FROM events WHERE room_nid = $1 ORDER BY ord", room.nid)
    assert [row["type"] for row in rows] == [
        "m.room.create",
        "m.room.member",
        "m.room.power_levels",
        "m.room.canonical_alias",
        "m.room.join_rules",
        "m.room.history_visibility",
        "org.example",
        "m.room.name",
        "m.room.topic",
        "m.room.member",
    ]


async def test_initial_state_wins_over_the_preset_and_name_over_both(rooms: Rooms) -> None:
    """initial_state takes precedence over the preset, name and topic over initial_state."""
    room = await rooms.create(
        initial_state=[
            NewEvent("m.room.join_rules", ALICE, {"join_rule": "knock"}, state_key=""),
            NewEvent("m.room.name", ALICE, {"name": "no"}, state_key=""),
        ],
        name="yes",
    )
    state = await rooms.state(room)
    assert state["m.room.join_rules", ""].content == {"join_rule": "knock"}
    assert state["m.room.name", ""].content == {"name": "yes"}


@pytest.mark.parametrize("version", ["11", "12"])
async def test_trusted_private_chat_raises_the_invited(rooms: Rooms, version: str) -> None:
    """In a trusted private chat the invited have the creator's power: a level, or in version 12 being a creator too."""
    state = await rooms.state(await rooms.create(preset="trusted_private_chat", version=version, invite=[BOB]))
    users = state["m.room.power_levels", ""].content["users"]
    if version == "12":
        assert users == {}
        assert state["m.room.create", ""].content["additional_creators"] == [BOB]
        assert state["m.room.power_levels", ""].content["events"]["m.room.tombstone"] == 150
    else:
        assert users == {ALICE: 100, BOB: 100}


async def test_a_room_that_the_rules_refuse_leaves_nothing(rooms: Rooms) -> None:
    """If part of the initial state is refused, there is no room at all, and M_INVALID_ROOM_STATE says so."""
    with pytest.raises(BadRequest) as refused:
        await rooms.create(
            alias="#pub:test",
            initial_state=[NewEvent("m.room.power_levels", ALICE, {"users": {"nobody": 1}}, state_key="")],
        )
    assert refused.value.errcode == "M_INVALID_ROOM_STATE"
    async with rooms.pool.acquire() as conn:
        for table in ("rooms", "events", "room_aliases", "room_state"):
            assert await conn.fetchval(f"SELECT count(*) FROM {table}") == 0
    await rooms.create(alias="#pub:test")


async def test_an_alias_is_given_once(rooms: Rooms) -> None:
    """A room whose alias is taken is not made: M_ROOM_IN_USE."""
    await rooms.create(alias="#pub:test")
    with pytest.raises(BadRequest) as refused:
        await rooms.create(alias="#pub:test")
    assert refused.value.errcode == "M_ROOM_IN_USE"


async def test_rooms_of_one_moment(rooms: Rooms) -> None:
    """Rooms that one user makes alike in the same millisecond are different rooms, also where the id is a hash."""
    rooms.timeline.clock = lambda: 1_700_000_000_000
    made = await asyncio.gather(*(rooms.create(version="12") for _ in range(4)))
    assert len({room.room_id for room in made}) == 4
