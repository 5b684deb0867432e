"""What requests that send events have in common, those that send them later too."""

from __future__ import annotations

from homeserver.http import ApiRequest, Requester
from homeserver.protocol.errors import BadRequest, InvalidParam, TooLarge
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of, is_room_alias
from homeserver.services import Services
from homeserver.storage.names import Room
from homeserver.storage.room_aliases import room_of_alias
from homeserver.storage.transactions import ClientTransaction


async def check_canonical_alias(services: Services, room: Room, content: JsonObject) -> None:
    """New aliases must point to this room.

    :raises InvalidParam: for one that is no alias
    :raises BadRequest: M_BAD_ALIAS for one that points elsewhere
    # spec: client-server-api/#mroomcanonical_alias
    """
    timeline = services.timeline
    async with services.pool.acquire() as conn:
        head = await timeline.head(conn, room)
        current = await head.state_event(conn, timeline.names, "m.room.canonical_alias")
    old = _aliases(current.content) if current is not None else set()
    for alias in _aliases(content) - old:
        if not isinstance(alias, str) or not is_room_alias(alias):
            raise InvalidParam(f"{alias!r} is not a room alias")
        if domain_of(alias) == services.server_name:
            async with services.pool.acquire() as conn:
                target = await room_of_alias(conn, alias)
        else:
            target, _ = await services.remote.query_directory(domain_of(alias), alias)
        if target != room.room_id:
            raise BadRequest(f"{alias} does not point to this room", errcode="M_BAD_ALIAS")


def _aliases(content: JsonObject) -> set[object]:
    alias, others = content.get("alias"), content.get("alt_aliases")
    if not isinstance(others, list):
        others = []
    return {value for value in [alias, *others] if value is not None and not isinstance(value, (dict, list))}


def event_type(request: ApiRequest) -> str:
    """The type in the path. Raises TooLarge."""
    type = request.params["eventType"]
    if len(type.encode()) > 255:
        raise TooLarge("The event type has more than 255 bytes")
    return type


def device_of(requester: Requester) -> str:
    """What the requester's transaction ids belong to."""
    # An application service that names no device has one set of transaction ids for each of its users.
    return requester.device_id or f"appservice:{requester.appservice_id}"


def transaction_of(request: ApiRequest) -> ClientTransaction:
    """The transaction of the path's `txnId`.  # spec: client-server-api/#transaction-identifiers"""
    params = request.params
    if "eventId" in params:
        endpoint = f"redact {params['eventId']}"
    else:
        endpoint = f"{'delay' if '/delayed_event/' in request.route.path else 'send'} {params['eventType']}"
    return ClientTransaction(request.requester.user_nid, device_of(request.requester), params["txnId"], endpoint)


def timestamp(request: ApiRequest) -> int | None:
    """The origin_server_ts that an application service wants.  # spec: application-service-api/#timestamp-massaging"""
    if request.requester.appservice_id is None:
        return None
    return request.query.integer("ts", minimum=0)
