"""Who may see an event: the rules of m.room.history_visibility, as functions of a few strings.

Whoever calls knows what stood in the room at the event (or reads it from the intervals that storage keeps) and passes
visibilities and memberships as they are written in events. A user without a member event has the membership "leave".

# spec: client-server-api/#room-history-visibility
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

WORLD_READABLE = "world_readable"
SHARED = "shared"
INVITED = "invited"
JOINED = "joined"
VISIBILITIES = frozenset((WORLD_READABLE, SHARED, INVITED, JOINED))


def visibility_of(content: Any) -> str:
    """The visibility that an m.room.history_visibility content sets; "shared" if it is None or not understood.

    # spec: client-server-api/#room-history-visibility
    """
    value = content.get("history_visibility") if isinstance(content, dict) else None
    return value if isinstance(value, str) and value in VISIBILITIES else SHARED


def may_see(*, visibility_at: str, membership_at: str, joined_after: bool) -> bool:
    """Whether a user may see an event.

    `visibility_at` and `membership_at` are those of the state at the event; `joined_after` says whether the user has
    joined the room at any point after the event was sent, even if they have left again.
    # spec: client-server-api/#room-history-visibility
    """
    if visibility_at == WORLD_READABLE:  # 1
        return True
    if membership_at == "join":  # 2
        return True
    if visibility_at == SHARED and joined_after:  # 3
        return True
    return membership_at == "invite" and visibility_at == INVITED  # 4, 5


def may_see_change(*, visibility: tuple[str, str], membership: tuple[str, str], joined_after: bool) -> bool:
    """Whether a user may see an event that itself changes the visibility, or that is the user's own member event.

    `visibility` and `membership` are (before, after) the event; where the event doesn't change one, both are the same.
    The more permissive of before and after counts. `joined_after` is as for `may_see`.
    # spec: client-server-api/#room-history-visibility
    """
    return any(
        may_see(visibility_at=visible, membership_at=member, joined_after=joined_after)
        for visible in set(visibility)
        for member in set(membership)
    )


def server_may_see(visibility: str, memberships_of_server: Iterable[str], *, joined_after: bool) -> bool:
    """Whether another server may be given an event: whether any of its users may see it.

    `memberships_of_server` are those of the server's users at the event (before and after it, where the event is one of
    their own member events); `joined_after` says whether any of them has joined since. For an event that changes the
    visibility, either answer (before, after) suffices.
    # spec: client-server-api/#room-history-visibility
    """
    memberships = {"leave", *memberships_of_server}
    return any(may_see(visibility_at=visibility, membership_at=m, joined_after=joined_after) for m in memberships)
