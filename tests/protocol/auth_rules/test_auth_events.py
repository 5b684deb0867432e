"""Rule 2 (3 from version 12 on): the events that an event cites, and their selection."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.protocol.auth_rules import auth_event_keys, check_auth_events
from homeserver.protocol.errors import AuthRuleError
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.room_versions import RoomVersion
from tests.protocol.auth_rules.refusals import assert_refused
from tests.protocol.rooms import ALICE, BOB, CHARLIE, VERSIONS, Room, versions

CREATE, LEVELS, RULES = ("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.join_rules", "")


def _member(user: str) -> StateKey:
    return ("m.room.member", user)


def _selected(version: RoomVersion, type: str, state_key: str | None, content: dict[str, Any]) -> list[StateKey]:
    keys = auth_event_keys(version, type=type, sender=ALICE, state_key=state_key, content=content)
    assert len(keys) == len(set(keys))
    assert (CREATE in keys) is not version.room_id_is_create_hash
    return [key for key in keys if key != CREATE]


@pytest.mark.parametrize("version", VERSIONS)
def test_selection_for_create(version: RoomVersion) -> None:
    """The create event cites nothing."""
    assert auth_event_keys(version, type="m.room.create", sender=ALICE, state_key="", content={}) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_selection_for_what_is_no_member_event(version: RoomVersion) -> None:
    """Events cite the create event (not from version 12 on), the power levels and their sender's membership."""
    assert _selected(version, "m.room.message", None, {"membership": "join"}) == [LEVELS, _member(ALICE)]
    assert _selected(version, "m.room.topic", "", {}) == [LEVELS, _member(ALICE)]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("membership", ["join", "invite", "knock", "leave", "ban", 7, None])
def test_selection_for_members(version: RoomVersion, membership: object) -> None:
    """Member events also cite the target's membership, and the join rules to join, invite or knock."""
    rules = [RULES] if membership in ("join", "invite", "knock") else []
    content = {"membership": membership}
    assert _selected(version, "m.room.member", BOB, content) == [LEVELS, _member(ALICE), _member(BOB), *rules]
    assert _selected(version, "m.room.member", ALICE, content) == [LEVELS, _member(ALICE), *rules]


@pytest.mark.parametrize("version", VERSIONS)
def test_selection_for_third_party_invites(version: RoomVersion) -> None:
    """An invite cites the m.room.third_party_invite of its token, and nothing odd if the content is odd."""
    plain = [LEVELS, _member(ALICE), _member(BOB), RULES]
    content: dict[str, Any] = {"membership": "invite", "third_party_invite": {"signed": {"token": "t"}}}
    assert _selected(version, "m.room.member", BOB, content) == [*plain, ("m.room.third_party_invite", "t")]
    odd: list[Any] = [None, 1, {}, {"signed": None}, {"signed": {}}, {"signed": {"token": 1}}]
    for invite in odd:
        assert _selected(version, "m.room.member", BOB, content | {"third_party_invite": invite}) == plain
    assert _selected(version, "m.room.member", BOB, content | {"membership": "join"}) == plain


@pytest.mark.parametrize("version", VERSIONS)
def test_selection_for_restricted_joins(version: RoomVersion) -> None:
    """From version 8 on a join cites the membership of the user who authorised it."""
    plain = [LEVELS, _member(ALICE), RULES]
    content: dict[str, Any] = {"membership": "join", "join_authorised_via_users_server": CHARLIE}
    more = [_member(CHARLIE)] if version.restricted_joins else []
    assert _selected(version, "m.room.member", ALICE, content) == plain + more
    for odd in (ALICE, None, 1, [CHARLIE]):
        odd_content = content | {"join_authorised_via_users_server": odd}
        assert _selected(version, "m.room.member", ALICE, odd_content) == plain


def _check(room: Room, event: Event, rejected: frozenset[str] = frozenset()) -> None:
    cited = [room.events[event_id] for event_id in event.auth_events if event_id in room.events]
    check_auth_events(event, cited, create=room.create, rejected=rejected)


def _cited(room: Room, *more: Event, without: StateKey | None = None) -> list[Event]:
    keys = [LEVELS, _member(BOB)] if room.version.room_id_is_create_hash else [CREATE, LEVELS, _member(BOB)]
    return [room.state[key] for key in keys if key != without] + list(more)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_selection_says_is_right(version: RoomVersion) -> None:
    """Rule 2: an event that cites just what the selection says is allowed; so is the create event."""
    room = Room.with_members(version, BOB)
    _check(room, room.create)
    for event in list(room.events.values()):
        _check(room, event)
    _check(room, room.make("m.room.message", BOB, auth_events=_cited(room, without=LEVELS)))


@pytest.mark.parametrize("version", VERSIONS)
def test_no_key_is_cited_twice(version: RoomVersion) -> None:
    """Rule 2.1: two auth events with the same type and state_key, or one twice, are rejected."""
    room = Room.with_members(version, BOB)
    old = room.state[_member(BOB)]
    room.join(BOB)
    for more in (old, room.state[_member(BOB)]):
        with pytest.raises(AuthRuleError) as error:
            _check(room, room.make("m.room.message", BOB, auth_events=_cited(room, more)))
        assert_refused(error, version, {1: "2.1", 12: "3.1"})


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_superfluous_is_cited(version: RoomVersion) -> None:
    """Rule 2.2: an auth event that the selection does not name is rejected, a message as one too."""
    room = Room.with_members(version, BOB)
    message = room.add("m.room.member", BOB, {"membership": "join"})
    for more in (room.state[RULES], room.state[_member(ALICE)], message):
        event = room.make("m.room.message", BOB, auth_events=_cited(room, more, without=_member(BOB)))
        with pytest.raises(AuthRuleError) as error:
            _check(room, event)
        assert_refused(error, version, {1: "2.2", 12: "3.2"})


@pytest.mark.parametrize("version", versions(12))
def test_create_is_not_cited_in_version_12(version: RoomVersion) -> None:
    """Rule 3.2 of version 12: the create event must not be among the auth events."""
    room = Room.with_members(version, BOB)
    with pytest.raises(AuthRuleError) as error:
        _check(room, room.make("m.room.message", BOB, auth_events=_cited(room, room.create)))
    assert error.value.rule == "3.2"


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_rejected_is_cited(version: RoomVersion) -> None:
    """Rule 2.3: an auth event that was itself rejected is rejected."""
    room = Room.with_members(version, BOB)
    rejected = frozenset([room.state[LEVELS].event_id])
    with pytest.raises(AuthRuleError) as error:
        _check(room, room.make("m.room.message", BOB), rejected)
    assert_refused(error, version, {1: "2.3", 12: "3.3"})


@pytest.mark.parametrize("version", versions(1, 11))
def test_create_is_cited_before_version_12(version: RoomVersion) -> None:
    """Rule 2.4: without the create event among the auth events, reject."""
    room = Room.with_members(version, BOB)
    with pytest.raises(AuthRuleError) as error:
        _check(room, room.make("m.room.message", BOB, auth_events=_cited(room, without=CREATE)))
    assert error.value.rule == "2.4"


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_of_another_room_is_cited(version: RoomVersion) -> None:
    """Rule 2.5: an auth event with another room_id is rejected."""
    room, other = Room.with_members(version, BOB), Room.created(version, creator=CHARLIE)
    other.events = room.events
    other.join(CHARLIE)
    foreign = other.join(BOB)
    assert foreign.room_id != room.room_id
    with pytest.raises(AuthRuleError) as error:
        _check(room, room.make("m.room.message", BOB, auth_events=_cited(room, foreign, without=_member(BOB))))
    assert_refused(error, version, {1: "2.5", 12: "3.5"})


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_unknown_is_cited(version: RoomVersion) -> None:
    """An event whose auth events are not all known is refused."""
    room = Room.with_members(version, BOB)
    event = room.make("m.room.message", BOB)
    with pytest.raises(AuthRuleError):
        check_auth_events(event, [room.create], create=room.create)


@pytest.mark.parametrize("version", versions(12))
def test_the_room_id_is_an_accepted_create_event(version: RoomVersion) -> None:
    """Rule 2 of version 12: the room_id is the id of an m.room.create event that was not rejected."""
    room, other = Room.with_members(version, BOB), Room.created(version, creator=CHARLIE)
    event = room.make("m.room.message", BOB)
    cited = [room.events[event_id] for event_id in event.auth_events]
    check_auth_events(event, cited, create=room.create)
    for create, rejected in ((None, ""), (other.create, ""), (room.create, room.create.event_id)):
        with pytest.raises(AuthRuleError) as error:
            check_auth_events(event, cited, create=create, rejected=frozenset([rejected]))
        assert error.value.rule == "2"
    posing = room.make("m.room.topic", BOB, {}, "", room_id="!" + event.event_id[1:], auth_events=[])
    with pytest.raises(AuthRuleError) as error:
        check_auth_events(posing, [], create=event)
    assert error.value.rule == "2"
