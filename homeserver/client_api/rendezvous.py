"""Where a device that is signed in and one that will be meet, over HTTP in two forms: JSON with sequence tokens
(MSC4388), and plain text with ETags, which is what MSC4108 had first and clients of today speak.

# spec: msc/4388#insecure-rendezvous-session
# spec: msc/4108
"""

from __future__ import annotations

from email.utils import formatdate

from aiohttp import web

from homeserver.accounts import rendezvous
from homeserver.accounts.rendezvous import MAX_BYTES, ConcurrentWrite, expires_in_ms, token_of
from homeserver.client_api.auth_metadata import oauth2_address
from homeserver.http import ApiRequest, Auth, Response, Route, client_routes
from homeserver.http.bodies import string
from homeserver.protocol.errors import BadRequest, Forbidden, InvalidParam, MatrixError, TooLarge
from homeserver.protocol.events import JsonObject
from homeserver.services import Services
from homeserver.storage.rendezvous import RendezvousSession

_JSON = "application/json"
_TEXT = "text/plain"
_OLD = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous"
_UNSTABLE = "io.element.msc4388"
_MAX_BODY = 8 * MAX_BYTES  # JSON may escape every character


def is_available(services: Services) -> bool:
    """Whether devices can meet here: only where one of them can be signed in that way."""
    return services.config.oauth2.enabled and services.config.sessions.rendezvous != "off"


async def get_discovery(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: msc/4388#get-_matrixclientv1rendezvous---discover-if-the-rendezvous-api-is-available"""
    _check_available(services)
    return {"create_available": _may_create(services, request)}


async def post_json(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: msc/4388#post-_matrixclientv1rendezvous---create-a-rendezvous-session-and-send-initial-payload"""
    _check_available(services)
    _check_may_create(services, request)
    data = await _data(request)
    async with services.pool.acquire() as conn, conn.transaction():
        session = await rendezvous.create(conn, data, _JSON)
    return {
        "id": session.rendezvous_id,
        "sequence_token": token_of(session),
        "expires_in_ms": expires_in_ms(session),
    }


async def get_json(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: msc/4388#get-_matrixclientv1rendezvousrendezvousid---receive-a-payload-from-a-rendezvous-session"""
    session = await _read(services, request, _JSON)
    return {
        "data": session.data.decode(),
        "sequence_token": token_of(session),
        "expires_in_ms": expires_in_ms(session),
    }


async def put_json(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: msc/4388#put-_matrixclientv1rendezvousrendezvousid---send-a-payload-to-an-existing-rendezvous"""
    _check_available(services)
    data = await _data(request)
    seen = string(await request.json(), "sequence_token", required=True, max_length=255)
    try:
        async with services.pool.acquire() as conn, conn.transaction():
            session = await rendezvous.write(conn, request.params["rendezvousId"], _JSON, data, seen=seen, again=True)
    except ConcurrentWrite:
        unstable = _UNSTABLE in request.route.path
        errcode = "IO_ELEMENT_MSC4388_CONCURRENT_WRITE" if unstable else "M_CONCURRENT_WRITE"
        raise MatrixError("The session has changed meanwhile", errcode=errcode, status=409) from None
    return {"sequence_token": token_of(session)}


async def delete_json(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: msc/4388#delete-_matrixclientv1rendezvousrendezvousid---cancel-a-rendezvous-session"""
    await _delete(services, request, _JSON)
    return {}


async def post_text(services: Services, request: ApiRequest) -> Response:
    """A new session of the older form. The answer says where it is."""
    _check_available(services)
    _check_may_create(services, request)
    data = await _text(request)
    address = oauth2_address(services, request)
    async with services.pool.acquire() as conn, conn.transaction():
        session = await rendezvous.create(conn, data, _TEXT)
    location = f"{address}{_OLD}/{session.rendezvous_id}"
    response = web.json_response({"url": location}, status=201)
    response.headers["Location"] = location
    return _described(response, session)


async def get_text(services: Services, request: ApiRequest) -> Response:
    """What is there, unless the device has it already (If-None-Match)."""
    session = await _read(services, request, _TEXT)
    if token_of(session) in _etags(request, "If-None-Match"):
        return _described(web.Response(status=304), session)
    return _described(web.Response(body=session.data, content_type=_TEXT), session)


async def put_text(services: Services, request: ApiRequest) -> Response:
    """Another text instead of the one that the device has seen (If-Match)."""
    _check_available(services)
    data = await _text(request)
    seen = _etags(request, "If-Match")
    if len(seen) != 1:
        raise BadRequest("If-Match must have exactly one ETag", errcode="M_MISSING_PARAM")
    try:
        async with services.pool.acquire() as conn, conn.transaction():
            session = await rendezvous.write(
                conn, request.params["rendezvousId"], _TEXT, data, seen=seen[0], again=False
            )
    except ConcurrentWrite as conflict:
        error = MatrixError("The session has changed meanwhile", errcode="M_CONCURRENT_WRITE", status=412)
        return _described(web.json_response(error.body(), status=412), conflict.session)
    return _described(web.Response(status=202), session)


async def delete_text(services: Services, request: ApiRequest) -> Response:
    """The end of a session of the older form."""
    await _delete(services, request, _TEXT)
    return web.Response(status=204)


def _check_available(services: Services) -> None:
    if not is_available(services):
        raise MatrixError("Devices can't meet here", errcode="M_UNRECOGNIZED", status=404)


def _may_create(services: Services, request: ApiRequest) -> bool:
    return services.config.sessions.rendezvous == "anyone" or request.optional_requester is not None


def _check_may_create(services: Services, request: ApiRequest) -> None:
    if not _may_create(services, request):
        raise Forbidden("Only a device that is signed in can begin this")


async def _read(services: Services, request: ApiRequest, content_type: str) -> RendezvousSession:
    _check_available(services)
    # spec: msc/4388#insecure-rendezvous-session (Unsafe content)
    headers = request.headers
    if headers.get("Sec-Fetch-Mode") == "navigate" or headers.get("Sec-Fetch-Dest", "empty") != "empty":
        raise Forbidden("This is not to be looked at in a browser")
    async with services.pool.acquire() as conn:
        return await rendezvous.read(conn, request.params["rendezvousId"], content_type)


async def _delete(services: Services, request: ApiRequest, content_type: str) -> None:
    _check_available(services)
    async with services.pool.acquire() as conn:
        await rendezvous.delete(conn, request.params["rendezvousId"], content_type)


async def _data(request: ApiRequest) -> bytes:
    await request.body(_MAX_BODY)
    text = (await request.json()).get("data")
    if not isinstance(text, str):
        raise InvalidParam("data must be a text")
    if len(text) > MAX_BYTES:
        raise TooLarge(f"data is longer than {MAX_BYTES} bytes")
    return text.encode()


async def _text(request: ApiRequest) -> bytes:
    if request.raw.content_type != _TEXT:
        raise InvalidParam(f"The body must be {_TEXT}")
    return await request.body(MAX_BYTES)


def _etags(request: ApiRequest, header: str) -> list[str]:
    """The ETags of a header; proxies that compress make weak ones of them."""
    values = ",".join(request.raw.headers.getall(header, []))[:1000].split(",")
    return [value.strip().removeprefix("W/").strip('"') for value in values if value.strip()]


def _described(response: web.Response, session: RendezvousSession) -> web.Response:
    response.headers.update(
        {
            "ETag": f'"{token_of(session)}"',
            "Expires": formatdate(session.expires_ts / 1000, usegmt=True),
            "Last-Modified": formatdate(session.changed_ts / 1000, usegmt=True),
            "Cache-Control": "no-store, no-transform",
            "Pragma": "no-cache",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "sandbox; default-src 'none'",
            "Access-Control-Expose-Headers": "ETag, Location, Expires, Last-Modified",
        }
    )
    return response


def _routes() -> list[Route]:
    routes = []
    for method, path, handler in (
        ("GET", "/rendezvous", get_discovery),
        ("POST", "/rendezvous", post_json),
        ("GET", "/rendezvous/{rendezvousId}", get_json),
        ("PUT", "/rendezvous/{rendezvousId}", put_json),
        ("DELETE", "/rendezvous/{rendezvousId}", delete_json),
    ):
        auth = Auth.OPTIONAL if path == "/rendezvous" else Auth.NONE
        routes += client_routes(
            method, path, handler, auth, versions=("v1",), unstable=(_UNSTABLE,), limit="rendezvous"
        )
    return routes


ROUTES = [
    *_routes(),
    Route("POST", _OLD, post_text, Auth.OPTIONAL, "rendezvous"),
    Route("GET", f"{_OLD}/{{rendezvousId}}", get_text, Auth.NONE, "rendezvous"),
    Route("PUT", f"{_OLD}/{{rendezvousId}}", put_text, Auth.NONE, "rendezvous"),
    Route("DELETE", f"{_OLD}/{{rendezvousId}}", delete_text, Auth.NONE, "rendezvous"),
]
