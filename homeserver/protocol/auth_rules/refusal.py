"""What a refused event is told: the rule's number as the text of its own room version counts it.

The rules were renumbered three times: version 6 dropped the rule on m.room.aliases, version 12 put one before the auth
events, and inside the longer rules versions 7, 8, 10 and 12 inserted clauses. The code names each rule once and this
module does the counting.
"""

from __future__ import annotations

from enum import IntEnum

from homeserver.protocol.errors import AuthRuleError
from homeserver.protocol.room_versions import RoomVersion


class Rule(IntEnum):
    """The rules on the outermost level, numbered as in room version 1.  # spec: rooms/v1#authorization-rules"""

    CREATE = 1
    AUTH_EVENTS = 2
    FEDERATE = 3
    ALIASES = 4
    MEMBER = 5
    NOT_JOINED = 6
    THIRD_PARTY_INVITE = 7
    REQUIRED_LEVEL = 8
    STATE_KEY = 9
    POWER_LEVELS = 10
    REDACTION = 11


def refusal(room_version: RoomVersion, rule: Rule, message: str, *clauses: int) -> AuthRuleError:
    """The error to raise: `clauses` are the numbers under `rule`, outermost first, as that version counts them."""
    return AuthRuleError(".".join(map(str, (_number(room_version, rule), *clauses))), message)


def _number(room_version: RoomVersion, rule: Rule) -> int:
    number = int(rule)
    if number > Rule.ALIASES and not room_version.special_aliases_auth:
        number -= 1
    if number > Rule.CREATE and room_version.room_id_is_create_hash:
        number += 1
    return number


def member_clause(room_version: RoomVersion, membership: str) -> int:
    """The clause of the m.room.member rule on that membership; "" stands for the unknown ones.

    # spec: rooms/v6#authorization-rules 4  rooms/v7#authorization-rules 4  rooms/v8#authorization-rules 4
    """
    order = ["join", "invite", "leave", "ban", *(["knock"] if room_version.knocking else []), ""]
    return order.index(membership) + (3 if room_version.restricted_joins else 2)


def power_levels_clause(room_version: RoomVersion, clause: int) -> int:
    """A clause of the m.room.power_levels rule, given as room version 12 counts it (10.1 to 10.10).

    # spec: rooms/v9#authorization-rules 9  rooms/v10#authorization-rules 9  rooms/v12#authorization-rules 10
    """
    number = clause
    if clause > 4 and not room_version.privileged_creators:
        number -= 1
    if clause > 2 and not room_version.integer_power_levels:
        number -= 2
    # Versions 1 to 9 have no rule of their own on the levels outside `users`: what they refuse is part of the first.
    return number
