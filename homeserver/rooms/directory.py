"""The directory of published rooms, a page at a time.

# spec: client-server-api/#published-room-directory
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from homeserver.protocol.errors import InvalidParam
from homeserver.protocol.events import JsonObject
from homeserver.rooms.summary import directory_entry
from homeserver.storage.room_directory import DirectoryFilter, Place, directory_page, directory_size
from homeserver.storage.stream import Connection

MOST_ROOMS = 500  # of a page
_DEFAULT_ROOMS = 100
_TOKEN = re.compile(r"([fb])(\d{1,18})\.(\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class DirectorySearch:
    """What is asked of the directory. A `limit` of None or 0 leaves the number of rooms to the server."""

    filter: DirectoryFilter
    limit: int | None = None
    since: str | None = None


async def published_rooms(conn: Connection, search: DirectorySearch) -> JsonObject:
    """One page of this server's directory, with tokens for the pages on both sides.

    :raises InvalidParam: if `since` is none of its tokens
    # spec: client-server-api/#post_matrixclientv3publicrooms
    """
    backwards, place = _parse(search.since)
    count = min(search.limit or _DEFAULT_ROOMS, MOST_ROOMS)
    # One more than asked for tells whether there is more on that side.
    rooms = await directory_page(conn, search.filter, count=count + 1, place=place, backwards=backwards)
    more = len(rooms) > count
    rooms = (rooms[1:] if backwards else rooms[:-1]) if more else rooms
    page: JsonObject = {
        "chunk": [directory_entry(room) for room in rooms],
        "total_room_count_estimate": await directory_size(conn, search.filter),
    }
    if rooms and (backwards or more):
        page["next_batch"] = f"f{rooms[-1].joined_members}.{rooms[-1].room_nid}"
    if rooms and (more if backwards else place is not None):
        page["prev_batch"] = f"b{rooms[0].joined_members}.{rooms[0].room_nid}"
    return page


def _parse(token: str | None) -> tuple[bool, Place | None]:
    if token is None:
        return False, None
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise InvalidParam("since is not a token of this directory")
    return match[1] == "b", Place(int(match[2]), int(match[3]))
