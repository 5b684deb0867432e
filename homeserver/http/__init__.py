"""Everything between a socket and a handler, shared by the client API, federation and the admin API.

    routes.py          Route and Auth; the table of routes and how a path finds its route in it
    requests.py        ApiRequest: what a handler is given
    bodies.py          JSON bodies and typed access to their keys, which refuses what is not as the specification says
    authentication.py  access token -> Requester, for users, guests and application services
    restrictions.py    what accounts that are locked, suspended or shadow-banned may not do
    own_address.py     where browsers and clients reach this server
    known_tokens.py    tokens that were looked up a moment ago
    account_export.py  everything that is kept about a user, as a ZIP
    streams.py         answers that are sent while they are read: files, and parts of them
    thumbnail_query.py which smaller form of an image is asked for
    responses.py       JSON and error responses, CORS headers, compression
    server.py          one request from beginning to end: route, authenticate, limit, handle, answer, count

A handler is `async def handler(services, request) -> JsonObject | Response`. It raises a MatrixError for what it can't
answer; anything else that it raises is a bug, is logged with the id of the request and answered with a bare 500.

It stands on aiohttp's low-level server: the routes are found here, because path parameters must be split before they
are percent-decoded (room ids and aliases carry `/`, `#` and `!`), and exactly once.
"""

from homeserver.http.requests import ApiRequest, Query, Requester
from homeserver.http.responses import Response, json_response
from homeserver.http.routes import Auth, Handler, Route, Router, client_routes
from homeserver.http.server import HttpServer

__all__ = [
    "ApiRequest",
    "Auth",
    "Handler",
    "HttpServer",
    "Query",
    "Requester",
    "Response",
    "Route",
    "Router",
    "client_routes",
    "json_response",
]
