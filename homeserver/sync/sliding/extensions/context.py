"""What extensions are given."""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.sync.sliding.connections import Position, Told
from homeserver.sync.sliding.request import ExtensionConfig
from homeserver.sync.sliding.room_list import RoomList
from homeserver.sync.sliding.room_response import ToldRoom
from homeserver.sync.view import View


@dataclass(frozen=True, slots=True)
class Context:
    """One response under way: for a client that has `base`, with these `rooms`. `changes` is what it tells of rooms."""

    view: View
    base: Position | None
    found: RoomList
    rooms: dict[int, ToldRoom]
    changes: dict[int, Told]

    def told(self, room_nid: int) -> Told | None:
        """What the client has of the room after this response."""
        return self.changes.get(room_nid) or (None if self.base is None else self.base.rooms.get(room_nid))

    @property
    def known(self) -> set[int]:
        """The rooms that the client has from inside, after this response, and may still be told of."""
        nids = self.changes.keys() | (self.base.rooms.keys() if self.base is not None else set())
        return {nid for nid in nids if nid in self.found.rooms and (told := self.told(nid)) and not told.stripped}

    def covered(self, config: ExtensionConfig) -> set[int]:
        """Those of the known rooms that the extension covers.

        One that is not limited covers rooms outside of all windows too: what it tells of them is little, and a client
        whose window comes back to them would have to be told later.
        """
        known = self.known
        if config.unlimited:
            return known
        return {nid for nid in known if self._is_covered(nid, config)}

    def _is_covered(self, room_nid: int, config: ExtensionConfig) -> bool:
        match = self.found.matches.get(room_nid)
        lists = match.lists if match is not None else []
        if config.lists is None or "*" in config.lists:
            if lists:
                return True
        elif not config.lists.isdisjoint(lists):
            return True
        if config.rooms is None or "*" in config.rooms:
            return match is not None and match.subscribed
        return self.found.rooms[room_nid].room_id in config.rooms
