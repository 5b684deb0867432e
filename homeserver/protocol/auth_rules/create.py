"""The rule on m.room.create.  # spec: rooms/v11#authorization-rules 1  rooms/v12#authorization-rules 1"""

from __future__ import annotations

from homeserver.protocol.auth_rules.refusal import Rule, refusal
from homeserver.protocol.events import Event
from homeserver.protocol.identifiers import domain_of, is_user_id


def check_create(event: Event) -> None:
    """Judges an m.room.create event, which depends on nothing but itself.

    :raises AuthRuleError:
    """
    version = event.room_version
    # spec: rooms/v11#authorization-rules 1.1
    if event.prev_events:
        raise refusal(version, Rule.CREATE, "m.room.create has prev_events", 1)
    if version.room_id_is_create_hash:
        # spec: rooms/v12#authorization-rules 1.2
        if "room_id" in event.json:
            raise refusal(version, Rule.CREATE, "m.room.create has a room_id", 2)
    # spec: rooms/v11#authorization-rules 1.2
    elif domain_of(event.room_id) != domain_of(event.sender):
        raise refusal(version, Rule.CREATE, "The room id is of another server than the creator", 2)
    # spec: rooms/v11#authorization-rules 1.3
    # No version recognises a create event of another one: it must be judged by the rules that it names itself.
    if event.content.get("room_version", "1") != version.identifier:
        raise refusal(version, Rule.CREATE, f"m.room.create is not of room version {version.identifier}", 3)
    # spec: rooms/v10#authorization-rules 1.4
    if not version.implicit_creator and "creator" not in event.content:
        raise refusal(version, Rule.CREATE, "m.room.create names no creator", 4)
    # spec: rooms/v12#authorization-rules 1.4
    if version.privileged_creators and "additional_creators" in event.content:
        additional = event.content["additional_creators"]
        if not isinstance(additional, list) or not all(
            isinstance(user, str) and is_user_id(user) for user in additional
        ):
            raise refusal(version, Rule.CREATE, "additional_creators is not an array of user ids", 4)
