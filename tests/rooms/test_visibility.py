"""What of a room's timeline a user may see: the rules applied to stretches, held against the rules event by event."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.history_visibility import may_see_change
from homeserver.rooms.visibility import Sight, Span
from homeserver.storage.events import ORD_SHIFT
from homeserver.storage.room_state import FOREVER

VISIBILITIES = ("world_readable", "shared", "invited", "joined")
MEMBERSHIPS = ("join", "invite", "leave", "ban", "knock")


class Told(NamedTuple):
    """An event at the next position: the user's own membership, the visibility, or just a message."""

    kind: str
    value: str


EVENTS = st.lists(
    st.one_of(
        st.builds(Told, st.just("member"), st.sampled_from(MEMBERSHIPS)),
        st.builds(Told, st.just("visibility"), st.sampled_from(VISIBILITIES)),
        st.builds(Told, st.just("message"), st.just("")),
    ),
    max_size=12,
)


def sight_of(events: list[Told], first: int = 10) -> Sight:
    """A room whose state is known from position `first` on, with these events after that."""

    def spans(kind: str) -> list[Span]:
        places = [(first + 1 + index, event.value) for index, event in enumerate(events) if event.kind == kind]
        return [
            Span(place, end, value, told=True, event_nid=place)
            for (place, value), (end, _) in itertools.pairwise([*places, (FOREVER, "")])
        ]

    return Sight(spans("member"), spans("visibility"), first)


@given(EVENTS)
def test_every_event_is_seen_as_the_rules_say(events: list[Told]) -> None:
    """The visible stretches hold exactly the events that the specification's rules allow, one by one."""
    sight = sight_of(events)
    membership, visibility = "leave", "shared"
    for index, event in enumerate(events):
        before = (visibility, membership)
        if event.kind == "member":
            membership = event.value
        elif event.kind == "visibility":
            visibility = event.value
        joins_later = any(later.kind == "member" and later.value == "join" for later in events[index + 1 :])
        expected = may_see_change(
            visibility=(before[0], visibility), membership=(before[1], membership), joined_after=joins_later
        )
        assert sight.sees((11 + index) << ORD_SHIFT) == expected
        assert sight.membership_at_ord((11 + index) << ORD_SHIFT) == membership


@given(EVENTS)
def test_stretches_are_in_order_and_apart(events: list[Told]) -> None:
    """The stretches don't touch or overlap, so that reads through them give each event once."""
    ranges = sight_of(events).ranges
    assert all(low <= high for low, high in ranges)
    assert all(high + 1 < low for (_, high), (low, _) in itertools.pairwise(ranges))


def test_history_fetched_later_is_judged_by_its_place() -> None:
    """An event between two positions is seen as what was told just before it."""
    sight = sight_of([Told("visibility", "joined"), Told("member", "join"), Told("member", "leave")])
    assert not sight.sees((11 << ORD_SHIFT) + 5)
    assert sight.sees((12 << ORD_SHIFT) + 5)
    assert not sight.sees((13 << ORD_SHIFT) + 5)


def test_history_from_before_this_server_has_the_visibility_that_it_found() -> None:
    """Below the first known position a member sees history if what was found then was shared or world_readable."""
    for visibility, expected in (("shared", True), ("world_readable", True), ("invited", False), ("joined", False)):
        found = [Span(10, FOREVER, visibility, told=False, event_nid=1)]
        sight = Sight([Span(10, FOREVER, "join", told=True, event_nid=2)], found, 10)
        assert sight.sees(-5 << ORD_SHIFT) == expected
        assert sight.sees(10 << ORD_SHIFT)


def test_stays_without_a_break_are_one() -> None:
    """A change of profile is not a new stay; leaving ends one."""
    sight = sight_of([Told("member", each) for each in ("join", "join", "leave", "join")])
    assert sight.joins == [(11, 13), (14, FOREVER)]
    assert sight.last_join(13) == (11, 13)
    assert sight.last_join(10) is None
    assert sight.known_until(12) == 12
    assert sight.known_until(13) == 13
