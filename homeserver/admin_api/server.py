"""The server as a whole: its version, what it does in the background, the servers that it sends to."""

from __future__ import annotations

from homeserver.admin_api.requests import admin_route, next_token, page_wanted
from homeserver.http import ApiRequest
from homeserver.http.software import software_version
from homeserver.protocol.errors import NotFound
from homeserver.protocol.events import JsonObject
from homeserver.services import Services
from homeserver.storage.destination_lists import (
    ORDERS,
    ListedDestination,
    destination_rooms,
    find_destination,
    list_destinations,
)


async def get_version(services: Services, request: ApiRequest) -> JsonObject:
    """Which version runs."""
    return {"server_version": f"Talk pAI {software_version()}"}


async def get_background_updates(services: Services, request: ApiRequest) -> JsonObject:
    """Changes of the database that go on in the background: there are none, migrations are done before the start."""
    return {"enabled": True, "current_updates": {}}


async def get_background_enabled(services: Services, request: ApiRequest) -> JsonObject:
    """Whether they may."""
    return {"enabled": True}


async def get_destinations(services: Services, request: ApiRequest) -> JsonObject:
    """The servers that this one sends to or has failed to reach."""
    page = page_wanted(request)
    part = request.query.string("destination", max_length=255)
    order_by = request.query.choice("order_by", tuple(ORDERS), default="destination")
    async with services.pool.acquire() as conn:
        found, total = await list_destinations(
            conn, part, order_by=order_by, backwards=page.backwards, offset=page.offset, limit=page.limit
        )
    shown = [_shown(one) for one in found]
    return {"destinations": shown, "total": total, **next_token(page, len(found), total)}


async def get_destination(services: Services, request: ApiRequest) -> JsonObject:
    """One of them."""
    return _shown(await _destination(services, request))


async def get_destination_rooms(services: Services, request: ApiRequest) -> JsonObject:
    """The rooms of which it has not had everything."""
    await _destination(services, request)
    page = page_wanted(request)
    async with services.pool.acquire() as conn:
        found, total = await destination_rooms(
            conn, request.params["destination"], backwards=page.backwards, offset=page.offset, limit=page.limit
        )
    rooms = [{"room_id": room_id, "stream_ordering": position} for room_id, position in found]
    return {"rooms": rooms, "total": total, **next_token(page, len(found), total)}


async def _destination(services: Services, request: ApiRequest) -> ListedDestination:
    async with services.pool.acquire() as conn:
        found = await find_destination(conn, request.params["destination"])
    if found is None:
        raise NotFound("Unknown destination")
    return found


def _shown(one: ListedDestination) -> JsonObject:
    return {
        "destination": one.destination,
        "retry_last_ts": max(0, one.retry_at_ts - one.retry_interval_ms),
        "retry_interval": one.retry_interval_ms,
        "failure_ts": one.failing_since_ts,
        "last_successful_stream_ordering": None,
    }


_DESTINATION = "/v1/federation/destinations/{destination}"

ROUTES = [
    admin_route("GET", "/v1/server_version", get_version),
    admin_route("GET", "/v1/background_updates/status", get_background_updates),
    admin_route("GET", "/v1/background_updates/enabled", get_background_enabled),
    admin_route("GET", "/v1/federation/destinations", get_destinations),
    admin_route("GET", _DESTINATION, get_destination),
    admin_route("GET", f"{_DESTINATION}/rooms", get_destination_rooms),
]
