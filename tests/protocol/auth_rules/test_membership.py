"""The rule on m.room.member (5, then 4 from version 6 on, then 5 again from version 12 on)."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.protocol.room_versions import RoomVersion
from tests.protocol.auth_rules.refusals import assert_verdict
from tests.protocol.rooms import ALICE, BOB, CHARLIE, DAVE, VERSIONS, Room, versions

JOIN = {1: "5.2", 6: "4.2", 8: "4.3", 12: "5.3"}
INVITE = {1: "5.3", 6: "4.3", 8: "4.4", 12: "5.4"}
LEAVE = {1: "5.4", 6: "4.4", 8: "4.5", 12: "5.5"}
BAN = {1: "5.5", 6: "4.5", 8: "4.6", 12: "5.6"}
KNOCK = {1: "5.6", 6: "4.6", 8: "4.7", 12: "5.7"}
EVERY = pytest.mark.parametrize("version", VERSIONS)


def _under(rule: dict[int, str], clause: str) -> dict[int, str]:
    return {first: f"{number}.{clause}" for first, number in rule.items()}


def _event(room: Room, sender: str, membership: Any, target: str | None = None, **more: Any) -> Any:
    content = {"membership": membership} | more
    return room.make("m.room.member", sender, content, sender if target is None else target)


@EVERY
def test_membership_and_state_key_are_needed(version: RoomVersion) -> None:
    """5.1: without a state_key or a membership, reject."""
    room = Room.with_members(version)
    assert_verdict(room, room.make("m.room.member", BOB, {"membership": "join"}), {1: "5.1", 6: "4.1", 12: "5.1"})
    assert_verdict(room, room.make("m.room.member", BOB, {}, BOB), {1: "5.1", 6: "4.1", 12: "5.1"})


@EVERY
@pytest.mark.parametrize("membership", ["", "Join", "kick", None, 1, ["join"], {"join": 1}])
def test_unknown_memberships(version: RoomVersion, membership: object) -> None:
    """5.6, last clause: an unknown membership is rejected."""
    room = Room.with_members(version, BOB)
    assert_verdict(room, _event(room, BOB, membership), {1: "5.6", 6: "4.6", 7: "4.7", 8: "4.8", 12: "5.8"})


@EVERY
def test_the_creator_joins_first(version: RoomVersion) -> None:
    """5.2.1: the creator may join right after the create event, nobody else may, and only right after it."""
    room = Room.created(version)
    assert_verdict(room, _event(room, ALICE, "join"), {1: ""})
    assert_verdict(room, _event(room, BOB, "join"), {1: "5.2.6", 6: "4.2.6", 8: "4.3.7", 12: "5.3.7"})
    later = room.make("m.room.member", ALICE, {"membership": "join"}, ALICE, prev_events=[room.create, room.create])
    assert_verdict(room, later, {1: "5.2.6", 6: "4.2.6", 8: "4.3.7", 12: "5.3.7"})


@pytest.mark.parametrize("version", versions(12))
def test_additional_creators_need_an_invite(version: RoomVersion) -> None:
    """5.3.1 of version 12: only the sender of the create event joins without more, not an additional creator."""
    room = Room.created(version, additional_creators=[BOB])
    assert_verdict(room, _event(room, BOB, "join"), {12: "5.3.7"})


@EVERY
def test_nobody_joins_someone_else(version: RoomVersion) -> None:
    """5.2.2: the sender of a join is who joins."""
    room = Room.with_members(version, BOB)
    assert_verdict(room, _event(room, ALICE, "join", CHARLIE), _under(JOIN, "2"))


@EVERY
def test_the_banned_stay_out(version: RoomVersion) -> None:
    """5.2.3: who is banned does not join, whatever the join rule."""
    room = Room.with_members(version, BOB)
    room.member(ALICE, "ban", BOB)
    assert_verdict(room, _event(room, BOB, "join"), _under(JOIN, "3"))


@EVERY
def test_joining_by_invitation(version: RoomVersion) -> None:
    """5.2.4: under join rule invite those join who are invited, or joined already."""
    room = Room.with_members(version, BOB, join_rule="invite")
    refused = {1: "5.2.6", 6: "4.2.6", 8: "4.3.7", 12: "5.3.7"}
    assert_verdict(room, _event(room, BOB, "join"), {1: ""})
    assert_verdict(room, _event(room, CHARLIE, "join"), refused)
    room.member(ALICE, "invite", CHARLIE)
    assert_verdict(room, _event(room, CHARLIE, "join"), {1: ""})
    room.member(BOB, "leave")
    assert_verdict(room, _event(room, BOB, "join"), refused)


@EVERY
@pytest.mark.parametrize("join_rule", ["private", "PUBLIC", "", None, 1, ["public"], {"public": 1}])
def test_unknown_join_rules_let_nobody_in(version: RoomVersion, join_rule: Any) -> None:
    """5.2.6: under a join rule that the version doesn't know, not even the invited join."""
    room = Room.with_members(version, join_rule=join_rule)
    room.member(ALICE, "invite", BOB)
    assert_verdict(room, _event(room, BOB, "join"), {1: "5.2.6", 6: "4.2.6", 8: "4.3.7", 12: "5.3.7"})


@EVERY
@pytest.mark.parametrize(("join_rule", "since"), [("knock", 7), ("restricted", 8), ("knock_restricted", 10)])
def test_newer_join_rules_admit_the_invited(version: RoomVersion, join_rule: str, since: int) -> None:
    """5.2.4, 5.2.5.1: knock (7), restricted (8) and knock_restricted (10) let the invited in from their version on."""
    room = Room.with_members(version, CHARLIE, join_rule=join_rule)
    room.member(ALICE, "invite", BOB)
    refused = {1: "5.2.6", 6: "4.2.6", 8: "4.3.7", 12: "5.3.7"}
    for user in (BOB, CHARLIE):
        assert_verdict(room, _event(room, user, "join"), {1: ""} if int(version.identifier) >= since else refused)


@pytest.mark.parametrize("version", versions(8))
@pytest.mark.parametrize("join_rule", ["restricted", "knock_restricted"])
def test_restricted_joins_are_authorised_by_a_member_who_may_invite(version: RoomVersion, join_rule: str) -> None:
    """4.3.5.2: a restricted join names a joined member who has the power to invite."""
    if join_rule == "knock_restricted" and not version.knock_restricted:
        room = Room.with_members(version, BOB, join_rule=join_rule)
        event = _event(room, CHARLIE, "join", join_authorised_via_users_server=BOB)
        assert_verdict(room, event, {8: "4.3.7"})
        return
    room = Room.with_members(version, BOB, DAVE, levels={BOB: 10, DAVE: 9}, join_rule=join_rule)
    room.power_levels(ALICE, invite=10)
    room.member(ALICE, "invite", "@eve:e.example")
    assert_verdict(room, _event(room, CHARLIE, "join", join_authorised_via_users_server=BOB), {8: ""})
    for authoriser in (DAVE, "@eve:e.example", "@nobody:n.example", CHARLIE, None, 1, [BOB]):
        event = _event(room, CHARLIE, "join", join_authorised_via_users_server=authoriser)
        assert_verdict(room, event, {8: "4.3.5.2", 12: "5.3.5.2"})
    assert_verdict(room, _event(room, CHARLIE, "join"), {8: "4.3.5.2", 12: "5.3.5.2"})


@EVERY
def test_invites_come_from_members_to_others(version: RoomVersion) -> None:
    """5.3.2 and 5.3.3: the inviter is in the room, the invited neither in it nor banned."""
    room = Room.with_members(version, BOB, DAVE)
    room.member(ALICE, "ban", DAVE)
    assert_verdict(room, _event(room, BOB, "invite", CHARLIE), {1: ""})
    assert_verdict(room, _event(room, CHARLIE, "invite", "@eve:e.example"), _under(INVITE, "2"))
    assert_verdict(room, _event(room, ALICE, "invite", BOB), _under(INVITE, "3"))
    assert_verdict(room, _event(room, ALICE, "invite", DAVE), _under(INVITE, "3"))


@EVERY
def test_inviting_takes_power(version: RoomVersion) -> None:
    """5.3.4 and 5.3.5: the inviter has at least the invite level."""
    room = Room.with_members(version, BOB, DAVE, levels={BOB: 10, DAVE: 9})
    room.power_levels(ALICE, invite=10)
    assert_verdict(room, _event(room, BOB, "invite", CHARLIE), {1: ""})
    assert_verdict(room, _event(room, DAVE, "invite", CHARLIE), _under(INVITE, "5"))


@EVERY
def test_leaving(version: RoomVersion) -> None:
    """5.4.1: users leave who are joined or invited (or have knocked, from version 7 on)."""
    room = Room.with_members(version, BOB, DAVE)
    room.member(ALICE, "invite", CHARLIE)
    room.member(ALICE, "ban", DAVE)
    for user in (BOB, CHARLIE):
        assert_verdict(room, _event(room, user, "leave"), {1: ""})
    for user in (DAVE, "@eve:e.example"):
        assert_verdict(room, _event(room, user, "leave"), _under(LEAVE, "1"))
    room.member("@eve:e.example", "knock")
    assert_verdict(room, _event(room, "@eve:e.example", "leave"), {1: "5.4.1", 6: "4.4.1", 7: ""})
    room.member(BOB, "leave")
    assert_verdict(room, _event(room, BOB, "leave"), _under(LEAVE, "1"))


@EVERY
def test_kicking(version: RoomVersion) -> None:
    """5.4.2, 5.4.4, 5.4.5: members with the kick level remove those who have less power than they."""
    room = Room.with_members(version, BOB, CHARLIE, DAVE, levels={BOB: 50, CHARLIE: 50, DAVE: 49})
    assert_verdict(room, _event(room, BOB, "leave", DAVE), {1: ""})
    assert_verdict(room, _event(room, BOB, "leave", CHARLIE), _under(LEAVE, "5"))
    assert_verdict(room, _event(room, BOB, "leave", ALICE), _under(LEAVE, "5"))
    assert_verdict(room, _event(room, DAVE, "leave", "@eve:e.example"), _under(LEAVE, "5"))
    assert_verdict(room, _event(room, "@eve:e.example", "leave", DAVE), _under(LEAVE, "2"))


@EVERY
def test_unbanning(version: RoomVersion) -> None:
    """5.4.3: to unban takes the ban level, besides the kick level."""
    room = Room.with_members(version, BOB, CHARLIE, DAVE, levels={BOB: 50, CHARLIE: 60})
    room.power_levels(ALICE, ban=60)
    room.member(ALICE, "ban", DAVE)
    assert_verdict(room, _event(room, BOB, "leave", DAVE), _under(LEAVE, "3"))
    assert_verdict(room, _event(room, CHARLIE, "leave", DAVE), {1: ""})


@EVERY
def test_banning(version: RoomVersion) -> None:
    """5.5: members with the ban level ban those who have less power than they, in the room or not."""
    room = Room.with_members(version, BOB, CHARLIE, DAVE, levels={BOB: 50, CHARLIE: 50, DAVE: 49})
    assert_verdict(room, _event(room, BOB, "ban", DAVE), {1: ""})
    assert_verdict(room, _event(room, BOB, "ban", "@eve:e.example"), {1: ""})
    assert_verdict(room, _event(room, BOB, "ban", CHARLIE), _under(BAN, "3"))
    assert_verdict(room, _event(room, BOB, "ban", BOB), _under(BAN, "3"))
    assert_verdict(room, _event(room, DAVE, "ban", "@eve:e.example"), _under(BAN, "3"))
    assert_verdict(room, _event(room, "@eve:e.example", "ban", DAVE), _under(BAN, "1"))


@pytest.mark.parametrize("version", versions(12))
def test_creators_of_version_12_are_out_of_reach(version: RoomVersion) -> None:
    """5.5.5, 5.6.3 of version 12: nobody has more power than a creator, so nobody kicks or bans one."""
    room = Room.created(version, additional_creators=[BOB])
    room.join(ALICE)
    room.join_rules(ALICE, "public")
    room.add("m.room.power_levels", ALICE, {"users": {CHARLIE: 2**53 - 1}}, "")
    for user in (BOB, CHARLIE):
        room.join(user)
    for sender, target in ((CHARLIE, ALICE), (CHARLIE, BOB), (BOB, ALICE), (ALICE, BOB)):
        assert_verdict(room, _event(room, sender, "leave", target), {12: "5.5.5"})
        assert_verdict(room, _event(room, sender, "ban", target), {12: "5.6.3"})
    assert_verdict(room, _event(room, BOB, "ban", CHARLIE), {12: ""})


@EVERY
@pytest.mark.parametrize(("join_rule", "since"), [("knock", 7), ("knock_restricted", 10), ("public", 13)])
def test_knocking_needs_a_door(version: RoomVersion, join_rule: str, since: int) -> None:
    """5.7.1: one knocks under join rule knock (7), or knock_restricted (10); before version 7 nobody knows knocks."""
    room = Room.with_members(version, join_rule=join_rule)
    if int(version.identifier) >= since:
        assert_verdict(room, _event(room, BOB, "knock"), {7: ""})
    else:
        assert_verdict(room, _event(room, BOB, "knock"), {1: "5.6", 6: "4.6", 7: "4.6.1", 8: "4.7.1", 12: "5.7.1"})


@pytest.mark.parametrize("version", versions(7))
def test_knocking_is_for_oneself_and_from_outside(version: RoomVersion) -> None:
    """5.7.2 to 5.7.4: nobody knocks for others, nor when invited, joined or banned; one may knock again."""
    room = Room.with_members(version, BOB, DAVE, join_rule="knock")
    knock = {7: "4.6", 8: "4.7", 12: "5.7"}
    room.member(ALICE, "invite", CHARLIE)
    room.member(ALICE, "ban", DAVE)
    assert_verdict(room, _event(room, BOB, "knock", "@eve:e.example"), _under(knock, "2"))
    for user in (BOB, CHARLIE, DAVE):
        assert_verdict(room, _event(room, user, "knock"), _under(knock, "4"))
    room.member("@eve:e.example", "knock")
    room.member(BOB, "leave")
    for user in (BOB, "@eve:e.example"):
        assert_verdict(room, _event(room, user, "knock"), {7: ""})
