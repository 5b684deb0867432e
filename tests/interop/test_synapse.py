"""Our server and a real Synapse in one room: what people on both do, told as stories (stories.py)."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable

import pytest

from tests.interop import stories
from tests.interop.conftest import Register
from tests.interop.stories import Cast, Person
from tests.support.processes import Homeserver

# One worker has the one Synapse.
pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("synapse"), pytest.mark.timeout(180)]

_numbers = itertools.count(1)
MakeCast = Callable[[str], Awaitable[Cast]]
both_ways = pytest.mark.parametrize("creator", ["ours", "theirs"])


@pytest.fixture
def cast(ours: Homeserver, theirs: Homeserver, register: Register) -> MakeCast:
    """Makes Alice on our server and Bob on Synapse, new ones for each test; whose server is named creates the rooms."""

    async def make(creator: str) -> Cast:
        number = next(_numbers)
        alice = Person("Alice", await register(ours, f"alice{number}"), ours)
        bob = Person("Bob", await register(theirs, f"bob{number}"), theirs)
        people = (alice, bob) if creator == "ours" else (bob, alice)
        return Cast(*people, tell=print)

    return make


@both_ways
async def test_a_room_is_joined_by_alias_and_talked_in(creator: str, cast: MakeCast) -> None:
    """A guest joins a public room of the other server by its alias; messages, edits and redactions pass both ways."""
    story = await cast(creator)
    room_id = await stories.join_by_alias(story)
    await stories.talk(story, room_id, 5)
    await stories.edit(story, room_id)
    await stories.redact(story, room_id)
    await stories.leave(story, room_id)


@both_ways
async def test_a_room_is_joined_by_invite(creator: str, cast: MakeCast) -> None:
    """An invitation passes to the other server, says what it is to, and can be accepted; the guest can be banned."""
    story = await cast(creator)
    room_id = await stories.join_by_invite(story)
    await stories.talk(story, room_id)
    await stories.ban(story, room_id)


@both_ways
async def test_an_invitation_can_be_declined(creator: str, cast: MakeCast) -> None:
    """Who is invited from the other server may decline, and the inviting server learns it."""
    await stories.decline_an_invite(await cast(creator))


@both_ways
async def test_state_changed_by_both_at_once_converges(creator: str, cast: MakeCast) -> None:
    """Both servers come to the same state whatever both sides changed at the same time."""
    story = await cast(creator)
    room_id = await stories.join_by_invite(story)
    await stories.change_state_at_once(story, room_id)


@both_ways
@pytest.mark.parametrize("version", [str(number) for number in range(1, 13)])
async def test_every_room_version(creator: str, version: str, cast: MakeCast) -> None:
    """In every room version either side can join the other's room, talk, and agree on state that both changed."""
    story = await cast(creator)
    room_id = await stories.join_by_alias(story, version)
    await stories.talk(story, room_id)
    await stories.change_state_at_once(story, room_id)


async def test_our_server_catches_up_after_200_messages(cast: MakeCast) -> None:
    """Our server, down while 200 messages are sent, has every one afterwards, in order."""
    story = await cast("theirs")
    room_id = await stories.join_by_alias(story)
    await stories.catch_up(story, room_id, absent=story.guest, present=story.creator)


async def test_synapse_catches_up_after_200_messages(cast: MakeCast) -> None:
    """Synapse, down while 200 messages are sent, has every one afterwards, in order: our outbox loses none."""
    story = await cast("ours")
    room_id = await stories.join_by_alias(story)
    await stories.catch_up(story, room_id, absent=story.guest, present=story.creator)
