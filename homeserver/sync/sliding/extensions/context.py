"""What extensions are given."""

from __future__ import annotations

from dataclasses import dataclass, field

from homeserver.sync.sliding.connections import Position, Told
from homeserver.sync.sliding.request import ExtensionConfig
from homeserver.sync.sliding.room_list import RoomList
from homeserver.sync.sliding.room_response import ToldRoom
from homeserver.sync.view import View


@dataclass(slots=True)
class Context:
    """One response under way: for a client that has `base`, with these `rooms`. `changes` is what it tells of rooms.

    `known` has the rooms that the client has from inside, after this response, and may still be told of.
    """

    view: View
    base: Position | None
    found: RoomList
    rooms: dict[int, ToldRoom]
    changes: dict[int, Told]
    known: set[int] = field(init=False)

    def __post_init__(self) -> None:
        before = self.base.rooms if self.base is not None else {}
        known = {nid for nid, told in before.items() if not told.stripped}
        for nid, told in self.changes.items():
            if told.stripped:
                known.discard(nid)
            else:
                known.add(nid)
        self.known = known & self.found.rooms.keys()

    def told(self, room_nid: int) -> Told | None:
        """What the client has of the room after this response."""
        return self.changes.get(room_nid) or (None if self.base is None else self.base.rooms.get(room_nid))

    def covered(self, config: ExtensionConfig) -> set[int]:
        """Those of the known rooms that the extension covers.

        One that is not limited covers rooms outside of all windows too: what it tells of them is little, and a client
        whose window comes back to them would have to be told later.
        """
        if config.unlimited:
            return self.known
        found, covered = self.found, set[int]()
        for name, room_nids in found.windows.items():
            if config.lists is None or "*" in config.lists or name in config.lists:
                covered |= room_nids
        if config.rooms is None or "*" in config.rooms:
            covered |= found.subscribed
        else:
            covered |= {nid for nid in self.known if found.rooms[nid].room_id in config.rooms}
        return covered & self.known
