"""What is asked of the room directory, as both the client API and federation ask it.

# spec: client-server-api/#post_matrixclientv3publicrooms  server-server-api/#post_matrixfederationv1publicrooms
"""

from __future__ import annotations

from homeserver.http.bodies import array, boolean, checked_text, integer, json_object, string
from homeserver.http.requests import Query
from homeserver.protocol.errors import BadJson, InvalidParam
from homeserver.protocol.events import JsonObject
from homeserver.rooms.directory import DirectorySearch
from homeserver.storage.room_directory import DirectoryFilter

_LONGEST_TERM = 1_000


def search_in_body(body: JsonObject) -> DirectorySearch:
    """:raises BadJson, InvalidParam: if a key is not as the specification says"""
    wanted = json_object(body, "filter") or {}
    filter = DirectoryFilter(
        term=string(wanted, "generic_search_term", max_length=_LONGEST_TERM),
        room_types=_room_types(wanted),
        instance_id=string(body, "third_party_instance_id", max_length=_LONGEST_TERM),
        all_networks=boolean(body, "include_all_networks", default=False),
    )
    return _search(filter, integer(body, "limit", minimum=0), string(body, "since"))


def search_in_query(query: Query) -> DirectorySearch:
    """:raises InvalidParam: if a parameter is not as the specification says"""
    filter = DirectoryFilter(
        instance_id=query.string("third_party_instance_id", max_length=_LONGEST_TERM),
        all_networks=query.boolean("include_all_networks"),
    )
    return _search(filter, query.integer("limit", minimum=0), query.string("since"))


def _search(filter: DirectoryFilter, limit: int | None, since: str | None) -> DirectorySearch:
    if filter.all_networks and filter.instance_id is not None:
        raise InvalidParam("third_party_instance_id can't be used together with include_all_networks")
    return DirectorySearch(filter, limit, since or None)


def _room_types(wanted: JsonObject) -> list[str | None] | None:
    types = array(wanted, "room_types", max_items=100)
    if types is None:
        return None
    if not all(one is None or isinstance(one, str) for one in types):
        raise BadJson("room_types must be an array of strings and null")
    return [None if one is None else checked_text("room_types", one) for one in types]
