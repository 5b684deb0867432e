"""One request from beginning to end: route, authenticate, limit, handle, answer, count."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
import time
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import asyncpg
from aiohttp import web

from homeserver import logs, metrics
from homeserver.appservice_registrations import Appservices
from homeserver.http.authentication import Authenticator
from homeserver.http.requests import ApiRequest, Requester
from homeserver.http.responses import (
    CORS_HEADERS,
    Response,
    compress,
    error_response,
    json_response,
    options_response,
)
from homeserver.http.restrictions import shadow_answer
from homeserver.http.routes import Auth, Route, Router
from homeserver.protocol.errors import MatrixError, Unauthorized
from homeserver.rate_limits import RateLimits, address_key

if TYPE_CHECKING:
    from homeserver.config.base import IpNetwork
    from homeserver.services import Services

log = logging.getLogger(__name__)

_MAX_LINE = 64 * 1024  # bytes of a request line: inline filters are long
_MAX_HEADER = 16 * 1024
_KEEPALIVE = 120.0  # seconds that a connection without requests is kept


class HttpServer:
    """Answers requests. One for all listeners; each of them mounts the routes that it serves."""

    def __init__(
        self,
        services: Services,
        authenticator: Authenticator,
        rate_limits: RateLimits,
        appservices: Appservices,
        *,
        max_body: int,
    ) -> None:
        self.services = services
        self.authenticator = authenticator
        self.rate_limits = rate_limits
        self.appservices = appservices
        self.max_body = max_body
        self._stopping = False
        self._long_polls: dict[asyncio.Task[Any], Requester | None] = {}
        self._logged_out: dict[asyncio.Task[Any], Unauthorized] = {}
        self._checks: set[asyncio.Task[None]] = set()

    def listener(self, routes: Iterable[Route], trusted_proxies: Collection[IpNetwork] = ()) -> web.Server:
        """A server for `routes`, to be bound to an address or a socket."""
        router = Router(routes)

        async def handle(raw: web.BaseRequest) -> Response:
            return await self._answer(raw, router, trusted_proxies)

        def make_request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
            return _RawRequest(message, payload, protocol, writer, task, asyncio.get_running_loop())

        return _Server(
            handle,
            request_factory=make_request,
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_HEADER,
            keepalive_timeout=_KEEPALIVE,
            access_log=None,
            # A compressed body could grow without bound, and no client sends one.
            auto_decompress=False,
        )

    def sessions_changed(self, user_nid: int) -> None:
        """Sessions of that user have ended, or their rights have changed: their long polls end too, if so."""
        self.authenticator.forget(user_nid)
        if any(requester is not None and requester.user_nid == user_nid for requester in self._long_polls.values()):
            check = asyncio.create_task(self._end_long_polls(user_nid))
            self._checks.add(check)
            check.add_done_callback(self._checks.discard)

    async def _end_long_polls(self, user_nid: int) -> None:
        for task, requester in list(self._long_polls.items()):
            if requester is None or requester.user_nid != user_nid or requester.token_hash is None:
                continue
            try:
                refusal = await self.authenticator.refusal(requester.token_hash)
            except _DATABASE_GONE as error:
                log.warning("Whether a long poll must end can't be found out: %s", error)
                return
            if refusal is not None and task in self._long_polls:
                self._logged_out[task] = refusal
                task.cancel()

    def stop_waiting(self) -> None:
        """Ends all long polls, now and from now on: the server is about to stop."""
        self._stopping = True
        for task in self._long_polls:
            task.cancel()

    async def _answer(self, raw: web.BaseRequest, router: Router, trusted_proxies: Collection[IpNetwork]) -> Response:
        started = time.perf_counter()
        request_id = secrets.token_hex(6)
        logs.request_id.set(request_id)
        route: Route | None = None
        request: ApiRequest | None = None
        try:
            if raw.method == "OPTIONS":
                # spec: client-server-api/#web-browser-clients
                response: Response = options_response()
            else:
                route, params = _find(router, raw)
                address = client_address(raw, trusted_proxies)
                request = ApiRequest(raw, route, params, self, address, request_id)
                response = await self._call(request)
        except MatrixError as error:
            response = self._failed(request, error)
        except _DATABASE_GONE as error:
            log.warning("The database did not answer %s %s: %s", raw.method, raw.path, error)
            response = self._failed(
                request, MatrixError("The server's database does not answer at the moment; try again", status=503)
            )
        except Exception:
            log.exception("Unhandled error at %s %s", raw.method, route.path if route else "an unknown path")
            response = self._failed(request, MatrixError("Internal error", status=500))
        if not response.prepared:
            if route is None or route.error_page is None:
                response.headers.update(CORS_HEADERS)
            response.headers["X-Request-Id"] = request_id
            await compress(response, raw.headers.get("Accept-Encoding", ""))
        seconds = time.perf_counter() - started
        if route is not None:  # what people make up as paths must not become labels
            metrics.HTTP_REQUESTS.labels(route.method, route.path, response.status).inc()
            metrics.HTTP_SECONDS.labels(route.method, route.path).observe(seconds)
        log.debug("%s %s %d in %.1f ms", raw.method, route.path if route else "", response.status, seconds * 1000)
        return response

    def _failed(self, request: ApiRequest | None, error: MatrixError) -> Response:
        if request is None or request.route.error_page is None:
            return error_response(error)
        return request.route.error_page(self.services, request, error)

    async def _call(self, request: ApiRequest) -> Response:
        route = request.route
        requester = await self.authenticator.authenticate(request, route.auth)
        if requester is not None:
            request.set_requester(requester)
        # Many servers may stand behind one address, so they are counted by name, once it is proved.
        if route.auth is not Auth.SERVER and (requester is None or requester.rate_limited):
            key = requester.user_id if requester is not None else address_key(request.client_address)
            self.rate_limits.use("request", key)
            if route.limit is not None:
                own = requester.message_limit if requester is not None and route.limit == "message" else None
                self.rate_limits.use(route.limit, key, instead=own)
        if requester is not None and requester.shadow_banned and (answer := await shadow_answer(request)) is not None:
            return json_response(answer)
        result = await (self._long_poll(request) if route.long_poll else route.handler(self.services, request))
        return json_response(result) if isinstance(result, dict) else result

    async def _long_poll(self, request: ApiRequest) -> Any:
        task = asyncio.current_task()
        assert task is not None
        if self._stopping:
            raise _stopping()
        self._long_polls[task] = request.optional_requester
        if isinstance(request.raw, _RawRequest):
            request.raw.on_disconnect = task.cancel
        try:
            return await request.route.handler(self.services, request)
        except asyncio.CancelledError:
            reason = self._why_ended(task)
            if request.raw.transport is None or reason is None:
                raise
            task.uncancel()
            raise reason from None
        finally:
            self._long_polls.pop(task, None)
            self._logged_out.pop(task, None)
            if isinstance(request.raw, _RawRequest):
                request.raw.on_disconnect = None

    def _why_ended(self, task: asyncio.Task[Any]) -> MatrixError | None:
        return self._logged_out.get(task, _stopping() if self._stopping else None)


class _RawRequest(web.BaseRequest):
    """Tells who waits on its behalf that the client has gone."""

    on_disconnect: Callable[[], object] | None = None

    def _cancel(self, exc: BaseException) -> None:
        # aiohttp calls this when the connection is lost while the request is handled.
        super()._cancel(exc)
        if self.on_disconnect is not None:
            self.on_disconnect()


class _Connection(web.RequestHandler):
    """Answers in JSON what is not even HTTP, and does not fill the log with it."""

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> Response:
        if request.writer.output_size > 0:
            raise ConnectionError("The connection broke in the middle of an answer")
        if status >= 500:
            log.error("The answer could not be sent", exc_info=exc)
        response = error_response(MatrixError("This is not HTTP as this server speaks it", status=status))
        response.headers.update(CORS_HEADERS)
        response.force_close()
        return response


# What asyncpg raises when the database is stopped, restarted or unreachable.
_DATABASE_GONE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the connection ended just between two statements
)


class _Server(web.Server):
    def __call__(self) -> _Connection:
        return _Connection(self, loop=self._loop, **self._kwargs)


def _stopping() -> MatrixError:
    return MatrixError("The server is stopping", status=503)


def _find(router: Router, raw: web.BaseRequest) -> tuple[Route, dict[str, str]]:
    path = raw.raw_path.partition("?")[0].partition("#")[0]
    if not path.startswith("/"):  # absolute-form, as proxies may send it
        path = "/" + path.partition("://")[2].partition("/")[2]
    route, params, allowed = router.find(raw.method, path)
    if route is None:
        # spec: client-server-api/#common-error-codes
        if allowed:
            raise MatrixError("This path has no such method", errcode="M_UNRECOGNIZED", status=405)
        raise MatrixError("There is nothing at this path", errcode="M_UNRECOGNIZED", status=404)
    return route, params


def client_address(raw: web.BaseRequest, trusted_proxies: Collection[IpNetwork]) -> str:
    """The address that a request comes from, "" if that can't be known.

    X-Forwarded-For is read from the right, past the proxies that are trusted: what stands left of the first address
    that is not, anyone can have written. Whoever may open our unix socket is trusted.
    """
    peer = raw.transport.get_extra_info("peername") if raw.transport is not None else None
    address = _plain_address(peer[0]) if isinstance(peer, tuple) else ""
    if address and not _trusted(address, trusted_proxies):
        return address
    for value in reversed(raw.headers.getall("X-Forwarded-For", [])):
        for hop in reversed(value.split(",")):
            forwarded = _plain_address(hop.strip())
            if not forwarded:
                return address
            address = forwarded
            if not _trusted(address, trusted_proxies):
                return address
    return address


@lru_cache(maxsize=4096)  # connections are kept, so that a few addresses make nearly all requests
def _plain_address(text: str) -> str:
    """`text` as an address in its shortest form, IPv4 where it is that in IPv6 clothing; "" if it is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _trusted(address: str, trusted_proxies: Collection[IpNetwork]) -> bool:
    return bool(trusted_proxies) and any(ipaddress.ip_address(address) in network for network in trusted_proxies)
