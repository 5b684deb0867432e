"""Requests to a server by its name: discovery, the routes in turn, one retry, JSON out of the answer. Not signed.

The federation client signs what it sends through here; the key ring asks for keys here without a signature, since keys
are what signatures are checked with.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from yarl import URL

from federation.discovery import Discovery, Route
from federation.expiring_cache import ExpiringCache
from homeserver.outbound import ConnectionLost, CouldNotConnect, OutboundClient, RequestFailed, Response, Stream
from homeserver.protocol.canonical_json import decode_json, encode_canonical_json
from homeserver.protocol.errors import Forbidden, NotJson, Unavailable
from homeserver.protocol.events import JsonObject
from homeserver.remote import RemoteError

DEFAULT_MAX_BYTES = 4 * 1024 * 1024
_FAILED_MS = 60_000
_ERROR_BYTES = 64 * 1024  # of an error's body


class Transport:
    """Sends to servers by name. `timeout` is in seconds and holds for each route; `may_talk_with` is the operator's
    list of domains."""

    def __init__(
        self,
        outbound: OutboundClient,
        discovery: Discovery,
        *,
        timeout: float = 30.0,
        may_talk_with: Callable[[str], bool] = lambda _: True,
        now_ms: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self._outbound = outbound
        self._discovery = discovery
        self._timeout = timeout
        self._may_talk_with = may_talk_with
        self._failed: ExpiringCache[str, int] = ExpiringCache(10_000, now_ms)
        self._now_ms = now_ms

    def recently_failed(self, destination: str) -> bool:
        """Whether that server could not be reached within the last minute: a hint to ask others first."""
        until = self._failed.peek(destination)
        return until is not None and until > self._now_ms()

    async def request_json(
        self,
        destination: str,
        method: str,
        uri: str,
        *,
        content: JsonObject | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
        repeatable: bool = True,
    ) -> Any:
        """The decoded JSON of a 2xx answer to a request of `uri` (path and query, quoted) at that server.

        `repeatable` says that asking twice does no harm: only then is a connection that died retried.

        :raises RemoteError: when the server answers with another status
        :raises Unavailable: when it gives no usable answer
        :raises Forbidden: when the operator doesn't let this server talk with that one
        """
        body = None if content is None else encode_canonical_json(content, strict=False)
        sent = {"Content-Type": "application/json"} if body is not None else {}
        sent |= headers or {}

        async def send(route: Route) -> Response:
            return await self._outbound.request(
                method,
                URL(f"https://{route.host_header}{uri}", encoded=True),
                headers={"Host": route.host_header, **sent},
                body=body,
                timeout=timeout or self._timeout,
                max_bytes=max_bytes,
                connect_to=(route.host, route.port),
                server_hostname=route.tls_name,
            )

        error: RequestFailed | None = None
        for route in await self._routes(destination):
            try:
                response = await _once_more_if_lost(send, route) if repeatable else await send(route)
            except CouldNotConnect as failure:
                error = failure
            except RequestFailed as failure:
                raise self._unreachable(destination, failure) from failure
            else:
                self._failed.forget(destination)
                return _answer(destination, response)
        assert error is not None, "discovery gives at least one route"
        raise self._unreachable(destination, error) from error

    @asynccontextmanager
    async def stream(
        self,
        destination: str,
        uri: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float,
        max_bytes: int,
    ) -> AsyncIterator[Stream]:
        """GETs `uri` with the body of a 2xx answer still to be read; what reading it raises is `outbound`'s.

        :raises RemoteError, Unavailable, Forbidden: as `request_json` does
        """
        routes = await self._routes(destination)
        for index, route in enumerate(routes):
            opened = False
            try:
                async with self._outbound.stream(
                    "GET",
                    URL(f"https://{route.host_header}{uri}", encoded=True),
                    headers={"Host": route.host_header, **(headers or {})},
                    timeout=timeout,
                    max_bytes=max_bytes,
                    connect_to=(route.host, route.port),
                    server_hostname=route.tls_name,
                ) as stream:
                    opened = True
                    if not 200 <= stream.status < 300:
                        raise await _streamed_error(destination, stream)
                    yield stream
                    return
            except RequestFailed as failure:
                if opened:
                    raise
                if not isinstance(failure, CouldNotConnect) or index == len(routes) - 1:
                    raise self._unreachable(destination, failure) from failure

    async def _routes(self, destination: str) -> list[Route]:
        if not self._may_talk_with(destination):
            raise Forbidden(f"This server does not talk with {destination}")
        return await self._discovery.resolve(destination)

    def _unreachable(self, destination: str, failure: RequestFailed) -> Unavailable:
        self._failed.put(destination, self._now_ms() + _FAILED_MS, _FAILED_MS)
        return Unavailable(f"{destination} can't be reached: {failure}")


async def _once_more_if_lost(send: Callable[[Route], Any], route: Route) -> Response:
    # A kept-alive connection may have been closed at the other end just before it was used.
    try:
        response: Response = await send(route)
    except ConnectionLost:
        response = await send(route)
    return response


async def _streamed_error(destination: str, stream: Stream) -> RemoteError:
    body = bytearray()
    with contextlib.suppress(RequestFailed):
        async for piece in stream.chunks():
            body += piece
            if len(body) > _ERROR_BYTES:
                break
    try:
        answer = decode_json(bytes(body[:_ERROR_BYTES]))
    except NotJson:
        answer = None
    return _error(destination, stream.status, answer)


def _answer(destination: str, response: Response) -> Any:
    try:
        answer = decode_json(response.body)
    except NotJson:
        answer = None
        if 200 <= response.status < 300:
            raise Unavailable(f"{destination} answered with something that is not JSON") from None
    if 200 <= response.status < 300:
        return answer
    raise _error(destination, response.status, answer)


def _error(destination: str, status: int, answer: Any) -> RemoteError:
    fields = answer if isinstance(answer, dict) else {}
    errcode, message = fields.get("errcode"), fields.get("error")
    return RemoteError(
        destination,
        status,
        errcode if isinstance(errcode, str) else None,
        message if isinstance(message, str) else "",
        fields,
    )
