"""Searching in rooms.  # spec: client-server-api/#server-side-search"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from homeserver.client_api.sync import reader_of
from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.http.bodies import array_of_objects, array_of_strings, boolean, integer, json_object, string
from homeserver.protocol.errors import InvalidParam
from homeserver.protocol.events import JsonObject
from homeserver.protocol.filters import EventFilter, parse_room_event_filter
from homeserver.storage.event_search import Key
from homeserver.sync.search import Context, SearchRequest, search_events

if TYPE_CHECKING:
    from homeserver.services import Services

_KEYS = {"content.body": Key.BODY, "content.name": Key.NAME, "content.topic": Key.TOPIC}
_MAX_RESULTS = 100
_MAX_CONTEXT = 20
_DEFAULT_CONTEXT = 5


async def post_search(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3search"""
    body = await request.json()
    categories = json_object(body, "search_categories", required=True)
    criteria = json_object(categories, "room_events")
    if criteria is None:
        return {"search_categories": {}}
    wanted = _request(criteria, request.query.string("next_batch", max_length=2048))
    async with services.pool.acquire() as conn:
        found = await search_events(conn, services.timeline.names, reader_of(request.requester), wanted)
    return {"search_categories": {"room_events": found}}


def _request(criteria: JsonObject, token: str | None) -> SearchRequest:
    order = string(criteria, "order_by") or "rank"
    if order not in ("rank", "recent"):
        raise InvalidParam("order_by must be rank or recent")
    filter = parse_room_event_filter(json_object(criteria, "filter") or {})
    return SearchRequest(
        term=string(criteria, "search_term", required=True, max_length=1024),
        keys=_keys(criteria),
        filter=_limited(filter),
        by_rank=order == "rank",
        context=_context(criteria),
        include_state=boolean(criteria, "include_state", default=False) or False,
        group_by=_group_by(criteria),
        token=token or None,
    )


def _limited(filter: EventFilter) -> EventFilter:
    return replace(filter, limit=min(filter.limit, _MAX_RESULTS))


def _keys(criteria: JsonObject) -> list[Key]:
    names = array_of_strings(criteria, "keys", max_items=len(_KEYS))
    if names is None:
        return list(_KEYS.values())
    if not _KEYS.keys() >= set(names):
        raise InvalidParam(f"keys may be {', '.join(_KEYS)}")
    return [_KEYS[name] for name in names]


def _context(criteria: JsonObject) -> Context | None:
    wanted = json_object(criteria, "event_context")
    if wanted is None:
        return None
    return Context(
        before=_context_limit(wanted, "before_limit"),
        after=_context_limit(wanted, "after_limit"),
        profiles=boolean(wanted, "include_profile", default=False) or False,
    )


def _context_limit(wanted: JsonObject, name: str) -> int:
    limit = integer(wanted, name, minimum=0)
    return min(_DEFAULT_CONTEXT if limit is None else limit, _MAX_CONTEXT)


def _group_by(criteria: JsonObject) -> list[str]:
    groupings = json_object(criteria, "groupings") or {}
    kinds: list[str] = []
    for group in array_of_objects(groupings, "group_by", max_items=10):
        kind = string(group, "key", required=True)
        if kind not in ("room_id", "sender"):
            raise InvalidParam("The key of a grouping must be room_id or sender")
        kinds.append(kind)
    return list(dict.fromkeys(kinds))


ROUTES: list[Route] = client_routes("POST", "/search", post_search, Auth.USER)
