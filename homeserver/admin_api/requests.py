"""What the handlers of the admin API have in common: who acts, whom or what the path names, which page is wanted."""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.http import ApiRequest, Auth, Handler, Route
from homeserver.protocol.errors import BadRequest, InvalidParam, NotFound
from homeserver.protocol.identifiers import domain_of, is_room_alias, is_room_id, is_user_id
from homeserver.services import Services
from homeserver.storage.accounts import Account, find_account
from homeserver.storage.audit_log import Actor
from homeserver.storage.names import Room
from homeserver.storage.room_aliases import room_of_alias

_MOST = 1_000  # items of one page
_MOST_SKIPPED = 10_000_000


@dataclass(frozen=True, slots=True)
class PageWanted:
    """Which part of a list."""

    offset: int
    limit: int
    backwards: bool


def admin_route(method: str, path: str, handler: Handler) -> Route:
    """A route for administrators, `path` with its version: `/v2/users`."""
    return Route(method, f"/_synapse/admin{path}", handler, Auth.ADMIN)


def actor_of(request: ApiRequest) -> Actor:
    """Who asks, for the audit log."""
    return Actor(request.requester.user_id, request.client_address)


def page_wanted(request: ApiRequest, *, limit: int = 100, direction: str = "f") -> PageWanted:
    """`from`, `limit` and `dir` of the query.

    :raises InvalidParam: if one of them is not as it must be
    """
    query = request.query
    return PageWanted(
        offset=query.integer("from", default=0, minimum=0, maximum=_MOST_SKIPPED),
        limit=min(query.integer("limit", default=limit, minimum=0), _MOST),
        backwards=query.choice("dir", ("f", "b"), default=direction) == "b",
    )


def next_token(page: PageWanted, shown: int, total: int) -> dict[str, str]:
    """Where the next page begins, if there is one, as the lists say it."""
    end = page.offset + shown
    return {"next_token": str(end)} if shown and end < total else {}


def user_id_of_path(request: ApiRequest, name: str = "userId") -> str:
    """:raises InvalidParam: if it is no user id"""
    user_id = request.params[name]
    if not is_user_id(user_id):
        raise InvalidParam("This is not a user id")
    return user_id


def local_user_id(services: Services, request: ApiRequest) -> str:
    """The user of the path, who must be of this server.

    :raises BadRequest: if not
    """
    user_id = user_id_of_path(request)
    if domain_of(user_id) != services.server_name:
        raise BadRequest("Only users of this server can be looked up here")
    return user_id


async def local_account(services: Services, request: ApiRequest) -> Account:
    """The account of the path.

    :raises BadRequest: if it is a user of another server
    :raises NotFound: if there is none
    """
    user_id = local_user_id(services, request)
    async with services.pool.acquire() as conn:
        account = await find_account(conn, user_id)
    if account is None:
        raise NotFound("User not found")
    return account


async def room_of_path(services: Services, request: ApiRequest, name: str = "roomId") -> Room:
    """The room of the path, by its id or an alias of this server.

    :raises InvalidParam: if it is neither
    :raises NotFound: if this server doesn't know it
    """
    value = request.params[name]
    if is_room_alias(value):
        async with services.pool.acquire() as conn:
            found = await room_of_alias(conn, value)
        if found is None:
            raise NotFound("Room not found")
        value = found
    elif not is_room_id(value):
        raise InvalidParam("This is neither a room id nor a room alias")
    room = await services.timeline.names.room(value)
    if room is None:
        raise NotFound("Room not found")
    return room
