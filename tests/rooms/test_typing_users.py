"""Who is typing: told once, replaced, ended by time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from homeserver.changes import Changes
from homeserver.rooms.typing_users import TypingUsers

ALICE, BOB = "@alice:here.example", "@bob:there.example"
ROOM, OTHER = 1, 2


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest.fixture
def typing(changes: Changes) -> Iterator[TypingUsers]:
    users = TypingUsers(changes, clock=lambda: 1000.0)
    yield users
    users.close()


async def test_a_change_is_told_once(typing: TypingUsers) -> None:
    """Whoever has heard of the newest change hears nothing more until there is another."""
    start = typing.position
    typing.set_local(ROOM, ALICE, typing=True)
    typing.set_remote(ROOM, BOB, typing=True)
    assert typing.changed_since(start, [ROOM, OTHER]) == {ROOM: [ALICE, BOB]}
    assert typing.changed_since(typing.position, [ROOM, OTHER]) == {}
    typing.set_local(ROOM, ALICE, typing=True)
    assert typing.changed_since(typing.position, [ROOM]) == {}
    before = typing.position
    typing.set_local(ROOM, ALICE, typing=False)
    assert typing.changed_since(before, [ROOM]) == {ROOM: [BOB]}


async def test_it_ends_by_itself(typing: TypingUsers, changes: Changes) -> None:
    """Who says nothing more has stopped when the time is up, and those who watch the room are woken."""
    typing.set_local(ROOM, ALICE, typing=True, timeout_ms=1)
    typing.set_local(ROOM, BOB, typing=True, timeout_ms=60_000)
    with changes.subscribe(rooms=[ROOM]) as subscription:
        assert await subscription.wait(5)
    assert typing.in_room(ROOM) == [BOB]


async def test_saying_it_again_makes_it_last(typing: TypingUsers, changes: Changes) -> None:
    """A new timeout takes the place of the old one, and of several the first to end is heard of first."""
    typing.set_local(ROOM, ALICE, typing=True, timeout_ms=2)
    typing.set_local(ROOM, ALICE, typing=True, timeout_ms=60_000)
    typing.set_local(OTHER, ALICE, typing=True, timeout_ms=10)
    with changes.subscribe(rooms=[OTHER]) as subscription:
        assert await subscription.wait(5)
    assert typing.in_room(ROOM) == [ALICE]
    assert typing.in_room(OTHER) == []


async def test_listeners_hear_of_local_users_only(typing: TypingUsers, changes: Changes) -> None:
    """Other servers are told what our users do, going on and ending included, and nothing of their own users."""
    heard: list[tuple[int, str, bool]] = []
    typing.on_local_change(lambda room_nid, user_id, is_typing: heard.append((room_nid, user_id, is_typing)))
    typing.set_remote(ROOM, BOB, typing=True)
    typing.set_local(ROOM, ALICE, typing=False)
    assert heard == []
    typing.set_local(ROOM, ALICE, typing=True)
    with changes.subscribe(rooms=[ROOM]) as subscription:
        typing.set_local(ROOM, ALICE, typing=True, timeout_ms=1)
        assert await subscription.wait(5)
    assert heard == [(ROOM, ALICE, True), (ROOM, ALICE, True), (ROOM, ALICE, False)]


async def test_a_token_of_another_process_is_told_everything(typing: TypingUsers) -> None:
    """Numbers from before the start or from the future mean nothing: all lists are told anew, the empty ones too."""
    typing.set_local(ROOM, ALICE, typing=True)
    for position in (0, 999_999, typing.position + 1):
        assert not typing.knows(position)
        assert typing.changed_since(position, [ROOM, OTHER]) == {ROOM: [ALICE], OTHER: []}
    assert typing.knows(1_000_000)


async def test_what_is_remembered_is_bounded(typing: TypingUsers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rooms in which nobody types any more are forgotten; who might have missed their last change is told anew."""
    monkeypatch.setattr("homeserver.rooms.typing_users._REMEMBERED_ROOMS", 4)
    start = typing.position
    for room_nid in range(10):
        typing.set_local(room_nid, ALICE, typing=True)
        typing.set_local(room_nid, ALICE, typing=False)
    assert not typing.knows(start)
    assert typing.changed_since(typing.position, range(10)) == {}
    await asyncio.sleep(0)
