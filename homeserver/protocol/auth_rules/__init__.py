"""The authorization rules of room versions 1 to 12: may this event stand, given these events?

An event is judged twice with different inputs, so there are two functions. `check_auth_events` looks at the events that
it cites (once, on receipt); `check_auth` holds it against a room state (the one its auth events make, the state before
it, the current state, and over and over in state resolution). `auth_event_keys` says which part of a room state that
is, and is also what a new event cites.

One file a family of rules. What differs between room versions is asked of `RoomVersion`'s flags; the number that a rule
has in the text of the event's own version is computed (`refusal`) only for the error.

# spec: server-server-api/#authorisation-rules  rooms/v1#authorization-rules … rooms/v12#authorization-rules
"""

from homeserver.protocol.auth_rules.auth_events import auth_event_keys, check_auth_events
from homeserver.protocol.auth_rules.check import check_auth

__all__ = ["auth_event_keys", "check_auth", "check_auth_events"]
