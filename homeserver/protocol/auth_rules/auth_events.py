"""The events that an event cites: which ones it should, and the rules on those that it does.

# spec: server-server-api/#auth-events-selection
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from homeserver.protocol.auth_rules.refusal import Rule, refusal
from homeserver.protocol.errors import AuthRuleError
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.room_versions import RoomVersion

CREATE: StateKey = ("m.room.create", "")
POWER_LEVELS: StateKey = ("m.room.power_levels", "")
JOIN_RULES: StateKey = ("m.room.join_rules", "")


def auth_event_keys(
    room_version: RoomVersion, *, type: str, sender: str, state_key: str | None, content: Mapping[str, Any]
) -> list[StateKey]:
    """The keys of the room state on which such an event depends: what it cites, and all that `check_auth` reads.

    No key twice, always in the same order. Empty for m.room.create.
    # spec: server-server-api/#auth-events-selection
    """
    if type == "m.room.create":
        return []
    # spec: rooms/v12#authorization-rules 3.2 (the room id implies the create event)
    keys = [POWER_LEVELS] if room_version.room_id_is_create_hash else [CREATE, POWER_LEVELS]
    keys.append(("m.room.member", sender))
    if type == "m.room.member" and state_key is not None:
        _add_member_keys(keys, room_version, state_key, content)
    return keys


def _add_member_keys(keys: list[StateKey], room_version: RoomVersion, target: str, content: Mapping[str, Any]) -> None:
    if ("m.room.member", target) not in keys:
        keys.append(("m.room.member", target))
    membership = content.get("membership")
    if membership in ("join", "invite", "knock"):
        keys.append(JOIN_RULES)
    if membership == "invite":
        token = third_party_token(content)
        if token is not None:
            keys.append(("m.room.third_party_invite", token))
    if membership == "join" and room_version.restricted_joins:
        authoriser = content.get("join_authorised_via_users_server")
        if isinstance(authoriser, str) and ("m.room.member", authoriser) not in keys:
            keys.append(("m.room.member", authoriser))


def third_party_token(content: Mapping[str, Any]) -> str | None:
    """`third_party_invite.signed.token` of an invite's content, None if it isn't there or no string."""
    invite = content.get("third_party_invite")
    signed = invite.get("signed") if isinstance(invite, dict) else None
    token = signed.get("token") if isinstance(signed, dict) else None
    return token if isinstance(token, str) else None


def check_auth_events(
    event: Event, auth_events: Sequence[Event], *, create: Event | None, rejected: Container[str] = frozenset()
) -> None:
    """The rules that consider the event's `auth_events`, and (room version 12 on) its `room_id`.

    :param auth_events: the events whose ids `event.auth_events` lists, all of them
    :param create: the room's m.room.create event if this server has it; needed from room version 12 on
    :param rejected: ids of rejected events, at least those among `auth_events` and `create`
    :raises AuthRuleError: also if `auth_events` lacks one that is cited: nothing can be authorized by the unknown
    # spec: rooms/v11#authorization-rules 2  rooms/v12#authorization-rules 2, 3
    """
    version = event.room_version
    if event.type == "m.room.create":
        return  # rule 1 alone decides about it: `check_auth`
    if version.room_id_is_create_hash:
        _check_room_id(event, create, rejected)
    by_id = {cited.event_id: cited for cited in auth_events}
    wanted = set(
        auth_event_keys(version, type=event.type, sender=event.sender, state_key=event.state_key, content=event.content)
    )
    seen: set[StateKey] = set()
    for event_id in event.auth_events:
        cited = by_id.get(event_id)
        if cited is None:
            raise refusal(version, Rule.AUTH_EVENTS, f"The auth event {event_id} is not known")
        key = (cited.type, cited.state_key or "")
        # spec: rooms/v11#authorization-rules 2.1
        if key in seen:
            raise refusal(version, Rule.AUTH_EVENTS, f"Two auth events have the key {key}", 1)
        seen.add(key)
        # spec: rooms/v11#authorization-rules 2.2
        if not cited.is_state or key not in wanted:
            raise refusal(version, Rule.AUTH_EVENTS, f"An auth event with the key {key} is not called for", 2)
        # spec: rooms/v11#authorization-rules 2.3
        if event_id in rejected:
            raise refusal(version, Rule.AUTH_EVENTS, f"The auth event {event_id} was rejected", 3)
    # spec: rooms/v11#authorization-rules 2.4
    if not version.room_id_is_create_hash and CREATE not in seen:
        raise refusal(version, Rule.AUTH_EVENTS, "No m.room.create event among the auth events", 4)
    # spec: rooms/v11#authorization-rules 2.5
    for event_id in event.auth_events:
        if by_id[event_id].room_id != event.room_id:
            raise refusal(version, Rule.AUTH_EVENTS, f"The auth event {event_id} is in another room", 5)


def _check_room_id(event: Event, create: Event | None, rejected: Container[str]) -> None:
    # spec: rooms/v12#authorization-rules 2
    if (
        create is None
        or create.type != "m.room.create"
        or create.event_id[1:] != event.room_id[1:]
        or create.event_id in rejected
    ):
        raise AuthRuleError("2", "The room id is not that of an accepted m.room.create event")
