"""Which member events a lazily loading client has been sent, so that they are not sent over and over.

An entry counts only for a client whose token is at or past the response that carried it: a response that got lost is
repeated with the members in it. Losing entries merely makes a response larger.

# spec: client-server-api/#lazy-loading-room-members
"""

from __future__ import annotations

from homeserver.storage.names import BoundedCache

_MOST_PER_ROOM = 1_000


class SentMembers:
    """What this process has sent to whom: (user, device, room) -> member -> (event_nid, position of the response)."""

    def __init__(self, size: int = 20_000) -> None:
        self._sent: BoundedCache[tuple[int, str, int], dict[int, tuple[int, int]]] = BoundedCache(size)

    def has(
        self, reader: tuple[int, str], room_nid: int, state_key_nid: int, event_nid: int, since: int | None
    ) -> bool:
        """Whether a client that is at `since` has this member's event."""
        sent = self._sent.get((*reader, room_nid))
        entry = sent.get(state_key_nid) if sent is not None else None
        return since is not None and entry is not None and entry[0] == event_nid and entry[1] <= since

    def add(self, reader: tuple[int, str], room_nid: int, members: dict[int, int], until: int) -> None:
        """Notes member events (state_key_nid -> event_nid) that a response whose token is `until` carries."""
        sent = self._sent.get((*reader, room_nid))
        if sent is None or len(sent) > _MOST_PER_ROOM:
            sent = {}
            self._sent.set((*reader, room_nid), sent)
        for key, event_nid in members.items():
            known = sent.get(key)
            if known is None or known[0] != event_nid:
                sent[key] = (event_nid, until)
