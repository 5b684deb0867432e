"""An event against a room state: the rules in their order.  # spec: rooms/v11#authorization-rules 3 to 10"""

from __future__ import annotations

from homeserver.protocol.auth_rules.auth_events import POWER_LEVELS
from homeserver.protocol.auth_rules.create import check_create
from homeserver.protocol.auth_rules.membership import check_member, membership_in
from homeserver.protocol.auth_rules.power_levels import check_power_levels
from homeserver.protocol.auth_rules.refusal import Rule, refusal
from homeserver.protocol.errors import AuthRuleError
from homeserver.protocol.events import Event, StateMap
from homeserver.protocol.identifiers import domain_of
from homeserver.protocol.power_levels import PowerLevels
from homeserver.protocol.room_versions import EventIdFormat


def check_auth(event: Event, state: StateMap, *, create: Event, power_levels: PowerLevels | None = None) -> None:
    """Holds the event against a room state: every rule but those on `auth_events`.

    :param state: read only at the keys that `auth_event_keys` gives for the event, without the create event
    :param create: the room's m.room.create event; for an m.room.create event, itself
    :param power_levels: what `PowerLevels.of` gives for `create` and the state's m.room.power_levels, if at hand
    :raises AuthRuleError: naming the rule that refuses the event
    # spec: rooms/v11#authorization-rules
    """
    version = event.room_version
    if event.type == "m.room.create":
        check_create(event)
        return
    sender = event.sender
    # spec: rooms/v11#authorization-rules 3
    if create.content.get("m.federate") is False and domain_of(sender) != domain_of(create.sender):
        raise refusal(version, Rule.FEDERATE, "The room is not open to other servers")
    if event.type == "m.room.aliases" and version.special_aliases_auth:
        _check_aliases(event)
        return
    levels = power_levels or PowerLevels.of(version, create, state.get(POWER_LEVELS))
    if event.type == "m.room.member":
        check_member(event, state, create, levels)
        return
    # spec: rooms/v11#authorization-rules 5
    if membership_in(state, sender) != "join":
        raise refusal(version, Rule.NOT_JOINED, f"{sender} is not in the room")
    level = levels.user(sender)
    if event.type == "m.room.third_party_invite":
        # spec: rooms/v11#authorization-rules 6.1
        if level < levels.invite:
            raise refusal(version, Rule.THIRD_PARTY_INVITE, f"{sender} may not invite", 1)
        return
    # spec: rooms/v11#authorization-rules 7
    if levels.required(event.type, event.state_key is not None) > level:
        raise refusal(version, Rule.REQUIRED_LEVEL, f"{sender} may not send {event.type} events")
    # spec: rooms/v11#authorization-rules 8
    if event.state_key is not None and event.state_key.startswith("@") and event.state_key != sender:
        raise refusal(version, Rule.STATE_KEY, f"Only {event.state_key} may set this state")
    if event.type == "m.room.power_levels":
        check_power_levels(event, state.get(POWER_LEVELS), create, level)
    elif event.type == "m.room.redaction" and version.event_id_format is EventIdFormat.CHOSEN:
        _check_redaction(event, level, levels)


def _check_aliases(event: Event) -> None:
    # spec: rooms/v5#authorization-rules 4
    if event.state_key is None:
        raise AuthRuleError("4.1", "m.room.aliases without state_key")
    if domain_of(event.sender) != event.state_key:
        raise AuthRuleError("4.2", "m.room.aliases for another server")


def _check_redaction(event: Event, level: int | float, levels: PowerLevels) -> None:
    # spec: rooms/v2#authorization-rules 11.1
    if level >= levels.redact:
        return
    # spec: rooms/v2#authorization-rules 11.2
    # From version 3 on no event id has a domain, and whether a redaction applies is decided when both events are there.
    redacts = event.redacts
    if redacts is not None and domain_of(redacts) == domain_of(event.event_id):
        return
    raise AuthRuleError("11.3", f"{event.sender} may not redact that event")
