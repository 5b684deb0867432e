"""What rooms show of themselves, held against their state."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.rooms.summary import shown, shown_to
from homeserver.storage.room_summaries import RoomSummary, summaries_here
from tests.support.rooms import ALICE, BOB, CAROL, Rooms


async def _summary(rooms: Rooms, room_id: str) -> RoomSummary:
    async with rooms.pool.acquire() as conn:
        return (await summaries_here(conn, [room_id], "test"))[room_id]


@pytest.mark.parametrize("version", ["1", "11", "12"])
async def test_members_are_counted_through_every_change(rooms: Rooms, version: str) -> None:
    """However members come, go, change and come again, the count is that of the joined ones."""
    room = await rooms.create(version=version, invite=[CAROL])
    membership = rooms.membership
    for step in (
        membership.join(room.room_id, BOB),
        membership.join(room.room_id, BOB, extra={"displayname": "B"}),
        membership.join(room.room_id, CAROL),
        membership.kick(room, ALICE, BOB),
        membership.ban(room, ALICE, BOB),
        membership.unban(room, ALICE, BOB),
        membership.join(room.room_id, BOB),
        membership.leave(room, CAROL),
    ):
        await step
        members = [event for key, event in (await rooms.state(room)).items() if key[0] == "m.room.member"]
        joined = sum(event.membership == "join" for event in members)
        assert (await _summary(rooms, room.room_id)).joined_members == joined


async def test_the_summary_follows_the_state(rooms: Rooms) -> None:
    """After each change of state the summary says what the state says."""
    room = await rooms.create(version="10", name="One")
    assert (await _summary(rooms, room.room_id)).shown.name == "One"
    await rooms.set_state(room, ALICE, "m.room.name", {"name": "Two\0"})
    await rooms.set_state(room, ALICE, "m.room.history_visibility", {"history_visibility": "world_readable"})
    allow = [{"type": "m.room_membership", "room_id": "!lobby:test"}, {"type": "x"}, 5]
    await rooms.set_state(room, ALICE, "m.room.join_rules", {"join_rule": "restricted", "allow": allow})
    now = (await _summary(rooms, room.room_id)).shown
    assert (now.name, now.world_readable, now.join_rule) == ("Two\N{REPLACEMENT CHARACTER}", True, "restricted")
    assert now.allowed_room_ids == ("!lobby:test",)


@pytest.mark.parametrize(
    "contents",
    [
        {"m.room.name": {"name": 5}, "m.room.topic": {"topic": [], "m.topic": {"m.text": "x"}}},
        {"m.room.avatar": {"url": "https://x"}, "m.room.canonical_alias": {"alias": "no alias"}},
        {"m.room.join_rules": {"join_rule": None, "allow": "x"}, "m.room.encryption": {"algorithm": {}}},
    ],
)
def test_malformed_state_shows_nothing(contents: dict[str, Any]) -> None:
    """State of the wrong form counts as not there."""
    assert shown(contents) == shown({})


def test_the_topic_is_the_plain_text() -> None:
    """Of a topic in several forms the plain one is shown; if it has none, there is no topic."""
    html = {"mimetype": "text/html", "body": "<b>x</b>"}
    both = {"topic": "old", "m.topic": {"m.text": [html, {"body": "plain"}]}}
    assert shown({"m.room.topic": both}).topic == "plain"
    assert shown({"m.room.topic": {"topic": "old"}}).topic == "old"


@pytest.mark.parametrize(
    ("join_rule", "version", "membership", "expected"),
    [
        ("public", "12", None, True),
        ("public", "12", "ban", False),
        ("invite", "12", None, False),
        ("invite", "12", "leave", False),
        ("invite", "12", "invite", True),
        ("private", "12", "join", True),
        ("knock", "7", None, True),
        ("knock", "6", None, False),
        ("knock_restricted", "10", None, True),
        ("knock_restricted", "9", None, False),
        ("restricted", "8", None, True),
        ("restricted", "7", None, False),
        ("restricted", "12", "ban", False),
    ],
)
def test_to_whom_a_room_is_shown(join_rule: str, version: str, membership: str | None, expected: bool) -> None:
    """A room is shown to its members and to who could join it or knock there, by the rules of its version."""
    summary = {"join_rule": join_rule, "room_version": version, "allowed_room_ids": ["!lobby:test"]}
    assert shown_to(summary, membership, {"!lobby:test"}) is expected
    assert shown_to(summary | {"world_readable": True}, membership, ()) is True
    if join_rule == "restricted" and membership is None:
        assert shown_to(summary, None, {"!other:test"}) is False
