"""The rules on all events: federation, aliases, being joined, required levels, state keys, redactions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.auth_rules import auth_event_keys, check_auth
from homeserver.protocol.errors import AuthRuleError
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.power_levels import PowerLevels
from homeserver.protocol.room_versions import RoomVersion
from tests.protocol.auth_rules.refusals import assert_verdict, verdict
from tests.protocol.rooms import ALICE, BOB, CHARLIE, VERSIONS, Room, versions

EVERY = pytest.mark.parametrize("version", VERSIONS)


@EVERY
def test_closed_rooms_are_for_their_own_server(version: RoomVersion) -> None:
    """Rule 3: with m.federate false, only users of the create event's sender's server do anything."""
    content: dict[str, Any] = {"m.federate": False}
    room = Room.created(version, **content)
    room.join(ALICE)
    room.join_rules(ALICE, "public")
    neighbour = "@neighbour:" + ALICE.partition(":")[2]
    assert_verdict(room, room.make("m.room.member", neighbour, {"membership": "join"}, neighbour), {1: ""})
    event = room.make("m.room.member", BOB, {"membership": "join"}, BOB)
    assert_verdict(room, event, {1: "3", 12: "4"})
    for open_value in (True, "false", 0, None):
        room.create.content["m.federate"] = open_value
        assert_verdict(room, event, {1: ""})


@EVERY
def test_aliases_belonged_to_servers(version: RoomVersion) -> None:
    """Rule 4 up to version 5: any user sets the aliases of their own server, and no others."""
    room = Room.with_members(version, ALICE)
    later = {6: "5", 12: "6"}
    assert_verdict(room, room.make("m.room.aliases", BOB, {}, "b.example"), {1: "", **later})
    assert_verdict(room, room.make("m.room.aliases", BOB, {}), {1: "4.1", **later})
    assert_verdict(room, room.make("m.room.aliases", BOB, {}, "a.example"), {1: "4.2", **later})
    assert_verdict(room, room.make("m.room.aliases", ALICE, {}, "b.example"), {1: "4.2", 6: ""})


@EVERY
@pytest.mark.parametrize("membership", [None, "invite", "leave", "ban", "knock"])
def test_only_members_send(version: RoomVersion, membership: str | None) -> None:
    """Rule 6: who is not joined sends nothing."""
    room = Room.with_members(version)
    if membership is not None:
        room.member(BOB, membership)
    for type in ("m.room.message", "m.room.third_party_invite"):
        assert_verdict(room, room.make(type, BOB, {}), {1: "6", 6: "5", 12: "6"})


@EVERY
def test_required_levels(version: RoomVersion) -> None:
    """Rule 8: the sender has the level that the event's type requires, by being state or not if it isn't listed."""
    room = Room.with_members(version, BOB, CHARLIE, levels={BOB: 50, CHARLIE: 10})
    room.power_levels(ALICE, events={"m.room.name": 10, "m.reaction": 11, "m.room.message": 10}, events_default=40)
    refused = {1: "8", 6: "7", 12: "8"}
    assert_verdict(room, room.make("m.room.topic", BOB, {}, ""), {1: ""})
    assert_verdict(room, room.make("m.room.topic", CHARLIE, {}, ""), refused)
    assert_verdict(room, room.make("m.room.name", CHARLIE, {}, ""), {1: ""})
    assert_verdict(room, room.make("m.room.message", CHARLIE), {1: ""})
    assert_verdict(room, room.make("m.reaction", CHARLIE), refused)
    assert_verdict(room, room.make("m.room.encrypted", CHARLIE), refused)
    assert_verdict(room, room.make("m.room.encrypted", BOB), {1: ""})


@EVERY
def test_state_keys_of_users_are_their_own(version: RoomVersion) -> None:
    """Rule 9: a state_key that starts with @ is the sender."""
    room = Room.with_members(version, BOB, levels={BOB: 50})
    assert_verdict(room, room.make("org.example", BOB, {}, BOB), {1: ""})
    assert_verdict(room, room.make("org.example", BOB, {}, "b@b"), {1: ""})
    for state_key in (ALICE, "@", BOB + " "):
        assert_verdict(room, room.make("org.example", BOB, {}, state_key), {1: "9", 6: "8", 12: "9"})


@EVERY
def test_redacting(version: RoomVersion) -> None:
    """Rule 11 of versions 1 and 2: one redacts with the redact level, or events of one's own server."""
    room = Room.with_members(version, BOB, CHARLIE, levels={BOB: 50})
    event_id = "$1:a.example"
    assert_verdict(room, room.make("m.room.redaction", BOB, redacts=event_id), {1: ""})
    assert_verdict(room, room.make("m.room.redaction", CHARLIE, redacts=event_id), {1: "11.3", 3: ""})
    assert_verdict(room, room.make("m.room.redaction", CHARLIE), {1: "11.3", 3: ""})
    assert_verdict(room, room.make("m.room.redaction", CHARLIE, redacts="$1:c.example"), {1: ""})


class _Watched(Mapping[StateKey, Event]):
    """A state map that notes which keys are read."""

    def __init__(self, state: Mapping[StateKey, Event]) -> None:
        self.state, self.read = state, set[StateKey]()

    def __getitem__(self, key: StateKey) -> Event:
        self.read.add(key)
        return self.state[key]

    def __iter__(self) -> Iterator[StateKey]:
        raise AssertionError("the whole state is walked over")

    def __len__(self) -> int:
        raise AssertionError("the whole state is measured")


@EVERY
def test_only_what_is_selected_is_read(version: RoomVersion) -> None:
    """The rules read nothing of the state but what the auth events selection names."""
    room = Room.with_members(version, BOB, levels={BOB: 50})
    room.add("m.room.third_party_invite", BOB, {}, "t")
    signed = {"third_party_invite": {"signed": {"mxid": CHARLIE, "token": "t"}}}
    authorised = {"join_authorised_via_users_server": ALICE}
    candidates = [room.make("m.room.message", BOB), room.make("m.room.power_levels", BOB, {}, "")]
    for join_rule in ("public", "invite", "knock", "restricted", "knock_restricted"):
        room.join_rules(ALICE, join_rule)
        for membership in ("join", "invite", "knock", "leave", "ban"):
            for more in ({}, signed, authorised):
                for target in (BOB, CHARLIE):
                    content = {"membership": membership} | more
                    candidates.append(room.make("m.room.member", BOB, content, target))
                    candidates.append(room.make("m.room.member", CHARLIE, content, target))
    for event in candidates:
        state = _Watched(room.state)
        with contextlib.suppress(AuthRuleError):
            check_auth(event, state, create=room.create)
        keys = auth_event_keys(
            version, type=event.type, sender=event.sender, state_key=event.state_key, content=event.content
        )
        assert state.read <= set(keys)


@EVERY
def test_levels_at_hand_are_used(version: RoomVersion) -> None:
    """Power levels that the caller has computed give the same verdict without being read again."""
    room = Room.with_members(version, BOB)
    levels = PowerLevels.of(version, room.create, room.state.pop(("m.room.power_levels", "")))
    with pytest.raises(AuthRuleError) as error:
        check_auth(room.make("m.room.topic", BOB, {}, ""), room.state, create=room.create, power_levels=levels)
    assert error.value.rule in ("7", "8")
    check_auth(room.make("m.room.message", BOB), room.state, create=room.create, power_levels=levels)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["", ALICE, "join", "x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["signed", "token", "x"]), inner),
    max_leaves=4,
)
_keys = st.sampled_from(
    ["membership", "third_party_invite", "join_authorised_via_users_server", "users", "events", "notifications", "ban",
     "users_default", "invite", "creator", "room_version", "additional_creators", "m.federate", "join_rule"]
)  # fmt: skip
_contents = st.dictionaries(_keys, _json | st.sampled_from(["join", "invite", "knock", "leave", "ban"]), max_size=4)
_types = st.sampled_from(
    ["m.room.create", "m.room.member", "m.room.power_levels", "m.room.join_rules", "m.room.message", "m.room.aliases",
     "m.room.third_party_invite", "m.room.redaction"]
)  # fmt: skip
_state_keys = st.sampled_from([None, "", ALICE, BOB, "b.example", "@"])


@given(st.sampled_from(VERSIONS), _types, _state_keys, _contents, st.dictionaries(_types, _contents, max_size=3))
def test_hostile_content_is_refused_or_allowed(
    version: RoomVersion, type: str, state_key: str | None, content: Any, state: dict[str, Any]
) -> None:
    """Whatever events and the state hold, the rules allow or refuse and raise nothing else."""
    room = Room.with_members(version, BOB, levels={BOB: 50})
    for state_type, state_content in state.items():
        hostile = room.make(state_type, ALICE, {}, ALICE if state_type == "m.room.member" else "")
        hostile.content.update(state_content)
        room.state[hostile.key] = hostile
    event = room.make(type, BOB, {}, state_key)
    event.content.update(content)
    assert isinstance(verdict(room, event), str)


@pytest.mark.parametrize("version", versions(1, 11))
def test_a_create_event_without_creator_makes_nobody_powerful(version: RoomVersion) -> None:
    """A content.creator that is no string gives no one the creator's rights."""
    room = Room.created(version)
    room.create.content["creator"] = None
    event = room.make("m.room.member", ALICE, {"membership": "join"}, ALICE)
    assert (verdict(room, event) == "") is version.implicit_creator
