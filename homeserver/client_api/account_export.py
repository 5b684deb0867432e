"""A copy of everything that the server keeps about the user who asks: nothing of the specification, and a right."""

from __future__ import annotations

from homeserver.http import ApiRequest, Auth, Response, Route, client_routes
from homeserver.http.account_export import send_export
from homeserver.protocol.errors import NotFound
from homeserver.services import Services
from homeserver.storage.accounts import find_account


async def get_export(services: Services, request: ApiRequest) -> Response:
    """The ZIP."""
    async with services.pool.acquire() as conn:
        account = await find_account(conn, request.requester.user_id)
    if account is None:
        raise NotFound("There is no such account")
    return await send_export(services, request, account)


ROUTES: list[Route] = client_routes(
    "GET", "/account/export", get_export, Auth.USER, versions=(), unstable=("org.talkpai",), limit="login"
)
