"""The rule on m.room.member.

# spec: rooms/v6#authorization-rules 4  rooms/v7#authorization-rules 4  rooms/v11#authorization-rules 4
"""

from __future__ import annotations

from typing import Final

from homeserver.protocol.auth_rules.auth_events import JOIN_RULES
from homeserver.protocol.auth_rules.refusal import Rule, member_clause, refusal
from homeserver.protocol.auth_rules.third_party_invites import check_third_party_invite
from homeserver.protocol.errors import AuthRuleError
from homeserver.protocol.events import Event, StateMap
from homeserver.protocol.power_levels import PowerLevels

_WITHOUT_KNOCK: Final = ("invite", "join")
_WITH_KNOCK: Final = ("invite", "join", "knock")


def membership_in(state: StateMap, user_id: str) -> str | None:
    """The user's membership in that state, None if there is none (which counts like "leave")."""
    member = state.get(("m.room.member", user_id))
    return None if member is None else member.membership


def check_member(event: Event, state: StateMap, create: Event, levels: PowerLevels) -> None:
    """Judges an m.room.member event.

    Clause 4.2, the signature of the server of `join_authorised_via_users_server`, is checked with the other signatures
    (`signing.required_signers`): it needs keys, and holds or fails whatever the state.

    :param levels: the power levels in `state`
    :raises AuthRuleError:
    """
    version = event.room_version
    # spec: rooms/v11#authorization-rules 4.1
    if event.state_key is None or "membership" not in event.content:
        raise refusal(version, Rule.MEMBER, "m.room.member without state_key or membership", 1)
    match event.membership:
        case "join":
            _check_join(event, state, create, levels)
        case "invite":
            _check_invite(event, state, levels)
        case "leave":
            _check_leave(event, state, levels)
        case "ban":
            _check_ban(event, state, levels)
        case "knock" if version.knocking:
            _check_knock(event, state)
        case _:
            # spec: rooms/v11#authorization-rules 4.8
            raise _refused(event, "", f"Unknown membership {event.content['membership']!r}")


def _check_join(event: Event, state: StateMap, create: Event, levels: PowerLevels) -> None:
    version = event.room_version
    # spec: rooms/v11#authorization-rules 4.3.1
    creator = create.sender if version.implicit_creator else create.content.get("creator")
    if event.state_key == creator and event.prev_events == (create.event_id,):
        return
    # spec: rooms/v11#authorization-rules 4.3.2
    if event.sender != event.state_key:
        raise _refused(event, "join", "Nobody can join another user", 2)
    membership = membership_in(state, event.sender)
    # spec: rooms/v11#authorization-rules 4.3.3
    if membership == "ban":
        raise _refused(event, "join", f"{event.sender} is banned from the room", 3)
    join_rule = _join_rule(state)
    # spec: rooms/v11#authorization-rules 4.3.4
    if (join_rule == "invite" or (join_rule == "knock" and version.knocking)) and membership in _WITHOUT_KNOCK:
        return
    # spec: rooms/v11#authorization-rules 4.3.5
    if (join_rule == "restricted" and version.restricted_joins) or (
        join_rule == "knock_restricted" and version.knock_restricted
    ):
        # spec: rooms/v11#authorization-rules 4.3.5.1
        if membership not in _WITHOUT_KNOCK:
            _check_authoriser(event, state, levels)
        return
    # spec: rooms/v11#authorization-rules 4.3.6
    if join_rule != "public":
        # spec: rooms/v11#authorization-rules 4.3.7
        raise _refused(event, "join", f"{event.sender} is not invited", 7 if version.restricted_joins else 6)


def _check_authoriser(event: Event, state: StateMap, levels: PowerLevels) -> None:
    # spec: rooms/v11#authorization-rules 4.3.5.2
    authoriser = event.content.get("join_authorised_via_users_server")
    if (
        not isinstance(authoriser, str)
        or membership_in(state, authoriser) != "join"
        or levels.user(authoriser) < levels.invite
    ):
        raise _refused(event, "join", "No member who may invite has authorised the join", 5, 2)


def _check_invite(event: Event, state: StateMap, levels: PowerLevels) -> None:
    # spec: rooms/v11#authorization-rules 4.4.1
    if "third_party_invite" in event.content:
        check_third_party_invite(event, state)
        return
    # spec: rooms/v11#authorization-rules 4.4.2
    if membership_in(state, event.sender) != "join":
        raise _refused(event, "invite", f"{event.sender} is not in the room", 2)
    # spec: rooms/v11#authorization-rules 4.4.3
    target = _target(event)
    if membership_in(state, target) in ("join", "ban"):
        raise _refused(event, "invite", f"{target} is in the room or banned from it", 3)
    # spec: rooms/v11#authorization-rules 4.4.4
    if levels.user(event.sender) < levels.invite:
        # spec: rooms/v11#authorization-rules 4.4.5
        raise _refused(event, "invite", f"{event.sender} may not invite", 5)


def _check_leave(event: Event, state: StateMap, levels: PowerLevels) -> None:
    target = _target(event)
    # spec: rooms/v11#authorization-rules 4.5.1
    if event.sender == target:
        if membership_in(state, target) not in (_WITH_KNOCK if event.room_version.knocking else _WITHOUT_KNOCK):
            raise _refused(event, "leave", f"{target} is not in the room", 1)
        return
    # spec: rooms/v11#authorization-rules 4.5.2
    if membership_in(state, event.sender) != "join":
        raise _refused(event, "leave", f"{event.sender} is not in the room", 2)
    level = levels.user(event.sender)
    # spec: rooms/v11#authorization-rules 4.5.3
    if membership_in(state, target) == "ban" and level < levels.ban:
        raise _refused(event, "leave", f"{event.sender} may not unban", 3)
    # spec: rooms/v11#authorization-rules 4.5.4
    if level < levels.kick or levels.user(target) >= level:
        # spec: rooms/v11#authorization-rules 4.5.5
        raise _refused(event, "leave", f"{event.sender} may not remove {target}", 5)


def _check_ban(event: Event, state: StateMap, levels: PowerLevels) -> None:
    # spec: rooms/v11#authorization-rules 4.6.1
    if membership_in(state, event.sender) != "join":
        raise _refused(event, "ban", f"{event.sender} is not in the room", 1)
    # spec: rooms/v11#authorization-rules 4.6.2
    level = levels.user(event.sender)
    if level < levels.ban or levels.user(_target(event)) >= level:
        # spec: rooms/v11#authorization-rules 4.6.3
        raise _refused(event, "ban", f"{event.sender} may not ban {event.state_key}", 3)


def _check_knock(event: Event, state: StateMap) -> None:
    join_rule = _join_rule(state)
    # spec: rooms/v11#authorization-rules 4.7.1
    if join_rule != "knock" and not (join_rule == "knock_restricted" and event.room_version.knock_restricted):
        raise _refused(event, "knock", "The room does not take knocks", 1)
    # spec: rooms/v11#authorization-rules 4.7.2
    if event.sender != event.state_key:
        raise _refused(event, "knock", "Nobody can knock for another user", 2)
    # spec: rooms/v11#authorization-rules 4.7.3
    if membership_in(state, event.sender) in ("ban", "invite", "join"):
        # spec: rooms/v11#authorization-rules 4.7.4
        raise _refused(event, "knock", f"{event.sender} is invited, in the room, or banned from it", 4)


def _join_rule(state: StateMap) -> object:
    # A room in which nobody said who may join is one that is joined by invitation.
    join_rules = state.get(JOIN_RULES)
    return "invite" if join_rules is None else join_rules.content.get("join_rule", "invite")


def _target(event: Event) -> str:
    assert event.state_key is not None  # clause 4.1
    return event.state_key


def _refused(event: Event, membership: str, message: str, *clauses: int) -> AuthRuleError:
    version = event.room_version
    return refusal(version, Rule.MEMBER, message, member_clause(version, membership), *clauses)
